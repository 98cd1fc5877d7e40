"""Repeated data: how fast tokens seen again and excess parameters lose their worth.

Muennighoff et al. 2023 (arXiv:2305.16264), section 3.1: with U unique tokens, D tokens seen
count as D' = U + U·R_D·(1 - exp(-(D/U - 1)/R_D)), and N parameters as the same expression
around U_N, the compute-optimal size for U tokens, with R_N.
"""

from collections.abc import Callable

import numpy as np
import polars as pl

from analysis.forms import Optimum, Problem
from analysis.law import LossLaw, Repetition
from analysis.observations import TableError
from analysis.solver import Array

_GRID = np.linspace(np.log(0.05), np.log(2000.0), 33)
_STENCIL = np.stack([g.ravel() for g in np.meshgrid([-2, -1, 0, 1, 2], [-2, -1, 0, 1, 2])], axis=1)


def effective(seen: Array, unique: Array, R: Array) -> Array:
    """What `seen` is worth in fresh units when only `unique` of it is fresh; broadcasts."""
    fresh = np.minimum(seen, unique)
    repeats = np.maximum(seen / unique - 1.0, 0.0)
    return np.asarray(fresh + unique * R * -np.expm1(-repeats / R))


def optimal_size_for_tokens(constants: dict[str, float], tokens: Array) -> Array:
    """The N for which `tokens` is the compute-optimal D (their appendix A)."""
    alpha, beta = constants["alpha"], constants["beta"]
    ratio = alpha * constants["A"] / (beta * constants["B"])
    return np.asarray((ratio * tokens**beta) ** (1 / alpha))


def predict(law: LossLaw, N: Array, D: Array, U: Array) -> Array:
    """Loss of a law with repetition at D tokens seen of which U are unique; broadcasts.

    Raises:
        ValueError: the law has no repetition.
    """
    if law.repetition is None:
        raise ValueError(f"law {law.name} says nothing about repeated data.")
    constants = {name: getattr(law, name) for name in ("A", "B", "alpha", "beta")}
    U_N = optimal_size_for_tokens(constants, np.minimum(U, D))
    R_D, R_N = np.asarray(law.repetition.R_D), np.asarray(law.repetition.R_N)
    return law.loss(effective(N, U_N, R_N), effective(D, U, R_D))


def fit_repetition(
    problem: Problem, optimum: Optimum, used: pl.DataFrame, n_column: str
) -> Repetition:
    """R_D and R_N with the fresh-data law held, as in their appendix; a grid, then a
    stencil around each of its best points that moves downhill and shrinks where it cannot.

    Raises:
        TableError: no row repeats data.
    """
    if not (used["tokens"] > used["unique_tokens"]).any():
        raise TableError(
            "no row has tokens above unique_tokens, so nothing tells what repeating costs. "
            "Fit form chinchilla instead."
        )
    point = {key: float(value[0]) for key, value in problem.constants(optimum.x[None]).items()}
    N, D, U, loss = (
        used[c].to_numpy().astype(float) for c in (n_column, "tokens", "unique_tokens", "val_loss")
    )
    weights = used["weight"].to_numpy() if "weight" in used.columns else np.ones(len(N))
    U_N = optimal_size_for_tokens(point, np.minimum(U, D))

    def value(log_R: Array) -> Array:
        R_D, R_N = np.exp(log_R[:, 0, None]), np.exp(log_R[:, 1, None])
        A, B = point["A"], point["B"]
        reducible = (
            A * effective(N, U_N, R_N) ** -point["alpha"]
            + B * effective(D, U, R_D) ** -point["beta"]
        )
        residual = problem.objective.residual(np.log(point["E"] + reducible), loss)
        return np.asarray((problem.objective.penalty(residual) * weights).sum(-1))

    mesh = np.stack([g.ravel() for g in np.meshgrid(_GRID, _GRID, indexing="ij")], axis=1)
    ends = [_descend(value, start) for start in mesh[np.argsort(value(mesh))[:4]]]
    best = min(ends, key=lambda end: float(value(end[None])[0]))
    return Repetition(R_D=float(np.exp(best[0])), R_N=float(np.exp(best[1])))


def _descend(value: Callable[[Array], Array], centre: Array) -> Array:
    """The local minimum below a start, to ten digits of the logs."""
    reach = float(_GRID[1] - _GRID[0]) / 2
    while reach > 1e-10:
        points = np.clip(centre + reach * _STENCIL, _GRID[0], _GRID[-1])
        best = points[int(np.argmin(value(points)))]
        if np.array_equal(best, centre) or value(best[None])[0] >= value(centre[None])[0]:
            reach /= 2
        else:
            centre = best
    return centre
