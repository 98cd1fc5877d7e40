"""The rows a forecast learns from: ln N, ln D, ln L, and how many runs each stands for."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.law import Array
from analysis.table.cells import tried_settings
from analysis.table.observations import Table, TableError
from analysis.table.states import nothing_left

FEWEST_PLACES, FEWEST_SIZES = 10, 3
NEEDS = (
    f"a forecast needs losses at {FEWEST_PLACES} pairs of N and D and {FEWEST_SIZES} sizes or more"
)
# The cost grows with the cube of the rows; beyond this many, neighbours are averaged.
_MOST = 500
_FEWEST_REPLICATES = 3


@dataclass(frozen=True, slots=True)
class Rows:
    """Logs of N, D and loss, (rows,) each.

    Attributes:
        count: runs that a row is the mean of.
        replicated_sd: deviation of ln L between runs of one N and D; None without enough of them.
    """

    n: Array
    d: Array
    y: Array
    count: Array
    replicated_sd: float | None = None

    def __len__(self) -> int:
        return len(self.y)

    def only(self, kept: NDArray[np.bool_]) -> "Rows":
        """The rows marked in `kept`."""
        return Rows(self.n[kept], self.d[kept], self.y[kept], self.count[kept], self.replicated_sd)


def too_few(used: pl.DataFrame) -> str:
    """How many pairs of N and D and sizes the rows have, in words; empty where they are enough.

    Seeds of one pair count once: they tell the noise there, and nothing about another N or D.
    """
    pairs, sizes = used.n_unique(["n_params", "tokens"]), used["n_params"].n_unique()
    if pairs >= FEWEST_PLACES and sizes >= FEWEST_SIZES:
        return ""
    return f"{pairs} of {sizes}" + f" in {used.height} rows" * (pairs < used.height)


def rows_of(table: Table) -> Rows:
    """The used rows of a table; runs of one N and D averaged, and neighbours beyond 500 rows.

    Raises:
        TableError: fewer than 10 pairs of N and D or 3 sizes.
    """
    used = table.used
    if not used.height:
        raise TableError(nothing_left(table.frame))
    if few := too_few(used):
        raise TableError(f"{NEEDS}; the table has {few}. Train more runs; isoflop fit takes fewer.")
    logs = used.select(
        n=pl.col("n_params").cast(pl.Float64).log(),
        d=pl.col("tokens").cast(pl.Float64).log(),
        y=pl.col("val_loss").cast(pl.Float64).log(),
    )
    # The same row twice is one run.
    cells = (
        logs.unique(maintain_order=True)
        .group_by("n", "d", maintain_order=True)
        .agg(pl.col("y").mean(), pl.col("y").var().alias("variance"), pl.len().alias("count"))
    )
    # Runs of other settings differ by more than noise.
    return _averaged(cells, None if tried_settings(used) else _replicated_sd(cells))


def _replicated_sd(cells: pl.DataFrame) -> float | None:
    repeated = cells.filter(pl.col("count") > 1)
    freedom = int((repeated["count"].cast(pl.Int64) - 1).sum())
    if freedom < _FEWEST_REPLICATES:
        return None
    pooled = float((repeated["variance"] * (repeated["count"] - 1)).sum()) / freedom
    return float(np.sqrt(pooled)) or None


def _averaged(cells: pl.DataFrame, replicated_sd: float | None) -> Rows:
    """Means over squares of the plane of ln ND and ln D/N, as small as leaves 500 rows."""
    side = 0.0
    while cells.height > _MOST:
        side = side * 1.25 if side else 0.02
        squares = cells.group_by(
            ((pl.col("n") + pl.col("d")) / side).floor().alias("product"),
            ((pl.col("d") - pl.col("n")) / side).floor().alias("ratio"),
            maintain_order=True,
        )
        weight = pl.col("count")
        means = squares.agg(
            *((pl.col(c) * weight).sum() / weight.sum() for c in ("n", "d", "y")),
            weight.sum().alias("count"),
        )
        if means.height <= _MOST:
            cells = means
    n, d, y, count = cells.select("n", "d", "y", "count").to_numpy().astype(float).T
    return Rows(n, d, y, count, replicated_sd)
