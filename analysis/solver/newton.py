"""Newton's method for loss laws, many problems solved together as one array program.

A problem is a start, a set of row weights, or both: the many starts of a global fit, the
resamples of a bootstrap and the points of a profile are all batches of the same program.
Derivatives are exact. Damping follows Levenberg and Marquardt, one damping for each problem.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.law import Array

# Value (s,), gradient (s, p) and Hessian (s, p, p) of the objective, for internal parameters
# theta (s, p) and row weights (s or 1, rows).
Derivatives = Callable[[Array, Array], tuple[Array, Array, Array]]
# Internal parameters are in this order: ln E, ln A, ln B, alpha, beta, and then gamma, or
# ln R_D and ln R_N; alpha and beta multiply centred logs.
_BATCH_ELEMENTS = 2**15  # problems x rows a chunk may hold, so that its arrays stay in cache


@dataclass(frozen=True, slots=True)
class Chart:
    """Coordinates for a solve: a smooth map from free coordinates to internal parameters.

    Attributes:
        to_theta: coordinates (s, q) to theta (s, p).
        jacobian: coordinates to d theta / d coordinates (s, p, q); None where both are the same.
        curvature: coordinates and gradient in theta (s, p) to the Hessian's second-order term
            sum_k gradient_k d2 theta_k (s, q, q); None for a linear chart.
        lower, upper: the box of the coordinates (q,).
        held: coordinates that stay where each problem put them (q,); None for none.
    """

    to_theta: Callable[[Array], Array]
    jacobian: Callable[[Array], Array] | None
    curvature: Callable[[Array, Array], Array] | None
    lower: Array
    upper: Array
    held: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Solution:
    """Where each problem ended.

    Attributes:
        x: coordinates (s, q).
        value: objective (s,).
        gradient: in the coordinates (s, q); zero at an interior optimum.
        converged: the last Newton step was negligible (s,).
        at_bound: which coordinates ended on their box (s, q).
    """

    x: Array
    value: Array
    gradient: Array
    converged: NDArray[np.bool_]
    at_bound: NDArray[np.bool_]


def solve(
    derivatives: Derivatives,
    chart: Chart,
    x: Array,
    weights: Array,
    *,
    max_iterations: int = 200,
    tolerance: float = 1e-10,
) -> Solution:
    """Minimise the objective from each start.

    Args:
        x: starts (s, q).
        weights: row weights (s, rows) or (1, rows) for all problems alike.
        tolerance: a problem is done when its undamped Newton step moves every coordinate,
            relative to 1 + its size, by less than this. Steps shrink quadratically, so what is
            left after the last one is far smaller.
    """
    size = max(1, _BATCH_ELEMENTS // max(1, weights.shape[1]))
    parts = []
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        part_weights = weights if len(weights) == 1 else weights[part]
        # A wild trial step may overflow; its value is then not lower, and the step is refused.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            parts.append(
                _solve_chunk(derivatives, chart, x[part], part_weights, max_iterations, tolerance)
            )
    if len(parts) == 1:
        return parts[0]
    return Solution(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("x", "value", "gradient", "converged", "at_bound")
        )
    )


def _solve_chunk(
    derivatives: Derivatives,
    chart: Chart,
    x: Array,
    weights: Array,
    max_iterations: int,
    tolerance: float,
) -> Solution:
    def evaluate(x: Array, weights: Array) -> tuple[Array, Array, Array]:
        value, gradient, hessian = derivatives(chart.to_theta(x), weights)
        if chart.jacobian is None:
            return value, gradient, hessian
        jacobian = chart.jacobian(x)
        reduced = np.swapaxes(jacobian, 1, 2) @ hessian @ jacobian
        if chart.curvature is not None:
            reduced = reduced + chart.curvature(x, gradient)
        return value, (gradient[:, None, :] @ jacobian)[:, 0], reduced

    x = _within(x, chart)
    value, gradient, hessian = evaluate(x, weights)
    ends, done = (x.copy(), value.copy(), gradient.copy()), np.zeros(len(x), bool)
    # From here on every array is of the problems still open, and `open_` has their places.
    open_, damping = np.arange(len(x)), np.full(len(x), 1e-4)
    for _ in range(max_iterations):
        if not len(open_):
            break
        trial = _within(x + _step(x, gradient, hessian, damping, chart), chart)
        moved = np.abs(trial - x) / (1.0 + np.abs(x))
        tried = evaluate(trial, weights)
        # Near the optimum the value no longer resolves a step; there the step is its own proof.
        better = tried[0] <= value + 1e-14 * np.abs(value)
        small = (moved.max(axis=1) < tolerance) & ((damping <= 1e-3) | ~better)
        if better.all():
            x, (value, gradient, hessian) = trial, tried
        else:
            for old, new in zip((x, value, gradient, hessian), (trial, *tried), strict=True):
                old[better] = new[better]
        damping = np.where(better, damping / 10, damping * 8)
        damping = np.minimum(np.maximum(damping, 1e-12), 1e12)
        if small.any():
            for end, part in zip(ends, (x, value, gradient), strict=True):
                end[open_[small]] = part[small]
            done[open_[small]] = True
            left = ~small
            open_, damping = open_[left], damping[left]
            x, value, gradient, hessian = x[left], value[left], gradient[left], hessian[left]
            weights = weights if len(weights) == 1 else weights[left]
    for end, part in zip(ends, (x, value, gradient), strict=True):
        end[open_] = part
    at_bound = (ends[0] <= chart.lower) | (ends[0] >= chart.upper)
    return Solution(*ends, done, at_bound)


def _within(x: Array, chart: Chart) -> Array:
    """The coordinates, those outside their box moved to its edge."""
    return np.minimum(np.maximum(x, chart.lower), chart.upper)


def _step(x: Array, gradient: Array, hessian: Array, damping: Array, chart: Chart) -> Array:
    """Damped Newton step; coordinates held by their box stay."""
    held = ((x <= chart.lower) & (gradient > 0)) | ((x >= chart.upper) & (gradient < 0))
    if chart.held is not None:
        held |= chart.held
    # Problems along the last axis, so that numpy loops over them and not over a few coordinates.
    gradient, matrix = gradient.T, np.array(np.moveaxis(hessian, 0, -1), order="C")
    diagonal = np.einsum("kks->ks", matrix)
    size = np.abs(diagonal)
    scale = size + 1e-9 * size.max(axis=0) + 1e-300
    added = damping * scale
    if held.any():
        free = (~held.T).astype(float)
        gradient = gradient * free
        matrix *= free[:, None] * free
        added += held.T * scale
    diagonal += added
    balance = 1.0 / np.sqrt(scale)
    finite = np.isfinite(matrix).all(axis=(0, 1)) & np.isfinite(gradient).all(axis=0)
    matrix *= balance[:, None]
    matrix *= balance
    downhill = -(gradient * balance)
    step = np.zeros(x.shape)
    if finite.all():
        step = _descent(np.moveaxis(matrix, -1, 0), downhill.T)
    elif finite.any():
        step[finite] = _descent(np.moveaxis(matrix[..., finite], -1, 0), downhill[:, finite].T)
    return np.asarray(step * balance.T)


def _descent(matrix: Array, downhill: Array) -> Array:
    """Newton steps; where they do not go down, with the eigenvalues made positive."""
    try:
        step = np.linalg.solve(matrix, downhill[..., None])[..., 0]
        wrong = ~((step * downhill).sum(axis=1) > 0)
    except np.linalg.LinAlgError:
        step, wrong = np.zeros_like(downhill), np.ones(len(downhill), bool)
    if wrong.any():
        values, vectors = np.linalg.eigh(matrix[wrong])
        floor = 1e-12 * np.abs(values).max(axis=1, keepdims=True) + 1e-300
        along = np.swapaxes(vectors, 1, 2) @ downhill[wrong][..., None]
        along /= np.maximum(np.abs(values), floor)[..., None]
        step[wrong] = (vectors @ along)[..., 0]
    return np.asarray(step)
