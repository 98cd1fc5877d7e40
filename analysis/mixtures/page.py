"""Mixtures as a page."""

from analysis.mixtures.answer import Answer
from analysis.mixtures.text import (
    BEST,
    LAWS,
    LOSSES,
    best_rows,
    effect_lines,
    first_lines,
    law_line,
    law_rows,
    loss_rows,
    size_line,
    verdict,
)
from analysis.page import Page


def mix_page(answer: Answer, *, title: str) -> Page:
    """The best mixture, what each source does, and how well the law foretells."""
    page = Page(title)
    for warning in first_lines(answer):
        page.text(warning, role="warn")
    page.text(verdict(answer), role="lead")
    page.text(size_line(answer), role="soft")
    page.heading("The best shares")
    page.table(BEST, best_rows(answer))
    page.heading("What a source does")
    page.points(effect_lines(answer))
    page.heading("How well the law foretells")
    page.text(law_line(answer))
    page.table(LAWS, law_rows(answer))
    page.table(LOSSES, loss_rows(answer))
    return page
