"""Command mix: what each source is worth, and the shares of least loss."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.commands.common import (
    Json,
    Level,
    Report,
    refusals,
)
from flows.commands.options import Mapping, Statuses, TableName, Where
from flows.commands.tables import column_mapping, find_table, meeting_all

if TYPE_CHECKING:
    from flows.answers.mix import Mix


def mix(
    file: Annotated[
        TableName,
        Parameter(
            help="a table with columns share_NAME and loss_NAME, one trained mixture a row; or a "
            "sweep of mixtures, whose spec has target, stocks, epochs and tokens unless given here"
        ),
    ],
    /,
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
    with refusals():
        source = find_table(file)
        of_points = None if points is None else find_table(str(points))

    from flows.answers.mix import Asked, Columns, mix_source
    from flows.commands.output import show

    with refusals():
        answer = mix_source(
            source,
            Asked(target, stock, epochs, params, tokens, anywhere, level),
            Columns(column_mapping(mapping or []), meeting_all(where), include_status or []),
            of_points,
        )
    show(answer, _print, json, report)


def _print(answer: "Mix") -> None:
    from analysis.mixtures.text import answer_lines
    from flows.commands.output import width

    for line in answer_lines(answer.answer, width()):
        print(line)
