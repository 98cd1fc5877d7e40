"""A law of repeated data as a part of a fit's page."""

from analysis.page import Page
from analysis.repetition.answer import RepeatedFit
from analysis.repetition.figures import draw_all
from analysis.repetition.text import (
    COST_HEADER,
    FORM_HEADER,
    cost_rows,
    cost_sentence,
    facts_sentence,
    form_rows,
)


def add_repeated(page: Page, fit: RepeatedFit, *, prefix: str = "") -> None:
    """What rows that repeat their tokens say; warnings stand before the law of the page.

    Args:
        prefix: of the figures' names.
    """
    page.heading("Repeated data")
    page.text(facts_sentence(fit))
    if fit.costs:
        page.text(cost_sentence(fit))
        page.table(COST_HEADER, cost_rows(fit))
    if rows := form_rows(fit):
        page.table(FORM_HEADER, rows)
    if figures := list(draw_all(fit)):
        page.heading("Loss against epochs")
    for name, figure, data in figures:
        page.figure(figure, name=f"{prefix}{name}", height=460, data=data)
