"""Mixtures as a page."""

from analysis.mixtures.answer import Answer
from analysis.mixtures.figures import draw_all, effects_width
from analysis.mixtures.text import (
    BEST,
    LAWS,
    best_rows,
    effect_lines,
    first_lines,
    law_line,
    law_rows,
    loss_rows,
    losses_header,
    measured_lines,
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
    figures = {name: drawn for name, *drawn in draw_all(answer)}
    widths = {"mixtures": 760, "effects": effects_width(answer)}

    def show(name: str) -> None:
        if name in figures:
            figure, height, data = figures[name]
            width = widths.get(name, 0)
            page.figure(figure, name=name, height=height, least_width=width, data=data)

    page.heading("The best shares")
    show("best-mixture")
    page.table(BEST, best_rows(answer))
    page.heading("Shares and loss")
    show("mixtures")
    page.heading("What a source does")
    show("effects")
    page.points(effect_lines(answer))
    page.heading("How well the law foretells")
    page.text(law_line(answer))
    show("predictions")
    page.table(LAWS, law_rows(answer))
    page.table(losses_header(answer), loss_rows(answer))
    if answer.measured is not None:
        page.heading("How order and choice carry over to the points' own losses")
        for line in measured_lines(answer.measured):
            page.text(line)
    return page
