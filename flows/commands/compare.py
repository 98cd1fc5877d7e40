"""Command compare: what changes are worth in compute and time, and what they did to the law."""

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from flows.commands.common import (
    Json,
    Level,
    Report,
    busy,
    open_to_read,
    refusals,
)
from flows.commands.options import FIT, Bootstrap, Mapping, table_names
from flows.commands.tables import column_mapping

if TYPE_CHECKING:
    from analysis.compare.answer import Comparison
    from flows.answers.compare import Compared
    from flows.results.compare import SweepDifferences


def compare(
    baseline: Annotated[
        str,
        Parameter(
            completer=table_names,
            help="a sweep, or a table of runs as isoflop fit reads it; a sweep with variants alone "
            "compares them with its base",
        ),
    ],
    /,
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
    from flows.answers.sides import check_names, expanded, plan_of_side

    with refusals():
        home = open_to_read()
        names = expanded((baseline, *variants), home)
        check_names(names)
        for name in names:
            plan_of_side(name, home)

    from flows.answers.compare import Comparing, compare_sides
    from flows.commands.output import show

    with refusals():
        how = Comparing(at, _asymptote(asymptote), bpb, bootstrap, level)
        columns = column_mapping(mapping or [])
        with busy("fitting the losses and the laws"):
            answer = compare_sides(names, columns, how, home)
    show(answer, _print, json, report)


def _asymptote(text: str) -> float | Literal["shared", "free"]:
    if text == "shared":
        return "shared"
    if text == "free":
        return "free"
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"--asymptote {text!r}: write shared, free, or a loss such as 1.6."
        ) from None


def _print(compared: "Compared") -> None:
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

    answer, differences = compared.variants, compared.differences
    for line in (*compared.warnings, *lead_lines(answer)):
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
        table("compute at each common budget", *budget_table(answer))
        print()
        table("under other irreducible losses", UNDER_HEADER, under_rows(answer), spare=("[is]",))
    for each in answer.ranked:
        print()
        _print_laws(each.laws, differences.get(each.name), answer.unit)


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
