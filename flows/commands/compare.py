"""Command compare: what changes are worth in compute and time, and what they did to the law."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from flows.commands.common import (
    Json,
    Level,
    Report,
    busy,
    check_destinations,
    find_plan,
    open_to_read,
    refusals,
    write_report,
)
from flows.commands.options import FIT, Bootstrap, Mapping, table_names
from flows.commands.tables import read_runs

if TYPE_CHECKING:
    from analysis.compare.answer import Comparison
    from analysis.compare.page import Context
    from analysis.compare.variants import Variants
    from analysis.table.observations import Table
    from flows.results.compare import SweepDifferences
    from flows.settings import Home
    from sweeps.plan import Plan


@dataclass(frozen=True, slots=True)
class Side:
    """A baseline or a variant: its name, its runs, and its plan where it is a sweep."""

    name: str
    table: "Table"
    plan: "Plan | None"


def compare(
    baseline: Annotated[
        str,
        Parameter(
            completer=table_names,
            help="a sweep, or a table of runs as isoflop fit reads it; a sweep with variants alone "
            "compares them with its base",
        ),
    ],
    *variants: Annotated[str, Parameter(completer=table_names)],
    at: float | None = None,
    asymptote: Annotated[
        str,
        Parameter(
            help="the loss that no compute removes: shared by both, free (each its own), or a "
            "number; the answer under each is shown",
            group=FIT,
        ),
    ] = "shared",
    bpb: bool = False,
    mapping: Mapping = None,
    bootstrap: Bootstrap = 1000,
    level: Level = 0.9,
    json: Json = None,
    report: Report = None,
) -> None:
    """Print how many times less compute and time variants need for the same loss, and their laws.

    Args:
        variants: sweeps or tables that are compared with it.
        at: training FLOPs of the projection; ten times the largest common budget.
        bpb: compare bits per byte, as between tokenizers.
    """
    from analysis.compare.variants import compare_variants
    from flows.commands.output import emit
    from flows.results.variants import expanded

    with refusals():
        home = open_to_read()
        names = expanded((baseline, *variants), home)
        _check(names, at, bootstrap)
        assumed = _asymptote(asymptote)
        check_destinations(json, report)
        # Variants of one sweep go by their own names.
        prefix = "" if names == (baseline, *variants) else f"{baseline}/"
        first, *others = [_side(name, mapping, home, prefix) for name in names]
        with busy("fitting the losses and the laws"):
            answer = compare_variants(
                (first.name, first.table),
                [(side.name, side.table) for side in others],
                at=at,
                asymptote=assumed,
                bootstrap=bootstrap,
                level=level,
                bits_per_byte=bpb,
            )
        differences = _differences(first, others, home)
    if report is not None:
        from analysis.compare.page import compare_page

        contexts = {name: _context(found) for name, found in differences.items()}
        write_report(compare_page(answer, contexts), report)
    if json is not None:
        emit(_document(answer, differences), json)
    if json != "-":
        _print(answer, differences)


def _check(names: tuple[str, ...], at: float | None, bootstrap: int) -> None:
    """Refuse options out of range.

    Raises:
        ValueError: one is.
    """
    if bootstrap < 1:
        raise ValueError(f"--bootstrap {bootstrap} gives no intervals: take 1000.")
    if at is not None and not 0 < at < float("inf"):
        raise ValueError(f"--at {at} must be positive training FLOPs, such as 1e20.")
    if len(names) < 2:
        raise ValueError(
            f"{names[0]!r} alone has nothing to be compared with: isoflop compare {names[0]} OTHER."
        )
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} was named twice: name two sweeps.")


def _asymptote(text: str) -> float | Literal["shared", "free"]:
    if text == "shared":
        return "shared"
    if text == "free":
        return "free"
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ValueError(f"--asymptote {text!r}: write shared, free, or a loss such as 1.6.")
    return value


def _side(name: str, mapping: list[str] | None, home: "Home", prefix: str) -> Side:
    """A sweep of this home, called by its name without `prefix`, or a table."""
    from pathlib import Path

    from flows.results.compare import compared_table
    from flows.tables.source import is_service
    from sweeps.variants import BASE

    if is_service(name) or Path(name).is_file():
        return Side(name, read_runs(name, mapping, None), None)
    plan = find_plan(name, home)
    if plan.spec.variants:
        listed = ", ".join(f"{name}/{variant}" for variant in (BASE, *plan.spec.variants))
        raise ValueError(f"{name} is a sweep of variants: name one of {listed}.")
    return Side(name.removeprefix(prefix), compared_table(plan, home), plan)


def _differences(first: Side, others: list[Side], home: "Home") -> "dict[str, SweepDifferences]":
    """Differences of each variant's sweep from the baseline's; tables have none."""
    from flows.results.compare import sweep_differences

    if first.plan is None:
        return {}
    return {
        side.name: sweep_differences(first.plan, side.plan, home)
        for side in others
        if side.plan is not None
    }


def _context(differences: "SweepDifferences") -> "Context":
    from analysis.compare.page import Context

    return Context(differences.rows(), differences.facts(), differences.doubts)


def _document(answer: "Variants", differences: "dict[str, SweepDifferences]") -> dict[str, Any]:
    """One variant's answer at the top, as of two sweeps; of several a list, the best first."""
    from analysis.compare.speedup_text import speedup_json
    from analysis.compare.text import comparison_json

    entries = []
    for each in answer.ranked:
        document = comparison_json(each.laws)
        more = differences[each.name].as_json() if each.name in differences else {}
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
        return {"warnings": list(answer.warnings), **head, "variants": entries}
    [entry] = entries
    warnings = [*answer.warnings, *entry["warnings"]]
    short = {key: entry[key] for key in ("name", "speedup", "no_speedup")}
    return {**head, **entry, "warnings": warnings, "variants": [short]}


