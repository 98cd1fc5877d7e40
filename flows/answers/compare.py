"""The answer of `isoflop compare`: what changes are worth, and what they did to the law."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from analysis.compare.page import compare_page
from analysis.compare.speedup_text import speedup_json
from analysis.compare.text import comparison_json
from analysis.compare.variants import Variants, compare_variants
from analysis.page import Page
from analysis.table.observations import Table
from analysis.table.repeats import leave_out_repeats
from flows.answers.rows import check_level
from flows.answers.runs import Runs, read_runs
from flows.answers.shown import Shown
from flows.answers.sides import check_names, plan_of_side
from flows.answers.source import IN_MEMORY, open_source
from flows.results.compare import (
    SweepDifferences,
    compared_table,
    names_beside,
    sweep_differences,
)
from flows.settings import Home
from sweeps.plan import Plan

# The loss that no compute removes: one for both, each its own, or a number.
Asymptote = float | Literal["shared", "free"]


@dataclass(frozen=True, slots=True)
class Side:
    """A baseline or a variant: its name, its runs, and its plan where it is a sweep."""

    name: str
    table: Table
    plan: Plan | None


@dataclass(frozen=True, repr=False)
class Compared(Shown):
    """How many times less compute and time variants need for the same loss, and their laws.

    Attributes:
        variants: multipliers with intervals, and the laws of each variant, the best first.
        differences: of a variant's sweep from the baseline's, by its name; tables have none.
    """

    variants: Variants
    differences: Mapping[str, SweepDifferences] = field(default_factory=dict)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be read before any number."""
        doubts = [
            f"{name}: {doubt}" for name, each in self.differences.items() for doubt in each.doubts
        ]
        return (*doubts, *self.variants.warnings)

    def json(self) -> dict[str, Any]:
        """What `isoflop compare --json` writes."""
        answer, entries = self.variants, []
        for each in answer.ranked:
            document = comparison_json(each.laws)
            differences = self.differences.get(each.name)
            more = differences.as_json() if differences is not None else {}
            entries.append(
                {
                    "name": each.name,
                    "warnings": document["warnings"],
                    "speedup": None if each.speedup is None else speedup_json(each.speedup),
                    "no_speedup": each.no_speedup,
                    **more,
                    **document,
                }
            )
        head = {"baseline": answer.baseline, "unit": answer.unit, "level": answer.level}
        if len(entries) > 1:
            return {"warnings": list(self.warnings), **head, "variants": entries}
        # One variant's answer at the top, as of two sweeps; of several a list, the best first.
        [entry] = entries
        warnings = [*self.warnings, *entry["warnings"]]
        short = {key: entry[key] for key in ("name", "speedup", "no_speedup")}
        return {**head, **entry, "warnings": warnings, "variants": [short]}

    def _drawn_page(self) -> Page:
        contexts = {name: each.context for name, each in self.differences.items()}
        return compare_page(self.variants, contexts)


@dataclass(frozen=True, slots=True)
class Comparing:
    """How variants are compared; see `compare_variants`.

    Raises:
        ValueError: an option is out of range.
    """

    at: float | None = None
    asymptote: Asymptote = "shared"
    bits_per_byte: bool = False
    bootstrap: int = 1000
    level: float = 0.9

    def __post_init__(self) -> None:
        check_level(self.level)
        if self.bootstrap < 1:
            raise ValueError(f"--bootstrap {self.bootstrap} gives no intervals: take 1000.")
        if self.at is not None and not 0 < self.at < float("inf"):
            raise ValueError(f"--at {self.at} must be positive training FLOPs, such as 1e20.")
        loss = self.asymptote
        number = isinstance(loss, float | int) and 0 <= loss < float("inf")
        if not number and loss not in ("shared", "free"):
            raise ValueError(f"--asymptote {loss}: write shared, free, or a loss such as 1.6.")


def compare_sides(
    sources: Sequence[str | Runs], mapping: Mapping[str, str], how: Comparing, home: Home
) -> Compared:
    """Compare variants with the first of several sweeps or tables.

    Args:
        sources: sweeps of the home or tables, by name; or runs.
        mapping: isoflop's name for a column to the tables'.

    Raises:
        ValueError: a source is not there, or the losses do not compare.
    """
    sources = _numbered(sources)
    check_names([each if isinstance(each, str) else each.source.name for each in sources])
    first, *others = _own_names([_side(each, mapping, home) for each in sources])
    variants = compare_variants(
        (first.name, first.table),
        [(side.name, side.table) for side in others],
        at=how.at,
        asymptote=how.asymptote,
        bootstrap=how.bootstrap,
        level=how.level,
        bits_per_byte=how.bits_per_byte,
    )
    return Compared(variants, _differences(first, others, home))


def _numbered(sources: Sequence[str | Runs]) -> list[str | Runs]:
    """The same, rows in memory under a name each: their places among the sources."""
    return [
        replace(each, source=replace(each.source, name=f"data frame {place}"))
        if isinstance(each, Runs) and each.source.name == IN_MEMORY
        else each
        for place, each in enumerate(sources, 1)
    ]


def _side(source: str | Runs, mapping: Mapping[str, str], home: Home) -> Side:
    """A sweep of this home, or a table."""
    if isinstance(source, str):
        plan = plan_of_side(source, home)
        if plan is not None:
            return Side(source, compared_table(plan, home), plan)
        source = read_runs(open_source(source), mapping)
    return Side(source.source.name, leave_out_repeats(source.table), None)


def _own_names(sides: list[Side]) -> list[Side]:
    """Variants of one sweep go by their own names."""
    if any(side.plan is None for side in sides):
        return sides
    names = names_beside([side.name for side in sides])
    return [replace(side, name=name) for side, name in zip(sides, names, strict=True)]


def _differences(first: Side, others: Sequence[Side], home: Home) -> dict[str, SweepDifferences]:
    """Differences of each variant's sweep from the baseline's; tables have none."""
    if first.plan is None:
        return {}
    return {
        side.name: sweep_differences(first.plan, side.plan, home)
        for side in others
        if side.plan is not None
    }
