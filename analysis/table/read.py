"""Read somebody else's table, from the file to the observations that a fit takes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from analysis.table.columns import normalise
from analysis.table.files import Contents, read_contents
from analysis.table.names import ALIASES
from analysis.table.observations import Table, TableError


def read_table(
    source: Path | Contents,
    *,
    mapping: Mapping[str, str] | None = None,
    include_status: Sequence[str] = (),
    aliases: Mapping[str, tuple[str, ...]] = ALIASES,
) -> Table:
    """Read a file, or the contents of another source, as an observations table; see `normalise`.

    Args:
        mapping: isoflop's name for a column to the file's, or to arithmetic of the file's; it
            takes precedence over aliases.
        include_status: states of runs whose rows are used, besides finished ones.

    Raises:
        TableError: the file is missing, unreadable, empty, or `normalise` refuses it.
    """
    contents = source if isinstance(source, Contents) else read_contents(source)
    try:
        table = normalise(
            contents.frame,
            mapping={**contents.mapping, **(mapping or {})},
            include_status=include_status,
            aliases=aliases,
        )
    except TableError as error:
        if error.rows:
            raise
        raise TableError(" ".join((str(error), *contents.hints))) from error
    return replace(table, doubts=(*contents.doubts, *table.doubts))
