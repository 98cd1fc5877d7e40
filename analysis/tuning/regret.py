"""How far runs are from a fitted law, and the loss that this leaves on the table."""

import numpy as np
import polars as pl

from analysis.law import Array
from analysis.tuning.study_law import StudyLaw, StudyRange, SurfaceOptimum

# N or D within this factor of a law's range counts as inside it.
NEAR = 1.2


def left_on_table(runs: pl.DataFrame, law: StudyLaw) -> pl.DataFrame:
    """Distance of each run from the recipe's optimum, and the loss it is predicted to cost.

    The cost is half the squared distance in logs, weighed with the curvature of the surface that
    is nearest in N and D. Where that surface is far from a run, both are extrapolated.

    Args:
        runs: name, n_params, tokens, lr, batch_tokens.

    Returns:
        the runs with `lr_best` and `batch_best` (null where the law is not identified),
        `lr_ratio` and `batch_ratio` (used over best), `loss_left` in nats per token and `outside`,
        whether N or D is beyond the law's range.
    """
    rows, recipe = [], law.recipe
    for run in runs.iter_rows(named=True):
        N, D = float(run["n_params"]), float(run["tokens"])
        lr, batch = recipe.lr.at(N, D), recipe.batch.at(N, D)
        distance = {
            "lr": np.log(run["lr"] / lr) if lr else 0.0,
            "batch_tokens": np.log(run["batch_tokens"] / batch) if batch else 0.0,
        }
        rows.append(
            {
                **run,
                "lr_best": lr,
                "batch_best": batch,
                "lr_ratio": run["lr"] / lr if lr else None,
                "batch_ratio": run["batch_tokens"] / batch if batch else None,
                "loss_left": _cost(distance, law.optima, N, D) if lr else None,
                "outside": _outside(law.support, N, D),
            }
        )
    names = ("lr_best", "batch_best", "lr_ratio", "batch_ratio", "loss_left")
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(names, pl.Float64))


def _cost(
    distance: dict[str, float], optima: tuple[SurfaceOptimum, ...], N: float, D: float
) -> float:
    nearest = min(
        optima, key=lambda optimum: abs(np.log(optimum.N / N)) + abs(np.log(optimum.D / D))
    )
    z = np.array([distance.get(name, 0.0) for name in nearest.axes])
    return float(z @ _convex(np.array(nearest.curvature)) @ z / 2)


def _convex(curvature: Array) -> Array:
    """The curvature without directions in which the surface falls, which no optimum has."""
    values, vectors = np.linalg.eigh(curvature)
    return np.asarray((vectors * values.clip(0)) @ vectors.T)


def _outside(support: StudyRange, N: float, D: float) -> bool:
    ranges = ((N, support.N), (D, support.D))
    return any(not low / NEAR <= value <= high * NEAR for value, (low, high) in ranges)
