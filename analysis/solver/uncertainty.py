"""The uncertainty of a fitted law: resampling, and the curvature of its objective."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from analysis.law import FARTHEST, Array, Constants, central
from analysis.solver.newton import Solution
from analysis.solver.objective import Objective
from analysis.solver.problem import Problem

# A function of the constants, to named values; every interval is of one of these.
Quantities = Callable[[Constants], dict[str, Array]]
# Iterations of a solve that starts from the whole table's optimum. Good tables need about 30; on
# a table that determines nothing more steps would walk along a flat valley without end.
_WARM = 60
# Rows up to which each is left out by a refit; beyond, by a step of the optimum's derivatives.
# Refits cost rows x rows, and where rows are many one of them moves the optimum by little.
EXACT_ROWS = 500
_DRAWN_ELEMENTS = 2**22  # resamples x rows that are held at once


def bootstrap(
    problem: Problem, x: Array, *, draws: int, seed: int, clusters: NDArray[np.intp] | None = None
) -> Array:
    """Optima of resampled tables, each found from the optimum of the whole table.

    Rows are drawn with replacement, or whole clusters of rows (Efron and Tibshirani 1993,
    chapters 6 and 8). Resamples are weights, so all of them are one batch.

    Args:
        x: the optimum (q,), or several basins' optima (s, q): each draw keeps its best.
        clusters: for each row the number of its run; None resamples rows.

    Returns:
        coordinates (draws, q).
    """
    rows, rng = len(problem.rows.loss), np.random.default_rng(seed)
    most = max(1, _DRAWN_ELEMENTS // rows)
    parts = []
    for start in range(0, draws, most):
        part = min(most, draws - start)
        weights = resample(rows, part, rng, clusters) * problem.weights
        solutions = [_refit(problem, basin, weights) for basin in np.atleast_2d(x)]
        best = np.argmin([solution.value for solution in solutions], axis=0)
        parts.append(np.stack([solution.x for solution in solutions])[best, np.arange(part)])
    return np.concatenate(parts)


def resample(
    rows: int, draws: int, seed: int | np.random.Generator, clusters: NDArray[np.intp] | None = None
) -> Array:
    """The count of each row in each resampled table, (draws, rows)."""
    rng = np.random.default_rng(seed)
    units = rows if clusters is None else int(clusters.max()) + 1
    picks = rng.integers(units, size=(draws, units)) + units * np.arange(draws)[:, None]
    counts = np.bincount(picks.ravel(), minlength=draws * units).reshape(draws, units)
    return np.asarray(counts if clusters is None else counts[:, clusters], float)


def covariances(
    problem: Problem, x: Array, clusters: NDArray[np.intp] | None = None
) -> dict[str, Array]:
    """Covariance of the coordinates by two ways, both with the factor n/(n - p).

    `information`: residuals of every row are alike in distribution (Huber 1981, section 7.6).
    `sandwich`: they may differ by row, and be correlated within a cluster (White 1982).
    """
    slope = problem.slope(x)
    psi, bend = score(problem, problem.residuals(x[None])[0])
    weights = problem.weights
    n, p = slope.shape

    pooled = _inverse(slope, weights * bend.mean())
    squares = (psi**2).mean() * (slope * (weights**2)[:, None]).T @ slope
    scores = slope * (weights * psi)[:, None]
    if clusters is not None:
        summed = np.zeros((int(clusters.max()) + 1, p))
        np.add.at(summed, clusters, scores)
        scores = summed
    by_row = _inverse(slope, weights * bend)
    correction = n / max(n - p, 1)
    return {
        "information": correction * pooled @ squares @ pooled,
        "sandwich": correction * by_row @ (scores.T @ scores) @ by_row,
    }


def inverse_curvature(problem: Problem, x: Array) -> Array:
    """Inverse of the objective's smoothed Hessian, in the coordinates (q, q)."""
    slope = problem.slope(x)
    _, bend = score(problem, problem.residuals(x[None])[0])
    return _inverse(slope, problem.weights * bend)


def _inverse(slope: Array, weights: Array) -> Array:
    """Inverse of slope' diag(weights) slope."""
    return np.asarray(np.linalg.pinv((slope * weights[:, None]).T @ slope, hermitian=True))


def score(problem: Problem, residual: Array) -> tuple[Array, Array]:
    """The penalty's derivative at each residual, and that derivative's slope.

    A penalty with a kink has a slope only where residuals are small, and few rows are: the
    share of rows within delta is read off a wider window around zero (Powell 1991).
    """
    objective, n = problem.objective, len(residual)
    if objective.name in ("mse", "mse_log"):
        return residual, np.ones(n)
    spread = float(np.median(np.abs(residual))) / 0.6745
    if objective.name == "huber_log":
        window = max(objective.delta, 1.06 * spread * n**-0.2)
        slope, psi = objective.delta / window, np.clip(residual, -objective.delta, objective.delta)
    else:
        window = 1.06 * spread * n**-0.2 + 1e-300
        slope, psi = 1 / window, np.sign(residual)
    return psi, np.where(np.abs(residual) <= window, slope, 1e-3 * slope)


