"""What TABLE names: a file, a sweep of the home, a service, rows in memory; and how to read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from analysis.table.files import Contents, described, read_contents
from analysis.table.names import ALIASES, WITHOUT_REPETITION, spelt
from analysis.table.observations import Table, TableError
from analysis.table.read import read_table
from analysis.table.repeats import epochs
from analysis.table.sources import read_words
from analysis.words import counted
from flows.plans.find import other_kind, spec_sentence, sweeps_there
from flows.plans.joined import joined
from flows.plans.stored import read_plan
from flows.settings import Home, home_of, open_settings
from flows.tables.source import is_service, table_source

IN_MEMORY = "a data frame"


@dataclass(frozen=True, slots=True)
class TableSource:
    """A table under the names that it came with.

    Attributes:
        name: what TABLE was.
        given: its file, or its rows.
        home: of the sweep that it is of; None for other sources.
        notes: which sweeps' losses it holds, where that is more than one's.
    """

    name: str
    given: Path | Contents
    home: Home | None = None
    notes: tuple[str, ...] = ()

    @property
    def sweep(self) -> Path | None:
        """The folder of the sweep that it is of; None for other sources."""
        return None if self.home is None else self.home.sweeps / self.name

    def contents(self) -> Contents:
        """Its rows.

        Raises:
            TableError: it cannot be read.
        """
        return self.given if isinstance(self.given, Contents) else read_contents(self.given)


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


def open_source(name: str) -> TableSource:
    """What TABLE names; sweeps are those of the home of the environment.

    Raises:
        ValueError: there is no such source.
    """
    if is_service(name) or Path(name).is_file():
        return TableSource(name, open_table(name))
    place = home_of(open_settings())
    sweep = source_of_sweep(name, place)
    if sweep is not None:
        return sweep
    if not (Path(name).is_dir() or Path(name).suffix):
        trained = sorted(path.parent.name for path in place.sweeps.glob("*/observations.parquet"))
        other = other_kind(name, place) or sweeps_there(name, trained)
        raise ValueError(
            f"{name} is neither a file nor a sweep with observations in {place.root}. {other}"
        )
    return TableSource(name, open_table(name))


def source_of_sweep(name: str, home: Home) -> TableSource | None:
    """The table of a sweep's last report; None where the home has none."""
    folder = home.sweeps / name
    if not (folder / "observations.parquet").is_file():
        return None
    planned = read_plan(home, name)
    notes = joined(planned, home).sentences if planned is not None else ()
    return TableSource(name, folder / "observations.parquet", home, notes)


def open_table(name: str) -> Path | Contents:
    """What TABLE names, other than a sweep; see `table_source`.

    Raises:
        ValueError: there is no such source, or it cannot be read.
    """

    def our_uri() -> str:
        settings = open_settings()
        return settings.tracking_uri(home_of(settings))

    if not is_service(name) and not Path(name).exists():
        other = other_kind(name, home_of(open_settings()))
        raise ValueError(f"{name} is not a file. {other}".strip())
    if Path(name).suffix in (".yaml", ".yml") and (spec := spec_sentence(name)):
        raise ValueError(f"{name} is no table. {spec}")
    return table_source(name, our_uri)


def source_of(frame: pl.DataFrame) -> TableSource:
    """Rows in memory as a table that somebody named.

    Raises:
        TableError: two columns have one name but for blanks.
    """
    return TableSource(IN_MEMORY, described(frame))


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
    if named or not spelt("unique_tokens", ALIASES, table.frame.columns):
        return runs
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
