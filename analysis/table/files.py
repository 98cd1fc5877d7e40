"""Read a file of any usual kind as a data frame, its columns as they are named there."""

from pathlib import Path

import polars as pl

from analysis.table.observations import TableError


def read_frame(path: Path) -> pl.DataFrame:
    """Read CSV, TSV, Parquet or JSON.

    Raises:
        TableError: the file is missing or unreadable.
    """
    path = Path(path)
    if not path.is_file():
        raise TableError(f"{path} is not a file.")
    suffix = path.suffix.lower()
    try:
        if suffix in (".parquet", ".pq"):
            return pl.read_parquet(path)
        if suffix == ".json":
            return pl.read_json(path, infer_schema_length=None)
        return pl.read_csv(
            path,
            separator=_separator(path),
            infer_schema_length=None,
            null_values=["", "NA", "null", "None"],
        )
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TableError(f"{path} cannot be read as a table: {reason}") from error


def _separator(path: Path) -> str:
    """Comma, semicolon or tab: whichever is most frequent in the header."""
    with path.open(encoding="utf-8", errors="replace") as file:
        header = file.readline()
    return max(",;\t", key=header.count)
