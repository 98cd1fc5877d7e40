"""Arithmetic of a table's columns as --map takes it: steps*batch*2048, ln(perplexity).

Polars parses and computes it as SQL. Only numbers, columns, operators and functions of a single
row pass: an aggregate would change with the rows, and a subquery reads other things than the table.
"""

import re
from collections.abc import Sequence

import polars as pl

from analysis.table.numbers import Kind, read_numbers
from analysis.table.observations import TableError, nearest

FUNCTIONS = ("ln", "log2", "log10", "exp", "sqrt", "pow", "abs")
# Polars' parser takes seconds for thousands of pieces.
_MOST_PIECES = 200
# How close the whole text must be to a column's name to be one misspelt.
_WHOLE = 0.8
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    | "(?P<quoted>(?:[^"]|"")+)" | `(?P<ticked>[^`]+)`
    | (?P<word>[^\W\d]\w*)
    | (?P<sign>[-+*/%(),])
    )""",
    re.VERBOSE,
)


def evaluate(
    option: str, text: str, frame: pl.DataFrame, *, rows: pl.DataFrame, kind: Kind
) -> pl.Series:
    """The value of arithmetic in each row; see `read_numbers` for the columns' own numbers.

    Args:
        option: as the user gave it, for messages.
        rows: as `read_numbers` takes them.

    Raises:
        TableError: it is no arithmetic of columns, or a column holds no numbers.
    """
    sql, needed = _sql(option, text, frame.columns)
    numbers = [read_numbers(frame[column], rows, kind=kind)[0] for column in needed]
    try:
        values = pl.DataFrame(
            [column.alias(_alias(place)) for place, column in enumerate(numbers)]
        ).select(pl.sql_expr(sql).cast(pl.Float64).alias("value"))["value"]
    except pl.exceptions.PolarsError as error:
        raise _no_arithmetic(option, text) from error
    return values


def _sql(option: str, text: str, columns: Sequence[str]) -> tuple[str, list[str]]:
    """The text as SQL in which the needed columns are named by their place among themselves."""
    pieces: list[str] = []
    needed: list[str] = []
    place, after_operand = 0, False
    text = text.strip()
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None or (after_operand and token["sign"] in (None, "(")):
            raise _no_arithmetic(option, text, text[place:].strip(), columns)
        place = token.end()
        word, sign, number = token["word"], token["sign"], token["number"]
        if sign:
            pieces.append(sign)
            after_operand = sign == ")"
            continue
        if word and text[place:].lstrip().startswith("("):
            if word.lower() not in FUNCTIONS:
                raise _no_arithmetic(option, text, f"{word}(", columns)
            pieces.append(word.lower())
            continue
        after_operand = True
        if number:
            # With an exponent polars reads a float; 2048 would be an integer, which overflows.
            pieces.append(f"{float(number.replace('_', '')):.17e}")
            continue
        column = word or token["ticked"] or token["quoted"].replace('""', '"')
        if column not in columns:
            hint = nearest(text, columns, _WHOLE) or nearest(column, columns)
            raise TableError(f"{option}: there is no column {column!r}.{hint}")
        if column not in needed:
            needed.append(column)
        # Polars' SQL has no way to write a quote within a name.
        pieces.append(f'"{_alias(needed.index(column))}"')
    if not needed or len(pieces) > _MOST_PIECES:
        raise _no_arithmetic(option, text, "", columns)
    return " ".join(pieces), needed


def _alias(place: int) -> str:
    return f"column_{place}"


def _no_arithmetic(
    option: str, text: str, rest: str = "", columns: Sequence[str] = ()
) -> TableError:
    hint = nearest(text, columns, _WHOLE)
    if hint:
        return TableError(f"{option}: there is no column {text!r}.{hint}")
    at = f" at {rest!r}" if rest else ""
    return TableError(
        f"{option} is neither a column nor arithmetic of columns{at}. Use numbers, columns (odd "
        f'names in "…"), + - * / % and {", ".join(FUNCTIONS)}.'
    )
