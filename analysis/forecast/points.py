"""The runs to foretell: pairs of N and D from a command line or from a table without losses."""

import re
from pathlib import Path

import polars as pl

from analysis.law import NCounts
from analysis.table.files import read_contents
from analysis.table.names import ALIASES, missing, resolve
from analysis.table.numbers import Kind, read_numbers
from analysis.table.observations import COUNTS, LINE, TableError

_FIRST_ROW = pl.DataFrame({"row": [0]})


def read_pair(text: str) -> tuple[float, float]:
    """N and D as people write them: 7B,2T or 7e9,2e12.

    Raises:
        TableError: not two positive numbers.
    """
    parts = re.split(r"[,;]", text)
    if len(parts) != 2:
        raise TableError(f"--at {text!r} should read N,D, for example --at 7B,2T.")
    try:
        N, D = (read_number(part, "count") for part in parts)
    except TableError as error:
        raise TableError(
            f"--at {text!r} should read N,D with positive numbers, for example --at 7B,2T."
        ) from error
    return N, D


def read_number(text: str, kind: Kind) -> float:
    """One positive number as people write it.

    Raises:
        TableError: it is none.
    """
    number = read_numbers(pl.Series("number", [text.strip()]), _FIRST_ROW, kind=kind)[0][0]
    if number is None or not 0 < number < float("inf"):
        raise TableError(f"{text!r} is not a positive number.")
    return float(number)


def read_option(option: str, number: str | float, kind: Kind, example: str) -> float:
    """The positive number of an option, as a number or as people write it.

    Raises:
        TableError: it is none.
    """
    try:
        return read_number(number if isinstance(number, str) else repr(float(number)), kind)
    except TableError as error:
        raise TableError(
            f"{option} {number!r} should be a positive number, for example {option} {example}."
        ) from error


def read_points(
    path: Path, n_counts: NCounts, *, option: str = "--points"
) -> list[tuple[float, float]]:
    """N and D of each row of a table; of several counts of N the one that `n_counts` names.

    Args:
        option: that named the file, for messages.

    Raises:
        TableError: the file cannot be read, has no N or D, or holds other than positive numbers.
    """
    frame = read_contents(path).frame
    columns_given = [name for name in frame.columns if name != LINE]
    names = resolve(columns_given, {}, ALIASES)
    counts = sorted(
        (name for name in COUNTS if name in names), key=lambda name: COUNTS[name] != n_counts
    )
    rows = frame.drop("row", strict=False).with_row_index("row")
    columns = []
    for symbol, given in (("n_params", counts[:1]), ("tokens", ["tokens"])):
        if not given or given[0] not in names:
            raise TableError(f"{option} {path}: {missing(symbol, columns_given)}")
        column = frame[names[given[0]]]
        numbers = read_numbers(column, rows, kind="count")[0]
        bad = ~((numbers > 0) & numbers.is_finite()).fill_null(False)
        if bad.any():
            raise TableError(
                f"{option} {path}: column {column.name!r} should hold positive numbers.",
                rows.filter(bad),
            )
        columns.append(numbers.to_list())
    if not columns[0]:
        raise TableError(f"{option} {path}: the table has no rows.")
    return list(zip(*columns, strict=True))
