"""How far runs are from a fitted law, and the loss that this leaves on the table."""

from typing import Any

import numpy as np
import polars as pl

from analysis.tuning.surface import Array

# N or D within this factor of a law's range counts as inside it.
NEAR = 1.2


def left_on_table(runs: pl.DataFrame, document: dict[str, Any]) -> pl.DataFrame:
    """Distance of each run from the laws' optimum, and what it is predicted to cost.

    The cost is half the squared distance in logs, weighed with the curvature of the surface that
    is nearest in N and D. Where it was fitted far from a run, both are extrapolated.

    Args:
        runs: name, n_params, tokens, lr, batch_tokens.
        document: laws and optima, as `LrFit.as_json` gives them. Runs are compared with the
            recipe.

    Returns:
        the runs with `lr_best` and `batch_best` (null where the law is not identified),
        `lr_ratio` and `batch_ratio` (used over best), `loss_left` in nats per token and `outside`,
        whether N or D is beyond the law's range.
    """
    rows, recipe = [], document["recipe"]
    for run in runs.iter_rows(named=True):
        N, D = float(run["n_params"]), float(run["tokens"])
        lr, batch = law_at(recipe["lr"], N, D), law_at(recipe["batch"], N, D)
        away = {
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
                "loss_left": _cost(away, document["optima"], N, D) if lr else None,
                "outside": _outside(document["support"], N, D),
            }
        )
    names = ("lr_best", "batch_best", "lr_ratio", "batch_ratio", "loss_left")
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(names, pl.Float64))


def law_at(law: dict[str, Any], N: float, D: float) -> float | None:
    """A law's value from its document; None where it has no coefficient."""
    if law["coef"] is None:
        return None
    exponent_N, exponent_D = law.get("exponent_N") or 0.0, law.get("exponent_D") or 0.0
    return float(law["coef"] * N**exponent_N * D**exponent_D)


def _cost(away: dict[str, float], optima: list[dict[str, Any]], N: float, D: float) -> float:
    nearest = min(
        optima, key=lambda found: abs(np.log(found["N"] / N)) + abs(np.log(found["D"] / D))
    )
    z = np.array([away.get(name, 0.0) for name in nearest["axes"]])
    return float(z @ _convex(np.array(nearest["curvature"])) @ z / 2)


def _convex(curvature: Array) -> Array:
    """The curvature without directions in which the surface falls, which no optimum has."""
    values, vectors = np.linalg.eigh(curvature)
    return np.asarray((vectors * values.clip(0)) @ vectors.T)


def _outside(support: dict[str, list[float]], N: float, D: float) -> bool:
    ends = ((N, support["N"]), (D, support["D"]))
    return any(not low / NEAR <= value <= high * NEAR for value, (low, high) in ends)
