"""Command forecast: the loss of runs not yet trained, and N* beyond the data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
from flows.commands.options import FIT, BestOf, By, Mapping, Pool, Statuses, TableName, Where
from flows.commands.tables import names_in, read_runs

if TYPE_CHECKING:
    from analysis.forecast.answer import Answer
    from analysis.table.observations import Table

Repeated = Annotated[list[str] | None, Parameter(consume_multiple=True)]


def forecast(
    file: TableName | None = None,
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
    from analysis.forecast.answer import Question, answer
    from analysis.forecast.points import read_pair, read_points
    from analysis.table.selection import of_group, one_law, split
    from flows.commands.output import emit

    with refusals():
        check_destinations(json, report)
        if file is None or records.check is not None or records.list:
            return answer_from_records(records, file, at or [], json)
        table = read_runs(file, mapping, include_status)
        pairs = [read_pair(text) for text in at or []]
        if points is not None:
            if not points.is_file():
                raise ValueError(f"--points {points}: there is no such file.")
            pairs += read_points(points, table.n_counts)
        check_register(records, pairs, by)
        budgets = [_budget(text) for text in flops or []]
        question = Question(tuple(pairs), tuple(budgets), level, form, anyway)
        groups: list[tuple[Any, Table, Answer]] = []
        for value, part in split(table, where=where, by=by):
            with of_group(by, value):
                part = one_law(part, best_of=names_in(best_of), pool=pool, named=by is None)
                groups.append((value, part, answer(part, question)))
        if records.register is not None:
            register(records.register, groups[0][2], groups[0][1], file)
    if report is not None:
        from analysis.forecast.page import forecast_page

        write_report(forecast_page(groups, title=f"Forecast from {Path(file).name}"), report)
    if json is not None:
        emit(_document(groups, by), json)
    if json != "-":
        _print(groups)


def _budget(text: str) -> float:
    from analysis.forecast.points import read_number
    from analysis.table.observations import TableError

    try:
        return read_number(text, "flops")
    except TableError as error:
        raise TableError(
            f"--flops {text!r} should be a positive number, for example --flops 1e23."
        ) from error


def _document(groups: "list[tuple[Any, Table, Answer]]", by: str | None) -> dict[str, Any]:
    from analysis.forecast.document import answer_json

    if by is None:
        return answer_json(groups[0][2])
    return {"groups": [{"group": value, **answer_json(each)} for value, _, each in groups]}


def _print(groups: "list[tuple[Any, Table, Answer]]") -> None:
    from analysis.forecast.text import answer_lines
    from flows.commands.output import width

    for place, (value, table, each) in enumerate(groups):
        if place:
            print()
        if value is not None:
            print(f"== {value}")
        for line in answer_lines(each, table, width()):
            print(line)
