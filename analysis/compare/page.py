"""The page of a comparison: what it did to the law, what differed, every matched loss."""

from collections.abc import Mapping, Sequence

from analysis.compare.answer import Comparison
from analysis.compare.figures import best_size_data, draw_best_size, draw_pairs
from analysis.compare.text import (
    LAW_HEADER,
    PAIR_HEADER,
    interval_method,
    law_rows,
    pair_rows,
    verdict,
)
from analysis.page import Page

Rows = Sequence[Sequence[str]]


def compare_page(
    comparison: Comparison, *, differences: Mapping[str, Rows], facts: Rows, doubts: Sequence[str]
) -> Page:
    """One self-contained page.

    Args:
        differences: rows of path, first, second, by what differs.
        facts: rows of name, first, second about both sweeps' runs.
        doubts: reasons why the losses may not be comparable.
    """
    first, second = comparison.names
    page = Page(f"{second} against {first}")
    for warning in comparison.warnings:
        page.text(warning, role="warn")
    answer, *more = verdict(comparison)
    page.text(answer, role="lead")
    for line in more:
        page.text(line)
    for doubt in doubts:
        page.text(doubt, role="warn")
    page.heading("What differed")
    for name, rows in differences.items():
        if rows:
            page.table([name, first, second], rows)
        else:
            page.text(f"No difference in {name}.", role="soft")
    if comparison.contrasts:
        page.heading("What it did to the law")
        page.table(_headed(LAW_HEADER, first, second), law_rows(comparison))
        page.text(interval_method(comparison), role="soft")
    if any(contrast.name == "n_opt" for contrast in comparison.contrasts):
        sizes = best_size_data(comparison)
        page.figure(draw_best_size(sizes, comparison), name="best-size", data=sizes)
    if comparison.matched.pairs.height:
        page.heading("The same N and D in both")
        pairs = comparison.matched.pairs
        page.figure(draw_pairs(pairs, comparison), name="pairs", data=pairs)
        page.table(_headed(PAIR_HEADER, first, second), pair_rows(comparison))
    page.heading("Their runs")
    page.table(["", first, second], facts)
    return page


def _headed(header: Sequence[str], first: str, second: str) -> list[str]:
    names = {"first": first, "second": second, "second − first": f"{second} − {first}"}
    return [names.get(cell, cell) for cell in header]
