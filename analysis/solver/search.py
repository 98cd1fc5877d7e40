"""The best optimum of many starts, and how many of them agree on it."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.law import Array
from analysis.solver.lad import polish_lad
from analysis.solver.newton import Solution
from analysis.solver.objective import Objective
from analysis.solver.problem import Problem, make_problem
from analysis.solver.starts import starting_points

_DIRECT = 4  # starts that also go to the objective without continuation
_E_SMALL = 5.0  # an E this many e-folds below the losses is tried against E = 0
# Coordinates closer than this, relative to 1 + their size, are the same optimum.
_SAME = 1e-5
# Steps on the way through larger deltas need not be finished.
_ROUGH = 1e-4


@dataclass(frozen=True, slots=True)
class Optimum:
    """The best point found, and how it was found.

    Attributes:
        x: coordinates (q,).
        value: the objective, unsmoothed, under the problem's weights.
        gradient_norm: Euclidean, over coordinates not on a bound.
        starts, agree: how many starts were run and how many ended here.
        second_best: value of the next basin when it is within 5 %, with its coordinates.
        at_bound: names of coordinates on their box; `E` when it was driven to zero.
        unmoved: names of coordinates that ended where the best start had put them.
    """

    x: Array
    value: float
    gradient_norm: float
    converged: bool
    starts: int
    agree: int
    second_best: tuple[float, Array] | None
    at_bound: tuple[str, ...]
    unmoved: tuple[str, ...]


def find_optimum(problem: Problem) -> tuple[Problem, Optimum]:
    """Minimise from many starts at once.

    Returns:
        the optimum with its problem: the one given, or the one with E held at zero when
        the data drive E there.
    """
    optimum = _search(problem)
    if "E" not in problem.free:
        return problem, optimum
    low = np.log(problem.rows.loss.min()) - optimum.x[problem.free.index("E")] > _E_SMALL
    if not low:
        return problem, optimum
    reduced = make_problem(
        problem.form, problem.objective, problem.rows, problem.weights, zero_E=True
    )
    at_zero = _search(reduced)
    if at_zero.value > optimum.value * (1 + 1e-6):
        return problem, optimum
    return reduced, replace(at_zero, at_bound=("E", *at_zero.at_bound))


def _search(problem: Problem) -> Optimum:
    """All starts to their ends, and the best of them."""
    starts = starting_points(problem)
    objective = problem.objective
    if objective.name in ("mse", "mse_log"):
        return _judge(problem, starts, problem.solve(starts))
    # With a delta well below the scatter the objective has many shallow basins: approach
    # it through larger deltas, and from the best starts directly as well.
    smooth = replace(problem, objective=Objective("mse_log"))
    x = smooth.solve(starts, max_iterations=60, tolerance=_ROUGH).x
    distinct, member = _distinct(x)
    scale = float(np.median(np.abs(smooth.residuals(distinct)), axis=1).min())
    x = _continued(problem, distinct, scale)
    x = np.concatenate([x, starts[:_DIRECT]])
    direct = np.arange(_DIRECT) + len(distinct)
    solution = problem.solve(x)
    if objective.name == "lad_log":
        solution = polish_lad(problem, solution)
    return _judge(problem, starts, solution, np.concatenate([member, direct]))


def _continued(problem: Problem, x: Array, scale: float) -> Array:
    """Follow the optimum while delta falls from the scatter to the objective's own."""
    objective = problem.objective
    for delta in (3 * scale, scale / 3, scale / 30):
        if delta > 2 * objective.delta:
            step = replace(problem, objective=Objective(objective.name, delta))
            x = step.solve(x, max_iterations=40, tolerance=_ROUGH).x
    return x


def _distinct(x: Array) -> tuple[Array, NDArray[np.intp]]:
    """The different points among x, and for each x the index of its point."""
    chosen: list[int] = []
    member = np.zeros(len(x), np.intp)
    for i, point in enumerate(x):
        apart = np.abs(x[chosen] - point).max(axis=1) / (1 + np.abs(point).max())
        near = np.flatnonzero(apart < 10 * _ROUGH)
        member[i] = near[0] if len(near) else len(chosen)
        if not len(near):
            chosen.append(i)
    return x[chosen], member


def _judge(
    problem: Problem, starts: Array, solution: Solution, member: NDArray[np.intp] | None = None
) -> Optimum:
    """Choose the lowest end and count the starts that arrived there.

    Args:
        member: for each start, the row of `solution` that continued it; by default its own.
            A start that was searched in two ways counts twice.
    """
    member = np.arange(len(starts)) if member is None else member
    value = problem.value(solution.x)
    value = np.where(np.isfinite(value), value, np.inf)
    best = int(np.lexsort((~solution.converged, value))[0])
    x = solution.x[best]
    same = (np.abs(solution.x - x) / (1 + np.abs(x))).max(axis=1) < _SAME
    others = np.flatnonzero(~same & solution.converged & (value <= 1.05 * value[best]))
    second = min(others, key=lambda k: value[k]) if len(others) else None
    on_bound = solution.at_bound[best]
    origin = starts[int(np.flatnonzero(member == best)[0]) % len(starts)]
    unmoved = np.abs(x - origin) < 1e-12
    return Optimum(
        x=x,
        value=float(value[best]),
        gradient_norm=float(np.linalg.norm(solution.gradient[best][~on_bound])),
        converged=bool(solution.converged[best]),
        starts=len(member),
        agree=int(same[member].sum()),
        second_best=None if second is None else (float(value[second]), solution.x[second]),
        at_bound=tuple(n for n, on in zip(problem.free, on_bound, strict=True) if on),
        unmoved=tuple(n for n, on in zip(problem.free, unmoved, strict=True) if on),
    )
