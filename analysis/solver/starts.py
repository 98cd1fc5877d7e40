"""Starting points of a fit, by variable projection (Golub and Pereyra 1973).

For fixed exponents the law is linear in E, A and B, so a grid of exponents and one small linear
solve for each cover the whole landscape.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from analysis.law import Array, Form
from analysis.solver.problem import Problem, make_problem

_STARTS = 12
_ELEMENTS = 2**20  # points x rows that are held at once


def starting_points(problem: Problem) -> Array:
    """The best points of a grid over the exponents, in the problem's coordinates."""
    grids: dict[Form, Callable[[Problem], Array]] = {
        "gamma": _grid_power,
        "kaplan": _grid_power,
        "data_constrained": _grid_repeated,
    }
    grid = grids.get(problem.form, _grid_linear)
    x = np.clip(grid(problem), problem.chart.lower, problem.chart.upper)

    def deviations(x: Array) -> Array:
        return np.asarray((np.abs(problem.residuals(x)) * problem.weights).sum(-1))

    # Ranked by least absolute deviations: robust, and defined for every objective.
    score = _in_parts(deviations, problem, x)
    score = np.where(np.isfinite(score), score, np.inf)
    return np.asarray(x[np.argsort(score, kind="stable")[:_STARTS]])


def _in_parts(function: Callable[..., Array], problem: Problem, *columns: Array) -> Array:
    """The function of the columns, each (s, ...), for a part of the s points at a time."""
    size = max(1, _ELEMENTS // len(problem.rows.loss))
    parts = range(0, len(columns[0]), size)
    return np.concatenate([function(*(c[k : k + size] for c in columns)) for k in parts])


_EXPONENTS = np.array([0.04, 0.1, 0.18, 0.27, 0.36, 0.46, 0.58, 0.75, 1.0, 1.4])


def _grid_linear(problem: Problem) -> Array:
    """Weighted least squares for E, A, B at each pair of exponents.

    Rows weigh 1/L², which makes squared errors of L errors of ln L to first order. A negative
    constant is replaced by a small positive one: it is a start, not an answer.
    """
    rows = problem.rows
    alpha, beta = _EXPONENTS, _EXPONENTS
    if problem.form == "tied":
        alpha_grid, beta_grid = alpha, beta
    else:
        alpha_grid, beta_grid = (g.ravel() for g in np.meshgrid(alpha, beta, indexing="ij"))
    weight = problem.weights / rows.loss**2

    def solved(alpha: Array, beta: Array) -> Array:
        """E, A and B at exponents (s,), each a column of (s, 3)."""
        design = np.stack(
            [
                np.ones((len(alpha), len(rows.n))),
                np.exp(-alpha[:, None] * rows.n),
                np.exp(-beta[:, None] * rows.d),
            ],
            axis=2,
        )
        if problem.zero_E:
            design[..., 0] = 0.0
        weighted = design * weight[:, None]
        normal = np.swapaxes(weighted, 1, 2) @ design
        # A ridge far below rounding of any useful fit keeps constant D/N and single sizes solvable.
        ridge = 1e-10 * np.trace(normal, axis1=1, axis2=2)
        normal += ridge[:, None, None] * np.eye(3)
        right = np.swapaxes(weighted, 1, 2) @ rows.loss
        return np.asarray(np.linalg.solve(normal, right[..., None])[..., 0])

    constants = _in_parts(solved, problem, alpha_grid, beta_grid)
    logs = np.log(np.maximum(constants, 1e-3 * rows.loss.min()))
    columns = {
        "E": logs[:, 0],
        "A": logs[:, 1],
        "B": logs[:, 2],
        "alpha": alpha_grid,
        "beta": beta_grid,
    }
    return np.stack([columns[name] for name in problem.free], axis=1)


def _grid_power(problem: Problem) -> Array:
    """For fixed E, gamma and exponents, (L - E)^(1/gamma) is linear in A and B."""
    rows = problem.rows
    with_E = "E" in problem.free
    levels = np.array([0.02, 0.4, 0.7, 0.9]) if with_E else np.zeros(1)
    gammas = np.array([0.06, 0.1, 0.2, 0.35, 0.6, 0.8, 1.0, 1.3, 1.8, 3.0])
    if with_E:
        gammas = gammas[3:]
    betas = np.ones(1) if problem.form == "kaplan" else _EXPONENTS[1::2]
    axes = np.meshgrid(levels, gammas, _EXPONENTS[1::2], betas, indexing="ij")
    level, gamma, alpha, beta = (axis.ravel()[:, None] for axis in axes)
    E = level * rows.loss.min()

    def solved(E: Array, gamma: Array, alpha: Array, beta: Array) -> Array:
        """A and B at the other constants (s, 1), each a column of (s, 2)."""
        target = (rows.loss - E) ** (1 / gamma)
        first, second = np.exp(-alpha * rows.n), np.exp(-beta * rows.d)
        weight = problem.weights / target**2
        nn, nd, dd = ((weight * p).sum(-1) for p in (first**2, first * second, second**2))
        n1, d1 = ((weight * target * p).sum(-1) for p in (first, second))
        determinant = nn * dd * (1 + 1e-10) - nd**2
        small = 1e-3 * target.min(axis=1)
        A = np.maximum((n1 * dd - d1 * nd) / determinant, small)
        B = np.maximum((d1 * nn - n1 * nd) / determinant, small)
        return np.stack([A, B], axis=1)

    A, B = _in_parts(solved, problem, E, gamma, alpha, beta).T
    columns = {
        "E": np.log(np.maximum(E[:, 0], 1e-12)),
        "A": np.log(A),
        "B": np.log(B),
        "alpha": alpha[:, 0],
        "beta": beta[:, 0],
        "gamma": gamma[:, 0],
    }
    return np.stack([columns[name] for name in problem.free], axis=1)


def _grid_repeated(problem: Problem) -> Array:
    """The plain law's best start, with effective tokens, for a grid of R_D and R_N."""
    rows = problem.rows
    assert rows.unique is not None
    repeats = np.exp(np.maximum(rows.d - rows.unique, 0.0)) - 1
    starts = []
    for R_D in (2.0, 8.0, 30.0):
        worth = np.log1p(R_D * -np.expm1(-repeats / R_D))
        plain = replace(rows, d=np.minimum(rows.d, rows.unique) + worth)
        posed = make_problem("chinchilla", problem.objective, plain, problem.weights)
        law = posed.solve(starting_points(posed)[:1], max_iterations=60).x[0]
        keep = law[1:] if problem.zero_E else law
        starts += [[*keep, np.log(R_D), np.log(R_N)] for R_N in (1.0, 5.0, 20.0, 200.0)]
    return np.array(starts)
