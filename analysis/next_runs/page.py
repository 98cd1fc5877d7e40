"""Next runs as a page."""

from analysis.forecast.text import first_lines
from analysis.next_runs.answer import NextRuns
from analysis.next_runs.figures import draw_plane, plane_data
from analysis.next_runs.text import (
    HEADER,
    candidates_line,
    explanation,
    run_rows,
    target_line,
    verdict,
)
from analysis.page import Page
from analysis.words import sentence


def next_page(answer: NextRuns, *, title: str) -> Page:
    """The runs to train next, on the plane of N and D and as a table."""
    page = Page(title)
    for warning in first_lines(answer.forecast):
        page.text(warning, role="warn")
    page.text(sentence(verdict(answer)), role="lead")
    page.text(target_line(answer))
    page.table(HEADER, run_rows(answer))
    data = plane_data(answer)
    page.figure(draw_plane(data), name="next-runs", height=560, data=data)
    page.text(explanation(answer), role="soft")
    page.text(candidates_line(answer), role="soft")
    return page
