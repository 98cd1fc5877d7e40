"""What TABLE names: a file, a sweep of the home, a service, rows in memory.

The libraries that read a table are imported only once there is one to read, so that a misspelt
name is refused at once.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.plans.find import other_kind, spec_sentence, sweeps_there
from flows.plans.joined import joined
from flows.plans.stored import read_plan
from flows.settings import Home, home_of, open_settings
from flows.tables.source import is_service, table_source

if TYPE_CHECKING:
    import polars as pl

    from analysis.table.files import Contents

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
    given: "Path | Contents"
    home: Home | None = None
    notes: tuple[str, ...] = ()

    @property
    def sweep(self) -> Path | None:
        """The folder of the sweep that it is of; None for other sources."""
        return None if self.home is None else self.home.sweeps / self.name

    def contents(self) -> "Contents":
        """Its rows.

        Raises:
            TableError: it cannot be read.
        """
        from analysis.table.files import read_contents

        return read_contents(self.given) if isinstance(self.given, Path) else self.given


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


def law_and_table(name: str, home: Home) -> tuple[Path, Path]:
    """The files of the law and of the observations of a sweep's last report.

    Raises:
        ValueError: the home has no sweep of that name with a law.
    """
    law, table = home.sweeps / name / "law.json", home.sweeps / name / "observations.parquet"
    if not (law.is_file() and table.is_file()):
        fitted = sorted(path.parent.name for path in home.sweeps.glob("*/law.json"))
        raise ValueError(
            f"sweep {name} has no law in {home.sweeps}. "
            + (f"Sweeps with one: {', '.join(fitted)}." if fitted else "No sweep has one yet.")
        )
    return law, table


def open_table(name: str) -> "Path | Contents":
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


def source_of(frame: "pl.DataFrame") -> TableSource:
    """Rows in memory as a table that somebody named.

    Raises:
        TableError: two columns have one name but for blanks.
    """
    from analysis.table.files import described

    return TableSource(IN_MEMORY, described(frame))
