"""Command forecast: the loss of runs not yet trained, and N* beyond the data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from flows.commands.common import (
    Anyway,
    Json,
    Level,
    Report,
    refusals,
)
from flows.commands.forecast_records import (
    NO_RECORDS,
    Records,
    answer_from_records,
    check_register,
    register,
)
from flows.commands.options import FIT, BestOf, By, Mapping, Pool, Statuses, TableName, Where
from flows.commands.tables import find_table, meeting_all, names_in, read_runs

if TYPE_CHECKING:
    from flows.answers.forecast import Forecast

Repeated = Annotated[list[str] | None, Parameter(consume_multiple=True)]


def forecast(
    file: TableName | None = None,
    /,
    *,
    at: Repeated = None,
    points: Path | None = None,
    flops: Repeated = None,
    level: Level = 0.9,
    form: Annotated[Literal["gamma", "chinchilla"], Parameter(group=FIT)] = "gamma",
    by: By = None,
    where: Where = None,
    mapping: Mapping = None,
    include_status: Statuses = None,
    best_of: BestOf = None,
    pool: Pool = False,
    anyway: Anyway = False,
    records: Records = NO_RECORDS,
    json: Json = None,
    report: Report = None,
) -> None:
    """Foretell losses of runs not yet trained, and the best N and D of a budget.

    Without --at, --points and --flops: N* at ten times the table's largest compute.

    Args:
        at: N,D of a run, for example --at 7B,2T. Several may follow.
        points: a table of runs to foretell, with N and D by the usual names.
        flops: a budget C = 6·N·D at which N* is sought, as 1e23. Several may follow.
        form: the law under the forecast; gamma (arXiv:2608.07222) has chinchilla as gamma = 1.
    """
    with refusals():
        if file is None or records.check is not None or records.list:
            return answer_from_records(records, file, at or [], json)
        check_register(records, by, asked=bool(at or points))
        source = find_table(file)

    from analysis.forecast.answer import Question
    from analysis.forecast.points import read_option
    from flows.answers.forecast import forecast_runs, read_pairs
    from flows.answers.rows import Rows
    from flows.commands.output import show

    with refusals():
        runs = read_runs(source, mapping, include_status)
        pairs = read_pairs(at or [], points, runs.table.n_counts)
        budgets = tuple(read_option("--flops", each, "flops", "1e23") for each in flops or [])
        answer = forecast_runs(
            runs,
            Question(pairs, budgets, level, form, anyway),
            Rows(by, meeting_all(where), tuple(names_in(best_of)), pool),
        )
        if records.register is not None:
            register(records.register, answer.groups[0][2], answer.groups[0][1], file)
    show(answer, _print, json, report)


def _print(answer: "Forecast") -> None:
    from analysis.forecast.text import answer_lines
    from flows.commands.output import width

    for place, (value, table, each) in enumerate(answer.groups):
        if place:
            print()
        if value is not None:
            print(f"== {value}")
        for line in answer_lines(each, table, width()):
            print(line)
