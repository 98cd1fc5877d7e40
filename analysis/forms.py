"""The forms of the loss law as coordinates of one problem, and the search for its optimum.

Starts come from variable projection: for fixed exponents the law is linear in E, A and B, so a
grid of exponents and one small linear solve for each cover the whole landscape
(Golub and Pereyra 1973).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.lad import polish_lad
from analysis.law import Form
from analysis.solver import (
    Array,
    Chart,
    Kernel,
    Objective,
    Rows,
    Solution,
    chinchilla_kernel,
    power_kernel,
    predict_log,
    repetition_kernel,
    solve,
)

# How far E may fall below the smallest loss before it counts as zero, in e-folds.
_E_DEPTH = 14.0
EXPONENT_BOX = (1e-3, 4.0)
_AMPLITUDE_BOX = (-40.0, 40.0)
_GAMMA_BOX = (0.02, 20.0)
_R_BOX = (float(np.log(0.05)), float(np.log(2000.0)))  # ln R_D and ln R_N
_STARTS = 12
_DIRECT = 4  # starts that also go to the objective without continuation
_E_SMALL = 5.0  # an E this many e-folds below the losses is tried against E = 0
# Coordinates closer than this, relative to 1 + their size, are the same optimum.
_SAME = 1e-5
# Steps on the way through larger deltas need not be finished.
_ROUGH = 1e-4
FREE: dict[Form, tuple[str, ...]] = {
    "chinchilla": ("E", "A", "B", "alpha", "beta"),
    "gamma": ("E", "A", "B", "alpha", "beta", "gamma"),
    "tied": ("E", "A", "B", "alpha"),
    "kaplan": ("A", "B", "alpha", "gamma"),
    "data_constrained": ("E", "A", "B", "alpha", "beta", "R_D", "R_N"),
}


# Derivatives of each form, and how many internal parameters they are in.
_KERNELS: dict[Form, tuple[Kernel, int]] = {
    "gamma": (power_kernel, 6),
    "kaplan": (power_kernel, 6),
    "data_constrained": (repetition_kernel, 7),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A form, an objective and rows; everything a solve needs but the start.

    Attributes:
        weights: one positive weight for each row, mean 1.
        free: names of the coordinates, in their order.
        zero_E: E is held at 0 because the data drive it there.
    """

    form: Form
    objective: Objective
    rows: Rows
    weights: Array
    chart: Chart
    kernel: Kernel
    free: tuple[str, ...]
    zero_E: bool = False

    def solve(
        self,
        x: Array,
        weights: Array | None = None,
        *,
        max_iterations: int = 200,
        tolerance: float = 1e-10,
    ) -> Solution:
        """Minimise from each start x (s, q), with weights (s, rows) or the problem's own."""
        weights = self.weights[None] if weights is None else weights
        return solve(
            self.rows,
            self.objective,
            self.chart,
            self.kernel,
            x,
            weights,
            max_iterations=max_iterations,
            tolerance=tolerance,
        )

    def constants(self, x: Array) -> dict[str, Array]:
        """E, A, B, alpha, beta, gamma for coordinates (s, q), each (s,), logs uncentred.

        With R_D and R_N where the form has them.
        """
        theta = self.chart.to_theta(x)
        e, a, b, alpha, beta = theta.T[:5]
        gamma = theta[:, 5] if theta.shape[1] == 6 else np.ones(len(theta))
        repetition = {}
        if theta.shape[1] == 7:
            repetition = {"R_D": np.exp(theta[:, 5]), "R_N": np.exp(theta[:, 6])}
        return {
            "E": np.exp(e),
            "A": np.exp(a + alpha * self.rows.n_mean),
            "B": np.exp(b + beta * self.rows.d_mean),
            "alpha": alpha,
            "beta": beta,
            "gamma": gamma,
            **repetition,
        }

    def residuals(self, x: Array) -> Array:
        """Residuals on the objective's scale, (s, rows)."""
        log_prediction = predict_log(self.rows, self.chart.to_theta(x))
        return self.objective.residual(log_prediction, self.rows.loss)

    def slope(self, x: Array) -> Array:
        """Derivative of each row's residual in the coordinates x (q,), (rows, q).

        By central differences; their error of about 1e-10 is far below what an interval or
        the step of a linear program can show.
        """
        step = 1e-5
        shifts = np.eye(len(x)) * step
        up, down = np.split(self.residuals(np.concatenate([x + shifts, x - shifts])), 2)
        return np.asarray((up - down).T / (2 * step))

    def value(self, x: Array) -> Array:
        """The objective itself, unsmoothed, (s,)."""
        return np.asarray((self.objective.penalty(self.residuals(x)) * self.weights).sum(-1))


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
    hessian: Array
    converged: bool
    starts: int
    agree: int
    second_best: tuple[float, Array] | None
    at_bound: tuple[str, ...]
    unmoved: tuple[str, ...]
    iterations: int


