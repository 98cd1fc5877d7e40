"""Approach 1 of Hoffmann et al. 2022: the lower envelope of all training curves.

Every point of every curve is a candidate (C, loss). The lower convex hull keeps those that
no mixture of others beats; the model that holds the hull at a compute gives N*(C) and D*(C).
A point in mid-training was reached with a learning rate meant for a longer run, so the envelope
lies above what runs of matched length reach: compare it with approaches 2 and 3.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import stdtrit

from analysis.fit.power_law import PowerLaw, power_law
from analysis.law import Array
from analysis.table.observations import TableError
from analysis.words import counted

_COLUMNS = ("run_id", "n_params", "tokens", "train_flops")
_BINS = 120  # log-spaced bins of a curve; each is represented by its median


@dataclass(frozen=True, slots=True)
class EnvelopeFit:
    """The hull and the power laws along it.

    Attributes:
        hull: one row a vertex: run_id, n_params, tokens, train_flops, loss, and `used`.
        N, D: power laws through the used vertices; their intervals come from leaving out each
            run in turn. None with the reason.
    """

    hull: pl.DataFrame
    N: PowerLaw | None
    D: PowerLaw | None
    reason: str


def fit_envelope(curves: pl.DataFrame, *, level: float = 0.9) -> EnvelopeFit:
    """Envelope of training curves and its power laws.

    Args:
        curves: rows with run_id, n_params, tokens, train_flops and train_loss.

    Raises:
        TableError: a column is missing, or a value is missing, not finite or not positive.
    """
    for name in (*_COLUMNS, "train_loss"):
        if name not in curves.columns:
            raise TableError(
                f"the curves have no column {name}; they have {', '.join(curves.columns)}."
            )
    points = curves.select(*_COLUMNS, pl.col("train_loss").alias("loss"))
    for name in points.columns[1:]:
        values = points[name].cast(pl.Float64)
        bad = points.with_row_index("row").filter(
            ~pl.Series(np.isfinite(values.to_numpy()) & (values.to_numpy() > 0))
        )
        if bad.height:
            raise TableError(f"{name} of a curve is missing, not finite or not positive.", bad)
    points = _thinned(points)
    hull = _hull(points)
    fitted = _laws(hull, level)
    if isinstance(fitted, str):
        return EnvelopeFit(hull, None, None, fitted)
    law_N, law_D = fitted
    jackknife = []
    for run in points["run_id"].unique(maintain_order=True):
        without = _laws(_hull(points.filter(pl.col("run_id") != run)), level)
        if not isinstance(without, str):
            jackknife.append([law.exponent for law in without])
    if len(jackknife) >= 3:
        law_N = _with_jackknife(law_N, np.array(jackknife)[:, 0], level)
        law_D = _with_jackknife(law_D, np.array(jackknife)[:, 1], level)
    return EnvelopeFit(hull, law_N, law_D, "")


def _thinned(points: pl.DataFrame) -> pl.DataFrame:
    """Each curve's median in log-spaced bins of compute: noise must not make the envelope."""
    bins = pl.col("train_flops").log()
    first, last = bins.min().over("run_id"), bins.max().over("run_id")
    place = ((bins - first) / (last - first + 1e-12) * (_BINS - 1)).round().cast(pl.Int64)
    return (
        points.with_columns(place.alias("bin"))
        .group_by("run_id", "bin", maintain_order=True)
        .agg(pl.col("n_params", "tokens", "train_flops", "loss").median())
        .drop("bin")
        .sort("train_flops")
    )


def _hull(points: pl.DataFrame) -> pl.DataFrame:
    """Vertices of the lower convex hull of loss over C, up to the lowest loss.

    The first vertices belong to the smallest model and the last to the largest, whatever
    would be best there: of each only the vertex next to its neighbour is used.
    """
    C, loss = points["train_flops"].to_numpy(), points["loss"].to_numpy()
    chain: list[int] = []
    for i in range(len(loss)):
        while len(chain) >= 2 and _above(C, loss, chain[-2], chain[-1], i):
            chain.pop()
        chain.append(i)
    lowest = int(np.argmin(loss[chain]))
    hull = points[chain[: lowest + 1]]
    N = hull["n_params"].to_numpy()
    head, tail = (
        int((np.cumsum(N[0] != N) == 0).sum()),
        int((np.cumsum(N[-1] != N[::-1]) == 0).sum()),
    )
    place = np.arange(len(N))
    used = (place >= head - 1) & (place <= len(N) - tail)
    return hull.with_columns(pl.Series("used", used))


def _above(C: Array, loss: Array, a: int, b: int, c: int) -> bool:
    """Whether b lies on or above the line from a to c."""
    return bool((loss[b] - loss[a]) * (C[c] - C[a]) >= (loss[c] - loss[a]) * (C[b] - C[a]))


def _laws(hull: pl.DataFrame, level: float) -> tuple[PowerLaw, PowerLaw] | str:
    used = hull.filter(pl.col("used"))
    sizes = used["n_params"].n_unique()
    if sizes < 2 or used.height < 3:
        return (
            f"the envelope passes between only {counted(sizes, 'size')}: power laws need three "
            "points on two sizes. Train sizes further apart, or longer."
        )
    log_C = np.log(used["train_flops"].to_numpy())
    # A vertex weighs by the stretch of compute around it.
    weights = np.gradient(log_C)
    return (
        power_law(log_C, np.log(used["n_params"].to_numpy()), level, weights),
        power_law(log_C, np.log(used["tokens"].to_numpy()), level, weights),
    )


def _with_jackknife(law: PowerLaw, exponents: Array, level: float) -> PowerLaw:
    """The law with a jackknife interval of its exponent (Efron and Tibshirani 1993, ch. 11)."""
    n = len(exponents)
    se = float(np.sqrt((n - 1) / n * ((exponents - exponents.mean()) ** 2).sum()))
    half = float(stdtrit(n - 1, 0.5 + level / 2)) * se
    return PowerLaw(
        law.exponent, law.coef, (law.exponent - half, law.exponent + half), None, law.budgets
    )
