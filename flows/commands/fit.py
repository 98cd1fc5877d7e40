"""Command fit: a law, its intervals and its verdicts from a table of finished runs."""

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from flows.commands.common import (
    Anyway,
    Json,
    Level,
    Report,
    check_destinations,
    refusals,
    shown_from_log,
    write_report,
)
from flows.commands.tables import Mapping, Statuses, names_in, read_runs

if TYPE_CHECKING:
    from flows.answers.fit import Fit


def fit(
    file: str,
    *,
    form: Literal["chinchilla", "gamma", "tied", "kaplan", "data_constrained"] = "chinchilla",
    objective: Literal["huber_log", "lad_log", "mse_log", "mse"] = "huber_log",
    delta: float = 1e-3,
    by: str | None = None,
    where: str | None = None,
    mapping: Mapping = None,
    include_status: Statuses = None,
    best_of: str | None = None,
    pool: Annotated[bool, Parameter(negative="")] = False,
    bootstrap: int = 1000,
    seed: int = 0,
    level: Level = 0.9,
    target_flops: float | None = None,
    anyway: Anyway = False,
    json: Json = None,
    report: Report = None,
) -> None:
    """Fit a loss law to a table of runs or a sweep.

    Args:
        file: CSV, TSV, JSON, Parquet or Excel, one row a finished run; the name of a sweep;
            mlflow:EXPERIMENT; optuna:STUDY@STORAGE; or a folder of TensorBoard.
        form: chinchilla E + A/N^alpha + B/D^beta; gamma raises the sum of powers to gamma; tied
            sets alpha = beta; kaplan has no E; data_constrained needs unique_tokens.
        objective: what is summed over rows.
        delta: where Huber's penalty turns from squares to absolute values.
        by: column; one law for each of its values.
        where: polars SQL filter, for example "tokens > 1e9 AND NOT outlier".
        mapping: NAME=COLUMN, isoflop's name for the column and the file's, or arithmetic of
            columns; for example --map val_loss=eval_nll or --map 'tokens=steps*batch*2048'.
            Repeatable.
        include_status: take rows of this status too, for example --include-status crashed.
            Repeatable.
        best_of: columns; of models with one N and D only those with the best value are used, for
            example --best-of lr,batch.
        pool: fit rows of several experiments, or of several settings for one N and D, together.
        bootstrap: resamples; 0 for none.
        seed: of the resampling.
        target_flops: budget for the profiles of N* and D*; ten times the table's largest.
    """
    from analysis.fit.options import FitOptions
    from analysis.solver.objective import Objective
    from flows.answers.fit import fit_runs
    from flows.answers.rows import Rows
    from flows.commands.output import emit

    with refusals(), shown_from_log("analysis.fit"):
        check_destinations(json, report)
        answer = fit_runs(
            read_runs(file, mapping, include_status),
            FitOptions(
                form, Objective(objective, delta), bootstrap, seed, level, anyway, target_flops
            ),
            Rows(by, where, tuple(names_in(best_of)), pool),
        )
    if report is not None:
        write_report(answer.page, report)
    if json is not None:
        emit(answer.json(), json)
    if json != "-":
        _print(answer)


def _print(answer: "Fit") -> None:
    from analysis.fit.text import envelope_line, group_lines

    for place, (group, each) in enumerate(zip(answer.groups, answer.leads, strict=True)):
        if place:
            print()
        for line in group_lines(group, each.lines):
            print(line)
    if answer.envelope is not None:
        print(f"\n{envelope_line(answer.envelope[1])}")
