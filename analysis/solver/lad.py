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
    weights, chart = problem.weights, problem.chart
    radius = 0.1
    value = float(problem.value(x[None])[0])
    lagrangian = np.full(len(x), np.inf)
    for _ in range(_MOST_PROGRAMS):
        residual, slope = problem.residuals(x[None])[0], problem.slope(x)
        step, lagrangian = _program(residual, slope, weights, radius, x, chart.lower, chart.upper)
        trial = np.clip(x + step, chart.lower, chart.upper)
        trial_value = float(problem.value(trial[None])[0])
        if np.abs(step).max() < 1e-11:
            return x, lagrangian, True
        if trial_value < value:
            x, value = trial, trial_value
            radius = min(2 * radius, 1.0)
        else:
            # No further descent that doubles can resolve: the linearised optimum is here.
            if np.abs(step).max() < 1e-8:
                return x, lagrangian, True
            radius = np.abs(step).max() / 4
    return x, lagrangian, False


def _program(
    residual: Array,
    slope: Array,
    weights: Array,
    radius: float,
    x: Array,
    lower: Array,
    upper: Array,
) -> tuple[Array, Array]:
    """Minimise sum w |residual + slope step| within the trust region and the box.

    Written with positive and negative parts of each residual. The multipliers of the rows lie
    in [-w, w]; slope' multipliers is the remaining gradient, held by the region's edge.
    """
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
        return np.zeros(size), np.full(size, np.inf)
    multipliers = np.asarray(result.eqlin.marginals) * scale
    return np.asarray(result.x[:size]), np.asarray(slope.T @ multipliers)
