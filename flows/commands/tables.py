"""The table of runs that a command names: a file, a sweep or a service."""

from pathlib import Path
from typing import TYPE_CHECKING

from flows.commands.common import fail, open_table, open_to_read, say

if TYPE_CHECKING:
    from analysis.table.observations import Table


def read_runs(
    file: str,
    mapping: list[str] | None,
    include_status: list[str] | None,
    *,
    repetition: bool = False,
) -> "Table":
    """The table of a file, a sweep or a service; unique tokens only where `repetition` is asked.

    Raises:
        ValueError: there is no such source, or it cannot be read as a table.
    """
    from analysis.table.names import ALIASES, WITHOUT_REPETITION
    from analysis.table.read import read_table

    sweep = sweep_folder(file)
    if sweep is not None:
        _say_what_is_joined(file)
    return read_table(
        open_table(file) if sweep is None else sweep / "observations.parquet",
        mapping=column_mapping(mapping or []),
        include_status=include_status or [],
        aliases=ALIASES if repetition else WITHOUT_REPETITION,
    )


def _say_what_is_joined(sweep: str) -> None:
    """Name the sweeps whose losses are in a sweep's table, where it continues another."""
    from flows.plans.joined import joined
    from flows.plans.stored import read_plan

    home = open_to_read()
    planned = read_plan(home, sweep)
    for sentence in joined(planned, home).sentences if planned is not None else ():
        say(sentence)


def sweep_folder(file: str) -> Path | None:
    """The folder of the sweep of that name; None when the argument is another source."""
    from flows.tables.source import is_service

    if is_service(file) or Path(file).is_file():
        return None
    home = open_to_read()
    folder = home.sweeps / file
    if (folder / "observations.parquet").is_file():
        return folder
    if not (Path(file).is_dir() or Path(file).suffix):
        fail(
            f"{file} is neither a file nor a sweep with observations in {home.root}. "
            f"Train it with: isoflop sweep {file}"
        )
    return None


def column_mapping(pairs: list[str]) -> dict[str, str]:
    """isoflop's names to the file's columns, from NAME=COLUMN; refuses any other form."""
    mapping: dict[str, str] = {}
    for pair in pairs:
        name, separator, column = pair.partition("=")
        if not (separator and name and column):
            fail(f"--map {pair!r} should read NAME=COLUMN, for example --map val_loss=eval_nll.")
        if name in mapping:
            fail(f"--map names {name!r} twice: {mapping[name]!r} and {column!r}. Keep one.")
        mapping[name.strip()] = column.strip()
    return mapping


def names_in(text: str | None) -> list[str]:
    """The names of an option that lists columns: lr,batch."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]
