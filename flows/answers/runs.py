"""The runs of what TABLE names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from analysis.table.names import ALIASES, WITHOUT_REPETITION, spelt
from analysis.table.observations import Table, TableError
from analysis.table.read import read_table
from analysis.table.repeats import epochs, unread_epochs
from analysis.table.sources import read_words
from analysis.words import counted
from flows.answers.source import TableSource


@dataclass(frozen=True, slots=True, repr=False)
class Runs:
    """Finished runs, one a row, under isoflop's names of columns.

    Attributes:
        source: where they come from.
        table: every row: n_params N (parameters), tokens D, val_loss, and what else the source
            has; `excluded_reason` says why a row takes part in no fit.
    """

    source: TableSource
    table: Table
    mapping: Mapping[str, str] = field(default_factory=dict)
    include_status: tuple[str, ...] = ()

    @property
    def frame(self) -> pl.DataFrame:
        """Every row, those left out with their `excluded_reason`."""
        return self.table.frame

    @property
    def used(self) -> pl.DataFrame:
        """The rows that take part in a fit."""
        return self.table.used

    def with_repetition(self) -> Table:
        """The table with unique tokens read, for a law of repeated data.

        Raises:
            TableError: they are not there.
        """
        return _table(self.source, self.mapping, self.include_status, ALIASES)

    def __repr__(self) -> str:
        return f"{self._words()}\n{self.frame}"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(self._words())}</p>{self.frame._repr_html_()}"

    def _words(self) -> str:
        used, rows = self.used.height, self.frame.height
        left_out = "" if used == rows else f", {rows - used} more left out"
        how = f"; {read_words(self.table.read)}" if self.table.read else ""
        return " ".join(
            (f"{self.source.name}: {counted(used, 'run')}{left_out}{how}.", *self.source.notes)
        )


def read_runs(
    source: TableSource,
    mapping: Mapping[str, str] | None = None,
    include_status: Sequence[str] = (),
) -> Runs:
    """The runs of a source, with unique tokens read where some row repeats them.

    A column of that name which holds no such numbers stays unread, and the answer says so.

    Args:
        mapping: isoflop's name for a column to the source's, or to arithmetic of its columns.
        include_status: states of runs whose rows are used, besides finished ones.

    Raises:
        TableError: it cannot be read as a table of runs.
    """
    names, states = dict(mapping or {}), tuple(include_status)
    named = "unique_tokens" in names
    table = _table(source, names, states, ALIASES if named else WITHOUT_REPETITION)
    runs = Runs(source, table, names, states)
    if named:
        return runs
    if not spelt("unique_tokens", ALIASES, table.frame.columns):
        return replace(runs, table=table.with_doubts(unread_epochs(table)))
    try:
        repeated = runs.with_repetition()
    except TableError:
        return runs
    return runs if epochs(repeated.used) is None else replace(runs, table=repeated)


def _table(
    source: TableSource,
    mapping: Mapping[str, str],
    include_status: Sequence[str],
    aliases: Mapping[str, tuple[str, ...]],
) -> Table:
    return read_table(source.given, mapping=mapping, include_status=include_status, aliases=aliases)
