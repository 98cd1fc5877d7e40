"""Command fit: a law, its intervals and its verdicts from a table of finished runs."""

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from flows.commands.common import (
    Anyway,
    Json,
    Level,
    Report,
    refusals,
    shown_from_log,
)
from flows.commands.options import (
    FIT,
    BestOf,
    Bootstrap,
    By,
    Mapping,
    Pool,
    Statuses,
    TableName,
    Where,
)
from flows.commands.tables import find_table, meeting_all, names_in, read_runs

if TYPE_CHECKING:
    from flows.answers.fit import Fit


def fit(
    file: TableName,
    /,
    *,
    form: Annotated[
        Literal["chinchilla", "gamma", "tied", "kaplan", "data_constrained"],
        Parameter(
            group=FIT,
            help="chinchilla E + A/N^alpha + B/D^beta; gamma raises the sum of powers to gamma; "
            "tied sets alpha = beta; kaplan has no E; data_constrained needs unique_tokens",
        ),
    ] = "chinchilla",
    objective: Annotated[
        Literal["huber_log", "lad_log", "mse_log", "mse"], Parameter(group=FIT)
    ] = "huber_log",
    delta: Annotated[float, Parameter(group=FIT)] = 1e-3,
    by: By = None,
    where: Where = None,
    mapping: Mapping = None,
    include_status: Statuses = None,
    best_of: BestOf = None,
    pool: Pool = False,
    bootstrap: Bootstrap = 1000,
    seed: Annotated[int, Parameter(group=FIT)] = 0,
    level: Level = 0.9,
    target_flops: Annotated[float | None, Parameter(group=FIT)] = None,
    anyway: Anyway = False,
    json: Json = None,
    report: Report = None,
) -> None:
    """Fit a loss law to a table of runs or a sweep.

    Args:
        objective: what is summed over rows.
        delta: where Huber's penalty turns from squares to absolute values.
        seed: of the resampling.
        target_flops: budget for the profiles of N* and D*; ten times the table's largest.
    """
    with refusals():
        source = find_table(file)

    from analysis.fit.options import FitOptions
    from flows.answers.fit import fit_runs, objective_of
    from flows.answers.rows import Rows
    from flows.commands.output import show

    with refusals(), shown_from_log("analysis.fit"):
        penalty = objective_of(objective, delta)
        answer = fit_runs(
            read_runs(source, mapping, include_status),
            FitOptions(form, penalty, bootstrap, seed, level, anyway, target_flops),
            Rows(by, meeting_all(where), tuple(names_in(best_of)), pool),
        )
    show(answer, _print, json, report)


def _print(answer: "Fit") -> None:
    from analysis.fit.text import envelope_line, group_lines
    from flows.commands.output import print_wrapped, width

    for place, (group, each) in enumerate(zip(answer.groups, answer.leads, strict=True)):
        if place:
            print()
        for line in group_lines(group, each.sentence, width()):
            print(line)
    if answer.envelope is not None:
        print()
        print_wrapped(envelope_line(answer.envelope[1]))