def make_problem(
    form: Form, objective: Objective, rows: Rows, weights: Array, *, zero_E: bool = False
) -> Problem:
    """The problem of fitting `form`; data_constrained needs rows with `unique`."""
    chart, kernel, free = _chart(form, rows, zero_E=zero_E)
    weights = weights / weights.mean()
    return Problem(form, objective, rows, weights, chart, kernel, free, zero_E)


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
    starts = _starts(problem)
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
    """The different points among x, and for each of x which of them it is."""
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
    """Choose the lowest end and count who else arrived there.

    Args:
        member: for each start which problem of the solution continued it; each its own
            without. Starts that were run in two ways count twice.
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
        hessian=solution.hessian[best],
        converged=bool(solution.converged[best]),
        starts=len(member),
        agree=int(same[member].sum()),
        second_best=None if second is None else (float(value[second]), solution.x[second]),
        at_bound=tuple(n for n, on in zip(problem.free, on_bound, strict=True) if on),
        unmoved=tuple(n for n, on in zip(problem.free, unmoved, strict=True) if on),
        iterations=solution.iterations,
    )


def _chart(form: Form, rows: Rows, *, zero_E: bool) -> tuple[Chart, Kernel, tuple[str, ...]]:
    """Coordinates of a form: which internal parameters are free, equal or held."""
    floor = float(np.log(rows.loss.min()) - _E_DEPTH)
    ceiling = float(np.log(rows.loss.max()))
    box = {
        "E": (floor, ceiling),
        "A": _AMPLITUDE_BOX,
        "B": _AMPLITUDE_BOX,
        "alpha": EXPONENT_BOX,
        "beta": EXPONENT_BOX,
        "gamma": _GAMMA_BOX,
        "R_D": _R_BOX,
        "R_N": _R_BOX,
    }
    order = ["E", "A", "B", "alpha", "beta"]
    order += ["R_D", "R_N"] if form == "data_constrained" else ["gamma"]
    free = tuple(n for n in FREE[form] if not (zero_E and n == "E"))
    kernel, size = _KERNELS.get(form, (chinchilla_kernel, 5))
    matrix = np.zeros((size, len(free)))
    offset = np.zeros(size)
    for k, name in enumerate(free):
        matrix[order.index(name), k] = 1.0
    if "E" not in free:
        offset[0] = -np.inf
    if form == "tied":
        matrix[4, free.index("alpha")] = 1.0
    if form == "kaplan":
        offset[4] = 1.0
    lower, upper = np.array([box[name] for name in free]).T
    return linear_chart(matrix, offset, lower, upper), kernel, free


def linear_chart(matrix: Array, offset: Array, lower: Array, upper: Array) -> Chart:
    """theta = matrix x + offset."""
    return Chart(
        to_theta=lambda x: x @ matrix.T + offset,
        jacobian=lambda x: np.broadcast_to(matrix, (len(x), *matrix.shape)),
        curvature=None,
        lower=lower,
        upper=upper,
    )


def _starts(problem: Problem) -> Array:
    """The best points of a grid over the exponents, in the problem's coordinates."""
    grids: dict[Form, Callable[[Problem], Array]] = {
        "gamma": _grid_power,
        "kaplan": _grid_power,
        "data_constrained": _grid_repeated,
    }
    grid = grids.get(problem.form, _grid_linear)
    x = np.clip(grid(problem), problem.chart.lower, problem.chart.upper)
    residual = problem.residuals(x)
    # Ranked by least absolute deviations: robust, and defined for every objective.
    score = (np.abs(residual) * problem.weights).sum(-1)
    score = np.where(np.isfinite(score), score, np.inf)
    return np.asarray(x[np.argsort(score, kind="stable")[:_STARTS]])


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
    design = np.stack(
        [
            np.ones((len(alpha_grid), len(rows.n))),
            np.exp(-alpha_grid[:, None] * rows.n),
            np.exp(-beta_grid[:, None] * rows.d),
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
    constants = np.linalg.solve(normal, right[..., None])[..., 0]
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
    target = (rows.loss - E) ** (1 / gamma)
    first, second = np.exp(-alpha * rows.n), np.exp(-beta * rows.d)
    weight = problem.weights / target**2
    nn, nd, dd = ((weight * p).sum(-1) for p in (first**2, first * second, second**2))
    n1, d1 = ((weight * target * p).sum(-1) for p in (first, second))
    determinant = nn * dd * (1 + 1e-10) - nd**2
    small = 1e-3 * target.min(axis=1)
    A = np.maximum((n1 * dd - d1 * nd) / determinant, small)
    B = np.maximum((d1 * nn - n1 * nd) / determinant, small)
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
    """The plain law's best start, tokens counted as each R_D says, for a grid of R_D and R_N."""
    rows = problem.rows
    assert rows.unique is not None
    repeats = np.exp(np.maximum(rows.d - rows.unique, 0.0)) - 1
    starts = []
    for R_D in (2.0, 8.0, 30.0):
        worth = np.log1p(R_D * -np.expm1(-repeats / R_D))
        plain = replace(rows, d=np.minimum(rows.d, rows.unique) + worth)
        posed = make_problem("chinchilla", problem.objective, plain, problem.weights)
        law = posed.solve(_starts(posed)[:1], max_iterations=60).x[0]
        keep = law[1:] if problem.zero_E else law
        starts += [[*keep, np.log(R_D), np.log(R_N)] for R_N in (1.0, 5.0, 20.0, 200.0)]
    return np.array(starts)
