"""The page of a forecast: the answer, its record on the table, and every figure."""

from collections.abc import Sequence
from typing import Any

from analysis.forecast import figures, text
from analysis.forecast.answer import Answer
from analysis.page import Page
from analysis.table.observations import Table


def forecast_page(groups: Sequence[tuple[Any, Table, Answer]], *, title: str) -> Page:
    """One self-contained page for all groups of a table; a group's value is None for the only."""
    page = Page(title)
    for place, (value, table, answer) in enumerate(groups):
        if value is not None:
            page.heading(str(value))
        add_forecast(page, table, answer, prefix=f"forecast{place}")
    return page


def add_forecast(page: Page, table: Table, answer: Answer, *, prefix: str) -> None:
    """A forecast's part of a page; `prefix` keeps the figures' names apart."""
    for line in text.first_lines(answer):
        page.text(line, role="warn")
    for each in answer.optimum:
        page.text(text.lead_words(each, answer.level), role="lead")
    for header, rows in (
        (text.POINTS, text.point_rows(answer)),
        (text.OPTIMA, text.optimum_rows(answer)),
        (text.REGRETS, text.regret_rows(answer)),
        (text.OTHERS, text.other_rows(answer)),
    ):
        if rows:
            page.table(header, rows)
    for words in (text.source_words(answer, table), text.scale_words(answer)):
        page.text(f"{words[0].upper()}{words[1:]}.", role="soft")
    page.heading("Data and forecast")
    add_evidence(page, table, answer, prefix=prefix)


def add_evidence(page: Page, table: Table, answer: Answer, *, prefix: str) -> None:
    """The figures of a forecast and its record on the table."""
    if answer.points or answer.optimum:
        path = figures.path_data(answer, table)
        page.figure(figures.draw_path(path, answer), name=f"{prefix}-path", height=520, data=path)
    for place, each in enumerate(answer.optimum):
        valley = figures.valley_data(answer, each)
        name = f"{prefix}-valley{place}"
        figure = figures.draw_valley(valley, each, answer.level, answer.law.loss_unit)
        page.figure(figure, name=name, data=valley)
    page.text(text.record_words(answer))
    if answer.record:
        record = figures.record_data(answer.record)
        page.figure(figures.draw_record(record, answer.level), name=f"{prefix}-record", data=record)
        page.table(text.RECORD, text.record_rows(answer))
