"""Least absolute deviations to the last digit.

The optimum of a sum of absolute values lies where as many residuals vanish as there are
parameters, and no smooth penalty reaches it exactly. From the end of a smoothed search a few
linear programs do: each minimises the linearised sum within a trust region
(Osborne and Watson 1971).
"""

from dataclasses import replace

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array, eye_array, hstack

from analysis.law import Array
from analysis.solver.newton import Solution
from analysis.solver.problem import Problem

_MOST_PROGRAMS = 60


def polish_lad(problem: Problem, solution: Solution, *, most: int = 3) -> Solution:
    """Move the lowest `most` distinct ends of a smoothed search to their exact optimum.

    The other ends stay, marked as not converged.
    """
    order = np.argsort(problem.value(solution.x), kind="stable")
    x, gradient = solution.x.copy(), solution.gradient.copy()
    converged = np.zeros(len(x), bool)
    polished: list[int] = []
    for k in order:
        near = [j for j in polished if np.abs(solution.x[j] - solution.x[k]).max() < 1e-3]
        if near:
            x[k], gradient[k], converged[k] = x[near[0]], gradient[near[0]], True
        elif len(polished) < most:
            x[k], gradient[k], converged[k] = _descend(problem, solution.x[k])
            polished.append(int(k))
    lower, upper = problem.chart.lower, problem.chart.upper
    return replace(
        solution,
        x=x,
        value=problem.value(x),
        gradient=gradient,
        converged=converged,
        at_bound=(x <= lower) | (x >= upper),
    )


def _descend(problem: Problem, x: Array) -> tuple[Array, Array, bool]:
    """A point, the Lagrangian's gradient there (zero at an optimum), and whether it is one."""
    chart = problem.chart
    radius = 0.1
    value = float(problem.value(x[None])[0])
    lagrangian = np.full(len(x), np.inf)
    for _ in range(_MOST_PROGRAMS):
        program = _program(problem, x, radius)
        if program is None:
            break
        step, lagrangian = program
        size = np.abs(step).max()
        if size < 1e-11:
            return x, lagrangian, True
        trial = np.clip(x + step, chart.lower, chart.upper)
        trial_value = float(problem.value(trial[None])[0])
        if trial_value < value:
            x, value = trial, trial_value
            radius = min(2 * radius, 1.0)
        else:
            # No further descent that doubles can resolve: the linearised optimum is here.
            if size < 1e-8:
                return x, lagrangian, True
            radius = size / 4
    return x, lagrangian, False


def _program(problem: Problem, x: Array, radius: float) -> tuple[Array, Array] | None:
    """Minimise sum w |residual + slope step| within the trust region and the box.

    Written with positive and negative parts of each residual. The multipliers of the rows lie
    in [-w, w]; slope' multipliers is the remaining gradient, held by the region's edge.

    Returns:
        step and remaining gradient; None when the program has no solution.
    """
    residual, slope, weights = problem.residuals(x[None])[0], problem.slope(x), problem.weights
    lower, upper = problem.chart.lower, problem.chart.upper
    rows, size = slope.shape
    scale = np.abs(residual).mean() + 1e-300
    identity = eye_array(rows, format="csr")
    equal = hstack([csr_array(slope), -identity * scale, identity * scale], format="csr")
    bounds = [
        *zip(np.maximum(lower - x, -radius), np.minimum(upper - x, radius), strict=True),
        *[(0.0, None)] * (2 * rows),
    ]
    cost = np.concatenate([np.zeros(size), weights, weights])
    result = linprog(cost, A_eq=equal, b_eq=-residual, bounds=bounds, method="highs")
    if result.x is None:
        return None
    multipliers = np.asarray(result.eqlin.marginals) * scale
    return np.asarray(result.x[:size]), np.asarray(slope.T @ multipliers)
