"""Command mix: what each source is worth, and the shares of least loss."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.commands.common import (
    Json,
    Level,
    Report,
    check_destinations,
    fail,
    open_table,
    open_to_read,
    refusals,
    write_report,
)
from flows.commands.options import Mapping, Statuses, TableName, Where
from flows.commands.tables import column_mapping, sweep_folder

if TYPE_CHECKING:
    from analysis.mixtures.question import Question
    from analysis.table.files import Contents


def mix(
    file: Annotated[
        TableName,
        Parameter(
            help="a table with columns share_NAME and loss_NAME, one trained mixture a row; or a "
            "sweep of mixtures, whose spec has target, stocks, epochs and tokens unless given here"
        ),
    ],
    *,
    target: str | None = None,
    stock: str | None = None,
    epochs: float | None = None,
    params: str | None = None,
    tokens: str | None = None,
    points: Path | None = None,
    anywhere: bool = False,
    level: Level = 0.9,
    where: Where = None,
    mapping: Annotated[
        Mapping,
        Parameter(
            help="NAME=COLUMN, isoflop's name for the column and the file's; share_=BEFORE or "
            "loss_=BEFORE*AFTER for all columns that are named so; repeatable"
        ),
    ] = None,
    include_status: Statuses = None,
    json: Json = None,
    report: Report = None,
) -> None:
    """The law of losses by source, and the shares of least loss for a target.

    Args:
        target: the losses to lower, NAME or NAME=WEIGHT,NAME=WEIGHT; the mean of all unless given.
        stock: unique tokens of sources that run short: code=20B,wiki=3B.
        epochs: how often such a source may be read; 4 unless given.
        params: N of the training to mix for, where the table has several; its largest unless given.
        tokens: D of the training to mix for; the table's largest unless given.
        points: a table of mixtures whose losses to foretell.
        anywhere: search all mixtures, not only averages of those tried.
    """
    from threadpoolctl import threadpool_limits

    from analysis.mixtures.answer import mix as answer_of
    from analysis.mixtures.question import Question, read_stock, read_target
    from analysis.mixtures.rows import read_mixtures, read_points
    from analysis.table.observations import TableError
    from flows.commands.output import emit

    with refusals(), threadpool_limits(1, "blas"):
        check_destinations(json, report)
        if epochs is not None and not epochs > 0:
            fail(f"--epochs {epochs:g} should be a positive number.")
        own = _asked_by_sweep(file)
        question = Question(
            own.target if target is None else read_target(target),
            own.stock if stock is None else read_stock(stock),
            own.epochs if epochs is None else epochs,
            _count("--params", params),
            own.tokens if tokens is None else _count("--tokens", tokens),
            anywhere,
            level,
        )
        names = column_mapping(mapping or [])
        contents = _contents(file)
        table = read_mixtures(
            contents, mapping=names, where=where, include_status=include_status or []
        )
        asked = None
        if points is not None:
            try:
                asked = read_points(_contents(str(points)), names, table)
            except TableError as error:
                raise TableError(f"--points {points}: {error}") from error
        answer = answer_of(table, question, asked)
    if report is not None:
        from analysis.mixtures.page import mix_page

        write_report(mix_page(answer, title=f"Mixtures of {Path(file).name}"), report)
    if json is not None:
        from analysis.mixtures.document import mix_json

        emit(mix_json(answer), json)
    if json != "-":
        from analysis.mixtures.text import answer_lines
        from flows.commands.output import width

        for line in answer_lines(answer, width()):
            print(line)


def _asked_by_sweep(file: str) -> "Question":
    """What the spec of a sweep of mixtures asks; of any other table nothing."""
    from analysis.mixtures.question import Question

    if sweep_folder(file) is None:
        return Question()
    from flows.plans.stored import read_plan
    from flows.results.mixtures import asked

    home = open_to_read()
    planned = read_plan(home, file)
    return asked(planned, home) if planned is not None and planned.spec.mixtures else Question()


def _contents(file: str) -> "Contents":
    """The rows of a file, a sweep or a service, with the columns as they are named there."""
    from analysis.table.files import Contents, read_contents

    sweep = sweep_folder(file)
    source = open_table(file) if sweep is None else sweep / "observations.parquet"
    return source if isinstance(source, Contents) else read_contents(source)


def _count(option: str, text: str | None) -> float | None:
    from analysis.forecast.points import read_number
    from analysis.table.observations import TableError

    if text is None:
        return None
    try:
        return read_number(text, "count")
    except TableError as error:
        raise TableError(
            f"{option} {text!r} should be a positive number, for example {option} 1B."
        ) from error
