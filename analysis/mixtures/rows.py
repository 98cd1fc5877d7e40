"""A table of mixtures as arrays: shares of sources, losses by source, and N and D where they vary.

A column `share_NAME` is the share of a source in the training tokens, `loss_NAME` the loss on
validation text of that name. Other names are mapped, one by one or a whole family at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.law import Array, LossUnit
from analysis.table.expressions import evaluate
from analysis.table.files import Contents
from analysis.table.names import ALIASES, resolve
from analysis.table.numbers import Kind, read_numbers
from analysis.table.observations import (
    LINE,
    LOSS,
    SHARE,
    Table,
    TableError,
    name_rows,
    nearest,
    unit_of,
)
from analysis.table.runs import numbered
from analysis.table.selection import split
from analysis.table.sources import option
from analysis.table.states import nothing_left
from analysis.words import between, short

_SIZES = ("n_params", "tokens")
SYMBOLS = {"n_params": "N", "tokens": "D"}
_ALIASES = {name: spelt for name, spelt in ALIASES.items() if name in _SIZES}
# Columns of isoflop's own that begin like a family's.
_OTHER = ("loss_unit",)
# Shares printed with two or three digits sum to this of 1 or of 100.
_ROUNDING = 0.02
# Numbers of tokens and parameters that differ by less are one.
SAME = 1.01


@dataclass(frozen=True, slots=True)
class Mixtures:
    """Trained mixtures, one a row.

    Attributes:
        sources: names of the k sources that have a share.
        targets: names of the t losses.
        shares: (rows, k), each row divided by its sum.
        sizes: (rows, s) ln N and ln D, those of the two that vary in the table.
        size_names: their columns.
        constant: N and D that all rows have alike.
        losses: (rows, t); nan in points without them.
        loss_unit: theirs, as the column loss_unit names it.
        frame: the rows, for messages.
        notes: what reading did to the numbers, in sentences.
        doubts: of points: why their losses are not those foretold.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    shares: Array
    sizes: Array
    size_names: tuple[str, ...]
    constant: Mapping[str, float]
    losses: Array
    loss_unit: LossUnit
    frame: pl.DataFrame
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.shares)

    @property
    def inputs(self) -> Array:
        """What a law takes: shares, then sizes (rows, k + s)."""
        return np.hstack([self.shares, self.sizes])

    @property
    def mixture(self) -> NDArray[np.intp]:
        """The number of each row's mixture; rows of equal shares have one (rows,)."""
        # Shares of a table have three digits or so; further ones are of the division by the sum.
        _, numbers = np.unique(self.shares.round(4), axis=0, return_inverse=True)
        return numbers.ravel()


def read_mixtures(
    contents: Contents,
    *,
    mapping: Mapping[str, str],
    where: str | None = None,
    include_status: Sequence[str] = (),
) -> Mixtures:
    """The trained mixtures of a table.

    Args:
        mapping: isoflop's name for a column to the file's or to arithmetic; `share_` and `loss_`
            to what the names of a family have before the source's, or to BEFORE*AFTER.
        where: polars SQL; only rows for which it is true are read.

    Raises:
        TableError: no shares or losses, numbers that are none, shares that are none, or losses
            in several units.
    """
    frame = numbered(contents.frame, include_status)
    [(_, table)] = split(Table(frame, "unknown", "flops_6nd", "unknown"), where=where, by=None)
    rows = table.used
    if rows.height == 0:
        raise TableError(nothing_left(table.frame))
    shares = _family(SHARE, rows, mapping)
    losses = _family(LOSS, rows, mapping)
    if len(shares) < 2 or not losses:
        raise TableError(_lacking(shares, losses, rows.columns))
    sizes = {name: _size(name, rows, mapping) for name in _SIZES}
    for name, column in losses.items():
        _refuse(rows, ~(column > 0) | ~np.isfinite(column), f"loss_{name} is empty or not positive")
    divided, notes = _shares(shares, rows)
    varying = tuple(name for name, column in sizes.items() if _varies(column))
    left_out = frame.height - rows.height
    if left_out:
        notes = (*notes, f"{left_out} of {frame.height} rows are left out: unfinished or --where.")
    silent = [name for name in shares if name not in losses]
    if silent and len(silent) < len(shares):
        notes = (
            *notes,
            f"The table has no loss of {', '.join(silent)}; such a source counts by what it does "
            "to the losses there are.",
        )
    return Mixtures(
        tuple(shares),
        tuple(losses),
        divided,
        _logs([sizes[name] for name in varying], rows.height),
        varying,
        {n: float(c[0]) for n, c in sizes.items() if c is not None and n not in varying},
        np.column_stack(list(losses.values())),
        unit_of(rows),
        rows,
        notes,
    )


