"""Command forecast: the loss of runs not yet trained, and N* beyond the data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from flows.commands.common import (
    Anyway,
    Json,
    Level,
    Report,
    check_destinations,
    refusals,
    write_report,
)
from flows.commands.forecast_records import (
    NO_RECORDS,
    Records,
    answer_from_records,
    check_register,
    register,
)
from flows.commands.tables import Mapping, Statuses, names_in, read_runs

if TYPE_CHECKING:
    from flows.answers.forecast import Forecast

Repeated = Annotated[list[str] | None, Parameter(negative="", consume_multiple=True)]


def forecast(
    file: str | None = None,
    *,
    at: Repeated = None,
    points: Path | None = None,
    flops: Repeated = None,
    level: Level = 0.9,
    form: Literal["gamma", "chinchilla"] = "gamma",
    by: str | None = None,
    where: str | None = None,
    mapping: Mapping = None,
    include_status: Statuses = None,
    best_of: str | None = None,
    pool: Annotated[bool, Parameter(negative="")] = False,
    anyway: Anyway = False,
    records: Records = NO_RECORDS,
    json: Json = None,
    report: Report = None,
) -> None:
    """Foretell losses of runs not yet trained, and the best N and D of a budget.

    Without --at, --points and --flops: N* at ten times the table's largest compute.

    Args:
        file: a table of finished runs or a sweep, as for isoflop fit.
        at: N,D of a run, for example --at 7B,2T. Several may follow.
        points: a table of runs to foretell, with N and D by the usual names.
        flops: a budget C = 6·N·D at which N* is sought, for example --flops 1e23. Several may
            follow.
        form: the law under the forecast: gamma (Skaling law, arXiv:2608.07222), or chinchilla,
            the same with gamma = 1.
        by: column; one forecast for each of its values.
        where: polars SQL filter, for example "tokens > 1e9 AND NOT outlier".
        mapping: NAME=COLUMN, isoflop's name for the column and the file's, or arithmetic of
            columns; for example --map val_loss=eval_nll. Repeatable.
        include_status: take rows of this status too, for example --include-status crashed.
            Repeatable.
        best_of: columns; of models with one N and D only those with the best value are used, for
            example --best-of lr,batch.
        pool: take rows of several experiments, or of several settings for one N and D, together.
    """
    from analysis.forecast.answer import Question
    from flows.answers.forecast import forecast_runs, read_budget, read_pairs
    from flows.answers.rows import Rows
    from flows.commands.output import emit

    with refusals():
        check_destinations(json, report)
        if file is None or records.check is not None or records.list:
            return answer_from_records(records, file, at or [], json)
        runs = read_runs(file, mapping, include_status)
        pairs = read_pairs(at or [], points, runs.table.n_counts)
        check_register(records, pairs, by)
        budgets = tuple(map(read_budget, flops or []))
        answer = forecast_runs(
            runs,
            Question(pairs, budgets, level, form, anyway),
            Rows(by, where, tuple(names_in(best_of)), pool),
        )
        if records.register is not None:
            register(records.register, answer.groups[0][2], answer.groups[0][1], file)
    if report is not None:
        write_report(answer.page, report)
    if json is not None:
        emit(answer.json(), json)
    if json != "-":
        _print(answer)


def _print(answer: "Forecast") -> None:
    from analysis.forecast.text import answer_lines

    for place, (value, table, each) in enumerate(answer.groups):
        if place:
            print()
        if value is not None:
            print(f"== {value}")
        for line in answer_lines(each, table):
            print(line)
