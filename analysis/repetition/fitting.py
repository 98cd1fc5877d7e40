"""Fit a law of repeated data: many starts, many weightings of the rows, one array program."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.law import Array
from analysis.repetition.forms import Form
from analysis.solver.kernels import by_complex_steps
from analysis.solver.newton import Chart, Solution, solve
from analysis.solver.objective import Objective, Rows
from analysis.solver.problem import make_problem
from analysis.solver.starts import starting_points

# Squares up to a residual of 1 %, which seeds make, absolute values beyond.
_OBJECTIVE = Objective("huber_log", 1e-2)
# Starts that are searched to their ends, of all of a form.
_STARTS = 4
# Fresh rows begin the search; the others count enough that a table of few fresh ones has a start.
_REPEATED_IN_START = 0.05


@dataclass(frozen=True, slots=True)
class Data:
    """The rows that a law of repeated data is fitted to.

    Attributes:
        rows: logs and losses, as solvers see them.
        epochs: how often each row reads its unique tokens, 1 at least.
    """

    rows: Rows
    epochs: Array

    @classmethod
    def of(cls, used: pl.DataFrame, epochs: pl.Series) -> "Data":
        """Rows of a checked table."""
        N, D, L = (used[c].to_numpy().astype(float) for c in ("n_params", "tokens", "val_loss"))
        times = epochs.to_numpy().astype(float)
        return cls(Rows.of(N, D, L, D / times), times)

    @property
    def N(self) -> Array:
        """Parameters."""
        return np.asarray(np.exp(self.rows.n + self.rows.n_mean))

    @property
    def D(self) -> Array:
        """Tokens seen."""
        return np.asarray(np.exp(self.rows.d + self.rows.d_mean))

    @property
    def repeats(self) -> NDArray[np.bool_]:
        """Which rows repeat tokens."""
        return self.epochs > 1


def fit_form(form: Form, data: Data, weights: Array) -> Array:
    """The best coordinates (s, p) under each weighting of the rows (s, rows)."""
    starts = _starting(form, data, weights.mean(axis=0))
    count = len(starts)
    x = np.tile(starts, (len(weights), 1))
    ends = _solve(form, data, x, np.repeat(weights, count, axis=0), 80)
    value = np.where(np.isfinite(ends.value), ends.value, np.inf).reshape(len(weights), count)
    best = value.argmin(axis=1) + count * np.arange(len(weights))
    return np.asarray(ends.x[best])


def refit(form: Form, data: Data, theta: Array, weights: Array) -> Array:
    """The coordinates (s, p) under each weighting, found from those of the whole table (p,)."""
    x = np.repeat(theta[None], len(weights), axis=0)
    return _solve(form, data, x, weights, 60).x


def log_residuals(form: Form, data: Data, theta: Array) -> Array:
    """Log prediction minus log loss (s, rows), for coordinates (s, p)."""
    return np.asarray(form.log_loss(data.rows, theta).real - np.log(data.rows.loss))


def _starting(form: Form, data: Data, weights: Array) -> Array:
    plain = make_problem(
        "chinchilla", _OBJECTIVE, data.rows, np.where(data.repeats, _REPEATED_IN_START, 1.0)
    )
    base = plain.solve(starting_points(plain)[:3], max_iterations=60)
    starts = form.starts(base.x[int(np.argmin(base.value))], data.rows)
    starts = np.clip(starts, *form.box(data.rows))
    penalty = _OBJECTIVE.penalty(log_residuals(form, data, starts)) @ weights
    order = np.argsort(np.where(np.isfinite(penalty), penalty, np.inf), kind="stable")
    return np.asarray(starts[order[:_STARTS]])


def _solve(form: Form, data: Data, x: Array, weights: Array, most: int) -> Solution:
    lower, upper = form.box(data.rows)
    chart = Chart(lambda x: x, None, None, lower, upper)
    kernel = partial(by_complex_steps(form.log_loss), data.rows, _OBJECTIVE)
    return solve(kernel, chart, x, weights, max_iterations=most, tolerance=1e-8)