def _print(answer: "Variants", differences: "dict[str, SweepDifferences]") -> None:
    from analysis.compare.speedup_text import (
        RANK_HEADER,
        UNDER_HEADER,
        budget_table,
        lead_lines,
        method,
        rank_rows,
        under_rows,
    )
    from flows.commands.output import print_wrapped, table

    for line in (*answer.warnings, *lead_lines(answer)):
        print_wrapped(line)
    if any(each.speedup is not None for each in answer.ranked):
        print()
        table(
            f"times less than {answer.baseline} for the same loss", RANK_HEADER, rank_rows(answer)
        )
        print_wrapped(method(answer))
    if len(answer.ranked) > 1:
        print()
        print_wrapped(
            "At each budget, under other irreducible losses, and what each variant did to its law: "
            "--report PAGE.html, or compare one variant alone."
        )
        return
    if answer.ranked[0].speedup is not None:
        print()
        _print_budgets(*budget_table(answer))
        print()
        table("under other irreducible losses", UNDER_HEADER, under_rows(answer), spare=("[is]",))
    for each in answer.ranked:
        print()
        _print_laws(each.laws, differences.get(each.name), answer.unit)


def _print_budgets(header: list[str], rows: list[list[str]]) -> None:
    """One variant's budgets below each other, several variants' side by side."""
    from flows.commands.output import table

    title = "compute at each common budget"
    if len(rows) > 1:
        table(title, header, rows, spare=[f"[{name}]" for name in header])
    else:
        [[name, *cells]] = rows
        budgets = [budget.removeprefix("C = ") for budget in header[1:]]
        table(title, ["C", name], list(zip(budgets, cells, strict=True)))


def _print_laws(
    comparison: "Comparison", differences: "SweepDifferences | None", unit: str
) -> None:
    from analysis.compare.text import (
        LAW_HEADER,
        PAIR_HEADER,
        interval_method,
        law_rows,
        pair_rows,
        verdict,
    )
    from flows.commands.output import print_wrapped, table

    first, second = comparison.names
    rows = differences.rows() if differences is not None else {}
    settings = rows.pop("spec", None)
    if settings:
        table("spec", ["spec", first, second], settings)
        print()
    elif settings is not None:
        print("no difference in spec")
    for doubt in differences.doubts if differences is not None else ():
        print_wrapped(f"Doubtful: {doubt}")
    for line in (*comparison.warnings, *verdict(comparison, unit)):
        print_wrapped(line)
    if comparison.contrasts:
        print()
        table(
            f"law, first {first}, second {second}",
            LAW_HEADER,
            law_rows(comparison),
            spare=("[second]", "[first]"),
        )
        print_wrapped(interval_method(comparison))
    if comparison.matched.pairs.height:
        print()
        table(f"losses at the same N and D, {unit}", PAIR_HEADER, pair_rows(comparison))
    for name, found in rows.items():
        print()
        if found:
            table(name, [name, first, second], found)
        else:
            print(f"no difference in {name}")
    if differences is not None:
        print()
        table("runs", ["", first, second], differences.facts())
