"""The page of a comparison: what it did to the law, what differed, every matched loss."""

from collections.abc import Mapping, Sequence

from analysis.compare.answer import Comparison
from analysis.compare.figures import best_size_data, draw_best_size, draw_pairs
from analysis.compare.text import LAW_HEADER, PAIR_HEADER, how, law_rows, pair_rows, verdict
from analysis.page import Page

Rows = Sequence[Sequence[str]]


def compare_page(
    found: Comparison, *, differences: Mapping[str, Rows], facts: Rows, doubts: Sequence[str]
) -> Page:
    """One self-contained page.

    Args:
        differences: by what they are of, rows of path, first, second.
        facts: rows of what, first, second about both sweeps' runs.
        doubts: why the losses may not be comparable.
    """
    first, second = found.names
    page = Page(f"{second} against {first}")
    answer, *more = verdict(found)
    page.text(answer, role="lead")
    for line in more:
        page.text(line)
    for doubt in (*found.refusals, *doubts):
        page.text(doubt, role="warn")
    page.heading("What differed")
    for name, rows in differences.items():
        if rows:
            page.table([name, first, second], rows)
        else:
            page.text(f"No difference in {name}.", role="soft")
    if found.contrasts:
        page.heading("What it did to the law")
        page.table(_headed(LAW_HEADER, first, second), law_rows(found))
        page.text(how(found), role="soft")
    if any(contrast.name == "n_opt" for contrast in found.contrasts):
        page.figure(draw_best_size(best_size_data(found), found), name="best-size")
    if found.matched.pairs.height:
        page.heading("The same N and D in both")
        page.figure(draw_pairs(found.matched.pairs, found), name="pairs")
        page.table(_headed(PAIR_HEADER, first, second), pair_rows(found))
    page.heading("Their runs")
    page.table(["", first, second], facts)
    return page


def _headed(header: Sequence[str], first: str, second: str) -> list[str]:
    names = {"first": first, "second": second, "second − first": f"{second} − {first}"}
    return [names.get(cell, cell) for cell in header]