def read_points(contents: Contents, mapping: Mapping[str, str], like: Mixtures) -> Mixtures:
    """Mixtures to predict, with their losses where the file has them.

    N and D of a point without them are the largest of the table.

    Raises:
        TableError: a source of the table has no share, another has one, or they are none.
    """
    rows = numbered(contents.frame)
    if rows.height == 0:
        raise TableError("the table has no rows.")
    shares = _family(SHARE, rows, mapping)
    for name in (*like.sources, *shares):
        if name not in shares:
            raise TableError(
                f"there is no column share_{name}; a point needs the shares of all of "
                f"{', '.join(like.sources)}."
            )
        if name not in like.sources and shares[name].any():
            raise TableError(
                f"share_{name}: the table has no source {name!r}.{nearest(name, like.sources)}"
            )
    divided, notes = _shares({name: shares[name] for name in like.sources}, rows)
    losses = _family(LOSS, rows, mapping)
    nothing = np.full(rows.height, np.nan)
    given = {name: _size(name, rows, mapping) for name in _SIZES}
    columns = []
    for place, name in enumerate(like.size_names):
        column = given[name]
        largest = np.full(rows.height, np.exp(like.sizes[:, place].max()))
        columns.append(largest if column is None else column)
    return Mixtures(
        like.sources,
        like.targets,
        divided,
        _logs(columns, rows.height),
        like.size_names,
        like.constant,
        np.column_stack([losses.get(name, nothing) for name in like.targets]),
        like.loss_unit,
        rows,
        tuple(f"Of the points: {note}" for note in notes),
        _other_sizes(given, like.constant),
    )


def _other_sizes(
    given: Mapping[str, Array | None], constant: Mapping[str, float]
) -> tuple[str, ...]:
    """A sentence where points have another N or D than all rows of the table."""
    others = [
        (name, column)
        for name, column in given.items()
        if column is not None
        and name in constant
        and max(column.max() / constant[name], constant[name] / column.min()) > SAME
    ]
    if not others:
        return ()
    theirs = " and ".join(f"{SYMBOLS[name]} {size_range(column)}" for name, column in others)
    ours = " and ".join(f"{SYMBOLS[name]} {short(constant[name])}" for name, _ in others)
    return (
        f"the points have {theirs}, and every row of the table {ours}: losses are foretold at the "
        "table's size, so that only the order and the choice of the points carry over.",
    )


def _family(family: str, rows: pl.DataFrame, mapping: Mapping[str, str]) -> dict[str, Array]:
    """The columns of a family, by the source's name."""
    columns: dict[str, str] = {}
    given = mapping.get(family, mapping.get(f"{family}*"))
    before, star, after = (given or family).partition("*")
    for column in rows.columns:
        name = column.removeprefix(before).removesuffix(after)
        if column.startswith(before) and column.endswith(after) and name and column not in _OTHER:
            columns[name] = column
    if given is not None and not columns:
        raise TableError(
            f"{option(family, given)}: no column's name begins with {before!r}"
            f"{f' and ends with {after!r}' if star and after else ''}; the table has "
            f"{', '.join(rows.columns[:6])}, …"
        )
    columns |= {
        name.removeprefix(family): text
        for name, text in mapping.items()
        if name.startswith(family) and name not in (family, f"{family}*", *_OTHER)
    }
    if family == SHARE:
        # 18.9% is a share as it stands; the row's sum says that it is of a hundred.
        texts = [text for text in {*columns.values()} if rows.schema.get(text) == pl.String]
        rows = rows.with_columns(pl.col(texts).str.strip_suffix("%"))
    return {name: _numbers(f"{family}{name}", text, rows) for name, text in columns.items()}


