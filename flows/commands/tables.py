"""The table of runs that a command names: a file, a sweep or a service."""

from typing import TYPE_CHECKING

from flows.commands.common import fail, say

if TYPE_CHECKING:
    from flows.answers.runs import Runs
    from flows.answers.source import TableSource


def find_table(file: str) -> "TableSource":
    """What TABLE names; says which sweeps' losses are in a sweep's.

    Called before what reads it is imported, so that a misspelt name is refused at once.

    Raises:
        ValueError: there is no such source.
    """
    from flows.answers.source import open_source

    source = open_source(file)
    for sentence in source.notes:
        say(sentence)
    return source


def read_runs(
    source: "TableSource", mapping: list[str] | None, include_status: list[str] | None
) -> "Runs":
    """The runs of a table.

    Raises:
        ValueError: it cannot be read as one.
    """
    from flows.answers.runs import read_runs as runs_of

    return runs_of(source, column_mapping(mapping or []), include_status or [])


def column_mapping(pairs: list[str]) -> dict[str, str]:
    """isoflop's names to the file's columns, from NAME=COLUMN; refuses any other form."""
    mapping: dict[str, str] = {}
    for pair in pairs:
        name, _, column = (part.strip() for part in pair.partition("="))
        if not (name and column):
            fail(f"--map {pair!r} should read NAME=COLUMN, for example --map val_loss=eval_nll.")
        if name in mapping:
            fail(f"--map names {name!r} twice: {mapping[name]!r} and {column!r}. Keep one.")
        mapping[name] = column
    return mapping


def names_in(text: str | None) -> list[str]:
    """The names of an option that lists columns: lr,batch."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def meeting_all(filters: list[str] | None) -> str | None:
    """One filter of those given; None for none."""
    if not filters or len(filters) == 1:
        return filters[0] if filters else None
    return " AND ".join(f"({each})" for each in filters)
