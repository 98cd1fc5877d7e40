"""Which rows one law is fitted to: those of --where, of each value of --by, of one experiment."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import polars as pl

from analysis.table.cells import best_of as take_best
from analysis.table.cells import refuse_tried_settings
from analysis.table.experiments import (
    named_experiments,
    refuse,
    refuse_several_shares,
    shown_experiments,
)
from analysis.table.observations import LINE, Table, TableError, check, nearest
from analysis.table.repeats import REPEATS, leave_out_repeats
from analysis.table.sources import Source, option, quoted
from analysis.table.states import nothing_left


def split(table: Table, *, where: str | None, by: str | None) -> list[tuple[Any, Table]]:
    """The table, or one for each value of the column `by`, with that value.

    Args:
        where: polars SQL; rows for which it is not true are left out with that reason.

    Raises:
        TableError: `where` is no filter, or there is no column `by`, or it is empty in a row.
    """
    if where is not None:
        table = table.leave_out(~rows_where(table.frame, where), f"not where {where}")
    if by is None:
        return [(None, table)]
    frame, used = table.frame, table.used
    if by not in frame.columns:
        raise TableError(
            f"there is no column {by!r} to fit by; the table has "
            f"{', '.join(name for name in frame.columns if name != LINE)}."
        )
    if not used.height:
        raise TableError(nothing_left(frame))
    missing = used.filter(pl.col(by).is_null())
    if missing.height:
        raise TableError(f"column {by!r} is empty in some rows.", missing)
    values = used[by].unique(maintain_order=True).to_list()
    return [(value, table.filter(pl.col(by) == value)) for value in values]


def one_law(
    part: Table, *, best_of: Sequence[str], pool: bool, named: bool, repeats: bool = False
) -> Table:
    """The rows of a part that follow one law: fresh ones, of `best_of`'s settings the best.

    Args:
        pool: take rows of several experiments, or of several settings for one N and D, together.
        named: refuse text columns that name experiments, too.
        repeats: the law is of repeated tokens too.

    Raises:
        TableError: bad numbers; or the rows are a mixture and `pool` is not said.
    """
    part = check(part if repeats else leave_out_repeats(part))
    if best_of:
        part = take_best(part, best_of)
    if not pool:
        refuse_mixtures(part, named=named)
    return part


def left_out_lines(reasons: Iterable[str], rows: int, read: Iterable[Source]) -> Iterator[str]:
    """How many rows an answer leaves out, by reason, and how to take those that repeat tokens.

    Args:
        reasons: of each row that is left out.
        rows: of the table.
        read: where its columns come from.
    """
    for reason, count in Counter(reasons).items():
        verb = "is" if count == 1 else "are"
        line = f"{count:,} of {rows:,} rows {verb} left out: {reason}."
        if reason == REPEATS:
            tokens = [source.argument for source in read if source.name == "tokens"]
            if tokens:
                line += f" To count every token as fresh: {option('unique_tokens', tokens[0])}."
        yield line


@contextmanager
def of_group(by: str | None, value: Any) -> Iterator[None]:
    """Name the group in the refusal of one of several."""
    try:
        yield
    except TableError as error:
        if by is None:
            raise
        raise TableError(f"group {by} = {value}: {error}") from error


def refuse_mixtures(table: Table, *, named: bool) -> None:
    """Refuse rows of several experiments, or of several settings at one N and D.

    Args:
        named: refuse text columns that name experiments, too.

    Raises:
        TableError: the rows are a mixture.
    """
    used = table.used
    if not used.height:
        return
    refuse_several_shares(used)
    if named:
        refuse(named_experiments(used))
    refuse_tried_settings(table)
    refuse(shown_experiments(used))


def rows_where(frame: pl.DataFrame, where: str) -> pl.Series:
    """Whether a polars SQL filter is true, row by row.

    Raises:
        TableError: it is no filter.
    """
    try:
        kept = frame.select(pl.sql_expr(where).alias("kept"))["kept"]
    except pl.exceptions.ColumnNotFoundError as error:
        asked = re.search('"(.*?)"', str(error))
        named = f"column {asked[1]!r}" if asked else "such column"
        raise TableError(
            f"--where {where!r} does not work: there is no {named}.{_meant(where, asked, frame)}"
        ) from error
    except pl.exceptions.PolarsError as error:
        raise TableError(
            f"--where {where!r} does not work: {str(error).splitlines()[0]}"
        ) from error
    if kept.dtype != pl.Boolean or len(kept) != frame.height:
        raise TableError(f"--where {where!r} is not true or false for each row.")
    return kept.fill_null(False)


def _meant(where: str, asked: re.Match[str] | None, frame: pl.DataFrame) -> str:
    """A hint for a filter that names no column: the quotes that it lacks, or the nearest name."""
    for column in sorted(frame.columns, key=len, reverse=True):
        if quoted(column) != column and column in where:
            return f" Write {column!r} as {quoted(column)}, in double quotes."
    return nearest(asked[1], frame.columns) if asked else ""
