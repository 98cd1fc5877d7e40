"""The page of a comparison: what each variant is worth, its law, its losses, what differed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from analysis.compare.answer import Comparison
from analysis.compare.figures import best_size_data, draw_best_size, draw_pairs
from analysis.compare.speedup_figures import draw_speedup, speedup_data
from analysis.compare.speedup_text import (
    RANK_HEADER,
    UNDER_HEADER,
    budget_table,
    lead_lines,
    method,
    rank_rows,
    under_rows,
)
from analysis.compare.text import (
    LAW_HEADER,
    PAIR_HEADER,
    interval_method,
    law_rows,
    pair_rows,
    verdict,
)
from analysis.compare.variants import Variants
from analysis.page import Page

Rows = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Context:
    """What else is known of a baseline and a variant.

    Attributes:
        differences: rows of path, first, second, by what differs.
        facts: rows of name, first, second about both sweeps' runs.
        doubts: reasons why the losses may not be comparable.
    """

    differences: Mapping[str, Rows] = field(default_factory=dict)
    facts: Rows = ()
    doubts: Sequence[str] = ()


def compare_page(variants: Variants, contexts: Mapping[str, Context]) -> Page:
    """One self-contained page.

    Args:
        contexts: by name of the variant; a table has none.
    """
    names = [each.name for each in variants.ranked]
    listed = ", ".join(names) if len(names) <= 3 else f"{len(names)} variants"
    page = Page(f"{listed} against {variants.baseline}")
    for name, context in contexts.items():
        for doubt in context.doubts:
            page.text(f"{name}: {doubt}", role="warn")
    for warning in variants.warnings:
        page.text(warning, role="warn")
    _worth(page, variants)
    several = len(names) > 1
    for place, each in enumerate(variants.ranked):
        context = contexts.get(each.name, Context())
        about = Page(f"{each.name}: its law and its losses") if several else page
        _laws(about, each.laws, context, variants.unit, place if several else None)
        if several:
            page.folded(about)
    return page


def _worth(page: Page, variants: Variants) -> None:
    """The multipliers of all variants."""
    lines = lead_lines(variants)
    if not lines:
        return
    page.text(lines[0], role="lead")
    for line in lines[1:]:
        page.text(line)
    speedups, height = speedup_data(variants), 220 + 44 * len(variants.ranked)
    figure = draw_speedup(speedups, variants)
    page.figure(figure, name="speedup", height=height, data=speedups)
    page.table(RANK_HEADER, rank_rows(variants))
    page.text(method(variants), role="soft")
    page.heading("At each common budget")
    page.table(*budget_table(variants))
    page.heading("Under other assumptions about the irreducible loss")
    page.text("A projection hangs on what no compute removes; here is the answer under each.")
    page.table(UNDER_HEADER, under_rows(variants))


def _laws(
    page: Page, comparison: Comparison, context: Context, unit: str, place: int | None
) -> None:
    """What a variant did to the law, every matched loss, and what differed.

    Args:
        place: of the variant among several, which have their matched losses in the figure alone;
            None for a single one.
    """
    first, second = comparison.names
    settings = context.differences.get("spec", ())
    if settings:
        page.heading("The settings that differ")
        page.table([*("spec", first, second)], settings)
    page.heading("What it did to the law")
    for warning in comparison.warnings:
        page.text(warning, role="warn")
    for line in verdict(comparison, unit):
        page.text(line)
    if comparison.contrasts:
        page.table(_headed(LAW_HEADER, first, second), law_rows(comparison))
        page.text(interval_method(comparison), role="soft")
    if any(contrast.name == "n_opt" for contrast in comparison.contrasts):
        sizes = best_size_data(comparison)
        figure = draw_best_size(sizes, comparison)
        page.figure(figure, name=f"best-size{place or ''}", data=sizes)
    if comparison.matched.pairs.height:
        page.heading(f"Losses at the same N and D, {unit}")
        pairs = comparison.matched.pairs
        figure = draw_pairs(pairs, comparison, unit)
        page.figure(figure, name=f"pairs{place or ''}", data=pairs)
        if place is None:
            page.table(_headed(PAIR_HEADER, first, second), pair_rows(comparison))
    for name, rows in context.differences.items():
        if not rows:
            page.text(f"No difference in {name}.", role="soft")
        elif name != "spec":
            page.heading(f"What else differs: {name}")
            page.table([name, first, second], rows)
    if context.facts:
        page.heading("Their runs")
        page.table(["", first, second], context.facts)


def _headed(header: Sequence[str], first: str, second: str) -> list[str]:
    names = {"first": first, "second": second, "second − first": f"{second} − {first}"}
    return [names.get(cell, cell) for cell in header]
