"""Numbers as people write them (1.4B, 300e9, 1,400,000, 3,2007), and equal but for rounding."""

import re
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.law import Array
from analysis.table.observations import TableError
from analysis.table.states import UNFINISHED

# What a column holds: counts take suffixes, and 1,400 is ambiguous there.
Kind = Literal["count", "flops", "plain"]

_POWERS = {
    **dict.fromkeys(("k", "thousand"), 3),
    **dict.fromkeys(("m", "mn", "mio", "million", "millions"), 6),
    **dict.fromkeys(("b", "bn", "g", "mrd", "billion", "billions"), 9),
    **dict.fromkeys(("t", "tn", "trillion", "trillions"), 12),
}
_FLOPS_POWERS = {**_POWERS, "p": 15, "e": 18, "z": 21}
_NUMBER = re.compile(
    r"(?P<sign>[+-]?)(?P<digits>\d(?:[\d.,_'’ ]*\d)?|[.,]\d+)(?:e(?P<exponent>[+-]?\d+))?"
    r"\s*(?P<suffix>[a-z]*?)\s*(?:tokens?|params?|parameters?|flops?)?",
    re.IGNORECASE,
)
# Text of more letters is no number, and would take long to match.
_LONGEST = 64
_GROUPS = r"\d{1,3}(?:%s\d{3})+"
_QUOTES = "\"'`“”‘’"


def read_numbers(column: pl.Series, rows: pl.DataFrame, *, kind: Kind) -> tuple[pl.Series, str]:
    """A column as floats, and one of its numbers as written; empty where all are plain.

    The whole column decides whether a comma or a point marks decimals or thousands.

    Args:
        rows: the column's rows, for messages: their `row`.

    Raises:
        TableError: the column holds no numbers, or numbers that can be read in two ways.
    """
    if column.dtype.is_numeric() or column.dtype == pl.Null:
        return column.cast(pl.Float64), ""
    if column.dtype != pl.String:
        raise TableError(f"column {column.name!r} holds {column.dtype}, not numbers.")
    text = column.str.replace_all(r"\s+", " ").str.strip_chars(_QUOTES + " ")
    numbers = text.cast(pl.Float64, strict=False)
    odd = text.is_not_null() & numbers.is_null()
    if not odd.all():
        # "diverged" among numbers: the run has none.
        text = text.set(odd & text.str.to_lowercase().is_in(list(UNFINISHED)), None)
        odd = text.is_not_null() & numbers.is_null()
    if not odd.any():
        return numbers, ""
    parsed = [
        _NUMBER.fullmatch(value) if value is not None and len(value) <= _LONGEST else None
        for value in text
    ]
    powers = {"count": _POWERS, "flops": _FLOPS_POWERS, "plain": {}}[kind]
    bad = [
        match is None or (match["suffix"].lower() not in powers and match["suffix"] != "")
        for match in parsed
    ]
    # Words such as nan are numbers to polars, and no pattern of ours.
    bad_rows = pl.Series(bad) & odd
    if bad_rows.any():
        raise TableError(
            f"column {column.name!r} should hold numbers, not {column.filter(bad_rows)[0]!r}.",
            rows.filter(bad_rows),
        )
    digits = [match["digits"] for match in parsed if match is not None]
    decimal = _decimal_mark(column.name, digits, kind)
    values = [
        number if match is None else _value(match, decimal, powers)
        for match, number in zip(parsed, numbers, strict=True)
    ]
    wrong = odd & pl.Series(values, dtype=pl.Float64).is_null()
    if wrong.any():
        raise TableError(
            f"column {column.name!r} mixes ways of writing: {column.filter(wrong)[0]!r} does not "
            f"fit {'1.234,5' if decimal == ',' else '1,234.5'}.",
            rows.filter(wrong),
        )
    return pl.Series(column.name, values, dtype=pl.Float64), str(column.filter(odd)[0]).strip()


def near_groups(
    values: Array, factor: float, within: NDArray[np.generic] | None = None
) -> NDArray[np.intp]:
    """The number of each value's group, groups counted from 0 in rising order.

    Neighbours in order are of one group when the larger is at most `factor` times the smaller.

    Args:
        values: positive numbers, in any order.
        within: a number for each value; groups do not cross it. Groups rise with it first.
    """
    logs = np.log(np.asarray(values, float))
    outer = np.zeros(len(logs)) if within is None else within
    order = np.lexsort((logs, outer))
    groups = np.zeros(len(logs), np.intp)
    apart = (np.diff(logs[order]) > np.log(factor)) | (outer[order][1:] != outer[order][:-1])
    groups[order[1:]] = np.cumsum(apart)
    return groups


def _decimal_mark(name: str, digits: Sequence[str], kind: Kind) -> str:
    """Point or comma: what marks the decimals of a column.

    Raises:
        TableError: both readings are possible, or values contradict each other.
    """
    comma_decimal = [text for text in digits if _marks_decimals(text, ",")]
    point_decimal = [text for text in digits if _marks_decimals(text, ".")]
    comma_groups = [text for text in digits if text.count(",") > 1]
    point_groups = [text for text in digits if text.count(".") > 1]
    european, english = comma_decimal + point_groups, point_decimal + comma_groups
    if european and english:
        raise TableError(
            f"column {name!r} mixes ways of writing: {european[0]} and {english[0]}. Write "
            "decimals with a point, thousands without a mark."
        )
    if european:
        return ","
    with_comma = [text for text in digits if "," in text]
    if not with_comma or english:
        return "."
    if kind == "plain":
        return ","
    number = with_comma[0]
    raise TableError(
        f"column {name!r} is ambiguous: {number} may be {number.replace(',', '')} or "
        f"{number.replace(',', '.')}. Write it without the comma."
    )


def _marks_decimals(text: str, mark: str) -> bool:
    """Whether a mark can only stand before decimals: 1,4 or 0,123 or 1234,567 or 1.234,567."""
    if text.count(mark) != 1:
        return False
    whole, _, decimals = text.partition(mark)
    other = "." if mark == "," else ","
    if other in decimals:
        return False
    return len(decimals) != 3 or whole in ("", "0") or other in whole or len(whole) > 3


def _value(match: re.Match[str], decimal: str, powers: dict[str, int]) -> float | None:
    """The number; None where its thousands are not groups of three."""
    whole, _, decimals = match["digits"].partition(decimal)
    grouped: Callable[[str], object] = re.compile(
        "|".join(_GROUPS % re.escape(mark) for mark in "_ '’,.".replace(decimal, ""))
    ).fullmatch
    if not whole.isdigit() and whole and not grouped(whole):
        return None
    if decimals and not decimals.isdigit():
        return None
    power = int(match["exponent"] or 0) + powers.get(match["suffix"].lower(), 0)
    whole = re.sub(r"\D", "", whole) or "0"
    return float(f"{match['sign']}{whole}.{decimals or 0}e{power}")
