"""The forms of the loss law as coordinates of one minimisation problem."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from analysis.law import Array, Constants, Form
from analysis.solver.kernels import (
    Kernel,
    chinchilla_kernel,
    power_kernel,
    predict_log,
    repetition_kernel,
)
from analysis.solver.newton import Chart, Solution, solve
from analysis.solver.objective import Objective, Rows

# How far E may fall below the smallest loss before it counts as zero, in e-folds.
E_DEPTH = 14.0
EXPONENT_BOX = (1e-3, 4.0)
AMPLITUDE_BOX = (-40.0, 40.0)
_GAMMA_BOX = (0.02, 20.0)
R_BOX = (float(np.log(0.05)), float(np.log(2000.0)))  # ln R_D and ln R_N
FREE: dict[Form, tuple[str, ...]] = {
    "chinchilla": ("E", "A", "B", "alpha", "beta"),
    "gamma": ("E", "A", "B", "alpha", "beta", "gamma"),
    "tied": ("E", "A", "B", "alpha"),
    "kaplan": ("A", "B", "alpha", "gamma"),
    "data_constrained": ("E", "A", "B", "alpha", "beta", "R_D", "R_N"),
}
# Internal parameters after E, A, B, alpha and beta, and kernels other than the plain one.
_EXTRA: dict[Form, tuple[str, ...]] = {
    "gamma": ("gamma",),
    "kaplan": ("gamma",),
    "data_constrained": ("R_D", "R_N"),
}
_KERNELS: dict[Form, Kernel] = {
    "gamma": power_kernel,
    "kaplan": power_kernel,
    "data_constrained": repetition_kernel,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Everything a solve needs except its starting points.

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
            partial(self.kernel, self.rows, self.objective),
            self.chart,
            x,
            weights,
            max_iterations=max_iterations,
            tolerance=tolerance,
        )

    def constants(self, x: Array) -> Constants:
        """The law's constants at coordinates (s, q), each (s,), logs uncentred."""
        theta = self.chart.to_theta(x)
        e, a, b, alpha, beta = theta.T[:5]
        gamma = theta[:, 5] if theta.shape[1] == 6 else np.ones(len(theta))
        repetition = {}
        if theta.shape[1] == 7:
            repetition = {"R_D": np.exp(theta[:, 5]), "R_N": np.exp(theta[:, 6])}
        return Constants(
            E=np.exp(e),
            A=np.exp(a + alpha * self.rows.n_mean),
            B=np.exp(b + beta * self.rows.d_mean),
            alpha=alpha,
            beta=beta,
            gamma=gamma,
            **repetition,
        )

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


def make_problem(
    form: Form, objective: Objective, rows: Rows, weights: Array, *, zero_E: bool = False
) -> Problem:
    """The problem of fitting `form`; data_constrained needs rows with `unique`."""
    chart, kernel, free = _chart(form, rows, zero_E=zero_E)
    weights = weights / weights.mean()
    return Problem(form, objective, rows, weights, chart, kernel, free, zero_E)


def _chart(form: Form, rows: Rows, *, zero_E: bool) -> tuple[Chart, Kernel, tuple[str, ...]]:
    """Coordinates of a form: which internal parameters are free, equal or held."""
    floor = float(np.log(rows.loss.min()) - E_DEPTH)
    ceiling = float(np.log(rows.loss.max()))
    box = {
        "E": (floor, ceiling),
        "A": AMPLITUDE_BOX,
        "B": AMPLITUDE_BOX,
        "alpha": EXPONENT_BOX,
        "beta": EXPONENT_BOX,
        "gamma": _GAMMA_BOX,
        "R_D": R_BOX,
        "R_N": R_BOX,
    }
    free = tuple(n for n in FREE[form] if not (zero_E and n == "E"))
    matrix, offset = linear_map(form, free)
    lower, upper = np.array([box[name] for name in free]).T
    plain = len(free) == len(matrix)
    linear = Chart(
        to_theta=(lambda x: x) if plain else lambda x: x @ matrix.T + offset,
        jacobian=None if plain else lambda x: np.broadcast_to(matrix, (len(x), *matrix.shape)),
        curvature=None,
        lower=lower,
        upper=upper,
    )
    return linear, _KERNELS.get(form, chinchilla_kernel), free


def linear_map(form: Form, names: Sequence[str]) -> tuple[Array, Array]:
    """Matrix (p, q) and offset (p,) that map coordinates to the internal parameters.

    A coordinate not named after an internal parameter gets a column of zeros; E without a
    coordinate is 0; the form's restrictions, such as tied exponents, hold.
    """
    order = ["E", "A", "B", "alpha", "beta", *_EXTRA.get(form, ())]
    matrix = np.array([[float(row == name) for name in names] for row in order])
    offset = np.zeros(len(order))
    if "E" not in names:
        offset[0] = -np.inf
    if form == "tied":
        matrix[4] = matrix[3]
    if form == "kaplan":
        offset[4] = 1.0
    return matrix, offset
