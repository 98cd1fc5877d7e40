"""Whether rows that name no run look like checkpoints of a few."""

import numpy as np
import polars as pl
from scipy.special import fdtrc

from analysis.law import Array

_FEWEST_SIZES, _FEWEST_POINTS = 4, 5
# Independent runs look like this once in a million tables.
_CHANCE = 1e-6
# Share of the residuals' variance that rows of one N have in common.
_SHARED = 0.8


def looks_like_curves(used: pl.DataFrame) -> bool:
    """Whether the rows of each N lie together, above or below the law, as those of one run do.

    Args:
        used: n_params, tokens, and `residual`, the log loss above the law's.
    """
    often = used.filter(pl.col("tokens").n_unique().over("n_params") >= _FEWEST_POINTS)
    sizes = often["n_params"].n_unique()
    if sizes < _FEWEST_SIZES or often.height < 0.8 * used.height:
        return False
    N, D = (np.log(often[c].to_numpy().astype(float)) for c in ("n_params", "tokens"))
    u, v = ((x - x.mean()) / max(np.ptp(x), 1e-12) for x in (N, D))
    # What bends smoothly along N and D is the law's misfit, not a run's luck.
    smooth = np.stack([u**i * v**j for i in range(4) for j in range(4 - i)], axis=1)
    steps = (often["n_params"].to_numpy()[:, None] == np.unique(often["n_params"])).astype(float)
    residual = often["residual"].to_numpy()
    before, rank = _unexplained(smooth, residual)
    after, rank_apart = _unexplained(np.hstack([smooth, steps]), residual)
    free = (rank_apart - rank, len(residual) - rank_apart)
    if free[0] < 1 or free[1] < 1 or after <= 0:
        return False
    F = (before - after) / free[0] / (after / free[1])
    return bool(fdtrc(*free, F) < _CHANCE and 1 - after / before > _SHARED)


def _unexplained(columns: Array, residual: Array) -> tuple[float, int]:
    """The sum of squares that the columns leave, and their rank."""
    solution, _, rank, _ = np.linalg.lstsq(columns, residual, rcond=1e-10)
    return float(((residual - columns @ solution) ** 2).sum()), int(rank)