def _size(name: str, rows: pl.DataFrame, mapping: Mapping[str, str]) -> Array | None:
    """A column of N or D; None where the table has none."""
    own = {each: text for each, text in mapping.items() if not each.startswith((SHARE, LOSS))}
    text = resolve(rows.columns, own, _ALIASES).get(name)
    if text is None:
        return None
    column = _numbers(name, text, rows, count=True)
    _refuse(rows, ~(column > 0) | ~np.isfinite(column), f"{name} is no positive number")
    return column


def _numbers(name: str, text: str, rows: pl.DataFrame, *, count: bool = False) -> Array:
    """A column of numbers, or the arithmetic of --map; nan where a cell is empty."""
    kind: Kind = "count" if count else "plain"
    if text in rows.columns:
        column = read_numbers(rows[text], rows, kind=kind)[0]
    else:
        column = evaluate(option(name, text), text, rows, rows=rows, kind=kind)
    return column.fill_null(float("nan")).to_numpy().astype(float)


def _shares(shares: Mapping[str, Array], rows: pl.DataFrame) -> tuple[Array, tuple[str, ...]]:
    """Shares that sum to 1, and a sentence where they did not.

    Raises:
        TableError: a share is missing or negative, or a row sums neither to 1 nor to 100.
    """
    for name, column in shares.items():
        bad = ~(column >= 0) | ~np.isfinite(column)
        _refuse(rows, bad, f"share_{name} is missing or negative; write 0 for none")
    values = np.column_stack(list(shares.values()))
    sums = values.sum(axis=1)
    whole = 100.0 if np.median(sums) > 10 else 1.0
    off = np.abs(sums / whole - 1) > _ROUNDING
    if off.any():
        first = sums[off][0]
        raise TableError(
            f"the shares of a row should sum to 1 (or to 100, as percentages), not to {first:.4g}. "
            "Map a missing source's column, or divide each row by its sum.",
            rows.filter(pl.Series(off)),
        )
    low, high = float(sums.min()), float(sums.max())
    notes: tuple[str, ...] = ()
    if max(abs(low - 1), abs(high - 1)) > 1e-6:
        ends = f"{low:.4g}" if high - low < 1e-6 else f"{low:.4g} to {high:.4g}"
        notes = (f"The shares of a row sum to {ends}; each row was divided by its sum.",)
    return values / sums[:, None], notes


def size_range(sizes: Array) -> str:
    """One N or D, or the smallest and the largest, in words."""
    low, high = float(sizes.min()), float(sizes.max())
    return between(low, high) if high > SAME * low else short(high)


def _refuse(rows: pl.DataFrame, bad: NDArray[np.bool_], words: str) -> None:
    if bad.any():
        raise TableError(
            f"{words}. Correct the table, or leave the rows out with --where.",
            rows.filter(pl.Series(bad)),
        )


def _varies(column: Array | None) -> bool:
    return column is not None and float(column.max() / column.min()) > SAME


def _logs(columns: Sequence[Array | None], height: int) -> Array:
    logs = [np.log(column) for column in columns if column is not None]
    return np.column_stack(logs) if logs else np.zeros((height, 0))


def _lacking(
    shares: Mapping[str, Array], losses: Mapping[str, Array], columns: Sequence[str]
) -> str:
    """The message that there are too few shares, or no losses."""
    ours = ("row", "excluded_reason", LINE)
    shown = ", ".join([name for name in columns if name not in ours][:8])
    family, what, count = (LOSS, "losses by source", 0) if len(shares) > 1 else (
        SHARE, "shares of sources", len(shares)
    )  # fmt: skip
    less = "no columns" if count == 0 else "only one column"
    return (
        f"there are {less} {family}NAME with {what} among {shown}. Name them with "
        f"--map {family}NAME=COLUMN, or all at once with --map {family}=BEGINNING_OF_THEIR_NAMES."
    )


def rows_of(mixtures: Mixtures, places: Sequence[int]) -> str:
    """Rows in a message, as the file counts them."""
    return name_rows(mixtures.frame[list(places)])
