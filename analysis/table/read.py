"""Read somebody else's table, from the file to the observations that a fit takes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.table.columns import normalise
from analysis.table.files import read_frame
from analysis.table.names import ALIASES
from analysis.table.observations import Table


def read_table(
    path: Path,
    *,
    mapping: Mapping[str, str] | None = None,
    include_status: Sequence[str] = (),
    aliases: Mapping[str, tuple[str, ...]] = ALIASES,
) -> Table:
    """Read CSV, TSV, Parquet or JSON as an observations table; see `normalise`.

    Args:
        mapping: isoflop's name for a column to the file's, or to arithmetic of the file's; it
            takes precedence over aliases.
        include_status: states of runs whose rows are used, besides finished ones.

    Raises:
        TableError: the file is missing, unreadable, empty, or `normalise` refuses it.
    """
    return normalise(
        read_frame(path), mapping=mapping, include_status=include_status, aliases=aliases
    )