def delta_intervals(
    problem: Problem, x: Array, covariance: Array, quantities: Quantities, level: float
) -> dict[str, tuple[float, float]]:
    """Intervals by the delta method, Student's t with n - p degrees of freedom.

    Positive quantities get theirs on the log scale.
    """
    step = 1e-5
    shifts = np.eye(len(x)) * step
    points = np.concatenate([x[None], x + shifts, x - shifts])
    width = float(stdtrit(max(len(problem.rows.loss) - len(x), 1), 0.5 + level / 2))
    intervals = {}
    for name, value in quantities(problem.constants(points)).items():
        if not (value > 0).all():
            continue
        logs = np.log(value)
        up, down = np.split(logs[1:], 2)
        gradient = (up - down) / (2 * step)
        half = width * float(np.sqrt(max(gradient @ covariance @ gradient, 0.0)))
        half = min(half, FARTHEST)
        intervals[name] = (float(np.exp(logs[0] - half)), float(np.exp(logs[0] + half)))
    return intervals


def percentile_intervals(
    draws: Mapping[str, Array], level: float
) -> dict[str, tuple[float, float]]:
    """Percentile intervals (Efron and Tibshirani 1993, chapter 13)."""
    return {name: central(column, level) for name, column in draws.items()}


def influence(problem: Problem, x: Array) -> Array:
    """The effect of leaving out each row on the exponent of N*, averaged over resampled tables.

    Minus the covariance of the row's count with the exponent (the infinitesimal jackknife of
    a bagged estimate, Efron 2014). Leaving rows out one by one misses rows that stand in for
    each other: here the others are absent in half of the tables. Beyond `EXACT_ROWS`, where the
    two no longer differ, by `leave_one_out`.
    """
    if len(problem.rows.loss) > EXACT_ROWS:
        whole = problem.constants(x[None]).exponent_N
        return np.asarray(problem.constants(leave_one_out(problem, x)).exponent_N - whole)
    # The covariance needs many resamples; forms of more than five constants take long over each.
    resamples = 4000 if problem.form in ("chinchilla", "tied") else 1000
    counts = resample(len(problem.rows.loss), resamples, seed=0)
    exponent = problem.constants(_refit(problem, x, counts * problem.weights).x).exponent_N
    centred = counts - counts.mean(axis=0)
    return np.asarray(-(exponent - exponent.mean()) @ centred / resamples)


def leave_one_out(problem: Problem, x: Array) -> Array:
    """The optimum without each row in turn, (rows, q): refits up to `EXACT_ROWS`, else steps."""
    rows = np.arange(len(problem.rows.loss))
    return refit_without(problem, x, rows) if len(rows) <= EXACT_ROWS else step_without(problem, x)


def refit_without(problem: Problem, x: Array, rows: NDArray[np.intp]) -> Array:
    """The optimum without each of the rows alone, (len(rows), q); exact refits, one batch."""
    weights = np.repeat(problem.weights[None], len(rows), axis=0)
    weights[np.arange(len(rows)), rows] = 0.0
    return _refit(problem, x, weights).x


def step_without(problem: Problem, x: Array) -> Array:
    """The optimum without each row in turn by one Newton step from x, (rows, q).

    Without row i the gradient at the optimum is minus the row's own and the Hessian lacks the
    row's own, which the formula of Sherman and Morrison (1950) takes out of the inverse (Cook
    and Weisberg 1982, section 5.2). Coordinates at the edge of their box stay there.
    """
    psi, bend = score(problem, problem.residuals(x[None])[0])
    slope = problem.slope(x) * ((x > problem.chart.lower) & (x < problem.chart.upper))
    towards = slope @ _inverse(slope, problem.weights * bend)
    leverage = problem.weights * bend * (towards * slope).sum(axis=1)
    # A row that alone determines a coordinate leaves it undetermined: its step is bounded.
    length = problem.weights * psi / np.maximum(1 - leverage, 0.1)
    ends = x + towards * length[:, None]
    return np.asarray(np.clip(ends, problem.chart.lower, problem.chart.upper))


def _refit(problem: Problem, x: Array, weights: Array) -> Solution:
    """The optimum under each of the weights (s, rows), found from the optimum x (q,)."""
    starts = np.repeat(x[None], len(weights), axis=0)
    smooth = smoothed(problem, x)
    return smooth.solve(starts, weights, max_iterations=_WARM, tolerance=1e-8)


def smoothed(problem: Problem, x: Array, *, parts: int = 100) -> Problem:
    """The problem itself; for lad_log with a delta that a Newton step can resolve.

    A delta of a hundredth of the scatter moves an optimum by far less than a resample does.

    Args:
        parts: the scatter over delta.
    """
    if problem.objective.name != "lad_log":
        return problem
    scatter = float(np.median(np.abs(problem.residuals(x[None])[0])))
    return replace(problem, objective=Objective("lad_log", max(scatter / parts, 1e-12)))
