"""Newton's method for loss laws, many problems solved together as one array program.

A problem is a start, a set of row weights, or both: the many starts of a global fit, the
resamples of a bootstrap and the points of a profile are all batches of the same program.
Derivatives are exact. Damping follows Levenberg and Marquardt, one damping for each problem.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
ObjectiveName = Literal["huber_log", "lad_log", "mse_log", "mse"]

# Internal parameters stand in this order: ln E, ln A, ln B, alpha, beta, and then gamma, or
# ln R_D and ln R_N; alpha and beta multiply centred logs.
_BATCH_ELEMENTS = 2**15  # problems x rows a chunk may hold, so that its arrays stay in cache


@dataclass(frozen=True, slots=True)
class Rows:
    """What a fit sees of a table: centred logs of N and D, and the loss.

    Attributes:
        n: ln N minus `n_mean`.
        d: ln D minus `d_mean`.
        loss: positive.
        unique: ln of the unique tokens minus `d_mean`; None where no form needs it.
    """

    n: Array
    d: Array
    loss: Array
    n_mean: float
    d_mean: float
    unique: Array | None = None

    @classmethod
    def of(cls, N: Array, D: Array, loss: Array, unique: Array | None = None) -> "Rows":
        """Rows of positive N, D and loss, equally long."""
        n, d = np.log(N), np.log(D)
        u = None if unique is None else np.log(unique) - d.mean()
        return cls(n - n.mean(), d - d.mean(), np.asarray(loss, float), n.mean(), d.mean(), u)


@dataclass(frozen=True, slots=True)
class Objective:
    """Sum over rows of weight times a penalty of the residual.

    huber_log: Huber's penalty with `delta` of log prediction minus log loss.
    lad_log: its absolute value, as the limit of huber_log/delta (`delta` is then the
        smoothing, small enough not to show in the digits printed).
    mse_log, mse: half the squared residual, of log-loss or of loss.
    """

    name: ObjectiveName
    delta: float = 1e-3

    @property
    def on_log(self) -> bool:
        """Whether residuals are differences of logs."""
        return self.name != "mse"

    def residual(self, prediction_log: Array, loss: Array) -> Array:
        """Prediction minus observation on the objective's scale; broadcasts."""
        if self.on_log:
            return prediction_log - np.log(loss)
        return np.exp(prediction_log) - loss

    def penalty(self, residual: Array) -> Array:
        """The penalty of each residual."""
        if self.name in ("mse", "mse_log"):
            return 0.5 * residual**2
        size = np.abs(residual)
        if self.name == "lad_log":
            return size
        inner = np.minimum(size, self.delta)
        return inner * (size - 0.5 * inner)

    def derivatives(self, residual: Array) -> tuple[Array, Array, Array]:
        """Penalty (smoothed for lad_log) with its first and second derivative."""
        if self.name in ("mse", "mse_log"):
            return 0.5 * residual**2, residual, np.ones_like(residual)
        scale = 1.0 / self.delta if self.name == "lad_log" else 1.0
        first = np.clip(residual, -self.delta, self.delta)
        value = first * (residual - 0.5 * first)
        second = (np.abs(residual) <= self.delta).astype(float)
        return value * scale, first * scale, second * scale


class Kernel(Protocol):
    """Value, gradient and Hessian of the objective in the internal parameters."""

    def __call__(
        self, rows: Rows, objective: Objective, theta: Array, weights: Array
    ) -> tuple[Array, Array, Array]:
        """For theta (s, p) and weights (s or 1, rows): value (s,), gradient (s, p), Hessian."""
        ...


@dataclass(frozen=True, slots=True)
class Chart:
    """Coordinates for a solve: a smooth map from free coordinates to internal parameters.

    Attributes:
        to_theta: coordinates (s, q) to theta (s, p).
        jacobian: coordinates to d theta / d coordinates (s, p, q).
        curvature: coordinates and gradient in theta (s, p) to the Hessian's second-order term
            sum_k gradient_k d2 theta_k (s, q, q); None for a linear chart.
        lower, upper: the box of the coordinates (q,).
        held: coordinates that stay where each problem put them (q,); None for none.
    """

    to_theta: Callable[[Array], Array]
    jacobian: Callable[[Array], Array]
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
        hessian: (s, q, q).
        converged: the last Newton step was negligible (s,).
        at_bound: which coordinates ended on their box (s, q).
        iterations: of the slowest problem.
    """

    x: Array
    value: Array
    gradient: Array
    hessian: Array
    converged: NDArray[np.bool_]
    at_bound: NDArray[np.bool_]
    iterations: int


def predict_log(rows: Rows, theta: Array) -> Array:
    """Log of the predicted loss, problems by rows, for theta (s, 5, 6 or 7)."""
    if theta.shape[1] == 7:
        return np.asarray(_repeated_log(rows, theta).real)
    e, a, b, alpha, beta = (theta[:, k, None] for k in range(5))
    inner = np.logaddexp(a - alpha * rows.n, b - beta * rows.d)
    if theta.shape[1] == 6:
        inner = theta[:, 5, None] * inner
    return np.asarray(np.logaddexp(e, inner))


def chinchilla_kernel(
    rows: Rows, objective: Objective, theta: Array, weights: Array
) -> tuple[Array, Array, Array]:
    """Derivatives for E + A/N^alpha + B/D^beta, theta (s, 5).

    Every entry of the Hessian is a row sum of a coefficient times 1, n, d or a product of
    two of them, so the sums over rows are matrix products.
    """
    n, d = rows.n, rows.d
    terms = np.empty((3, len(theta), len(n)))
    terms[0] = theta[:, 0, None]
    terms[1] = theta[:, 1, None] - theta[:, 3, None] * n
    terms[2] = theta[:, 2, None] - theta[:, 4, None] * d
    terms = np.exp(terms)
    total = terms.sum(axis=0)
    if objective.on_log:
        residual = np.log(total / rows.loss)
        terms /= total
    else:
        residual = total - rows.loss
    value, first, second = objective.derivatives(residual)
    first *= weights
    second *= weights
    # Residual r with r_k = t_k u_k: its Hessian is diag(t) - t t' on logs, diag(t) on losses.
    pair = second - first if objective.on_log else second
    linear = first * terms
    mixed = pair * terms
    # The features are linear in theta up to sign: u = (1), (1, -n), (1, -d).
    fn = np.stack([np.ones_like(n), -n, n * n], axis=1)
    fd = np.stack([np.ones_like(d), -d, d * d], axis=1)
    g_e, g_n, g_d = linear[0].sum(-1), linear[1] @ fn, linear[2] @ fd
    ee = (mixed[0] * terms[0]).sum(-1) + g_e
    en = (mixed[0] * terms[1]) @ fn[:, :2]
    ed = (mixed[0] * terms[2]) @ fd[:, :2]
    nn = (mixed[1] * terms[1]) @ fn + g_n
    dd = (mixed[2] * terms[2]) @ fd + g_d
    nd = (mixed[1] * terms[2]) @ np.stack([np.ones_like(n), -n, -d, n * d], axis=1)

    gradient = np.stack([g_e, g_n[:, 0], g_d[:, 0], g_n[:, 1], g_d[:, 1]], axis=1)
    entries = (
        (ee, en[:, 0], ed[:, 0], en[:, 1], ed[:, 1]),
        (en[:, 0], nn[:, 0], nd[:, 0], nn[:, 1], nd[:, 2]),
        (ed[:, 0], nd[:, 0], dd[:, 0], nd[:, 1], dd[:, 1]),
        (en[:, 1], nn[:, 1], nd[:, 1], nn[:, 2], nd[:, 3]),
        (ed[:, 1], nd[:, 2], dd[:, 1], nd[:, 3], dd[:, 2]),
    )
    hessian = np.stack([np.stack(row, axis=1) for row in entries], axis=1)
    return (value * weights).sum(-1), gradient, hessian


def power_kernel(
    rows: Rows, objective: Objective, theta: Array, weights: Array
) -> tuple[Array, Array, Array]:
    """Derivatives for E + (A/N^alpha + B/D^beta)^gamma, theta (s, 6)."""
    n, d = rows.n, rows.d
    s, r = len(theta), len(n)
    e, gamma = theta[:, 0, None], theta[:, 5, None]
    term_n = theta[:, 1, None] - theta[:, 3, None] * n
    term_d = theta[:, 2, None] - theta[:, 4, None] * d
    inner = np.logaddexp(term_n, term_d)
    share_n = np.exp(term_n - inner)
    share_d = 1.0 - share_n
    z = gamma * inner

    dz = np.zeros((s, r, 6))
    dz[..., 1], dz[..., 2] = gamma * share_n, gamma * share_d
    dz[..., 3], dz[..., 4] = -gamma * share_n * n, -gamma * share_d * d
    dz[..., 5] = inner
    along = np.zeros((r, 6))
    along[:, 1], along[:, 2], along[:, 3], along[:, 4] = 1.0, -1.0, -n, d

    log_total = np.logaddexp(e, z)
    if objective.on_log:
        residual = log_total - np.log(rows.loss)
        weight_z = np.exp(z - log_total)
        weight_e = np.exp(e - log_total)
    else:
        residual = np.exp(log_total) - rows.loss
        weight_z, weight_e = np.exp(z), np.broadcast_to(np.exp(e), z.shape)
    value, first, second = objective.derivatives(residual)
    first, second = first * weights, second * weights

    slope = weight_z[..., None] * dz
    slope[..., 0] += weight_e
    gradient = np.einsum("sr,srk->sk", first, slope)
    pair = second - first if objective.on_log else second
    hessian = _outer(pair, slope) + _outer(first * weight_z, dz)
    hessian[:, 0, 0] += (first * weight_e).sum(-1)
    hessian += _outer(first * weight_z * gamma * share_n * share_d, along[None])
    cross = np.einsum("sr,srk->sk", first * weight_z, dz) / gamma
    cross[:, 5] = 0.0
    hessian[:, 5, :] += cross
    hessian[:, :, 5] += cross
    return (value * weights).sum(-1), gradient, hessian


def repetition_kernel(
    rows: Rows, objective: Objective, theta: Array, weights: Array
) -> tuple[Array, Array, Array]:
    """Derivatives for the law with repeated data, theta (s, 7).

    First derivatives by complex steps, exact to rounding; the Hessian leaves out the law's own
    curvature (Gauss and Newton), which the damping makes up for.
    """
    log_prediction = predict_log(rows, theta)
    residual = objective.residual(log_prediction, rows.loss)
    value, first, second = objective.derivatives(residual)
    first, second = first * weights, second * weights
    slope = np.empty((*residual.shape, 7))
    step = 1e-30
    for k in range(7):
        shifted = theta.astype(complex)
        shifted[:, k] += 1j * step
        slope[..., k] = _repeated_log(rows, shifted).imag / step
    if not objective.on_log:
        slope *= np.exp(log_prediction)[..., None]
    gradient = np.einsum("sr,srk->sk", first, slope)
    return (value * weights).sum(-1), gradient, _outer(second, slope)


def _repeated_log(rows: Rows, theta: NDArray[np.inexact]) -> NDArray[np.inexact]:
    """Log prediction with effective N and D (Muennighoff et al. 2023, eq. 5 and 6)."""
    e, a, b, alpha, beta, log_R_D, log_R_N = (theta[:, k, None] for k in range(7))
    assert rows.unique is not None
    fresh = np.minimum(rows.unique, rows.d)
    # U_N, the size for which the fresh tokens are compute-optimal.
    fed = (np.log(alpha) + a - np.log(beta) - b + beta * fresh) / alpha
    tokens = fresh + _worth(rows.d - fresh, log_R_D)
    excess = rows.n - fed
    beyond = excess.real > 0
    params = np.where(beyond, fed + _worth(np.where(beyond, excess, 0.0), log_R_N), rows.n)
    terms = (e + 0 * params, a - alpha * params, b - beta * tokens)
    top = np.maximum(np.maximum(terms[0].real, terms[1].real), terms[2].real)
    return np.asarray(top + np.log(sum(np.exp(term - top) for term in terms)))


def _worth(log_ratio: NDArray[np.inexact], log_R: NDArray[np.inexact]) -> NDArray[np.inexact]:
    """ln of (1 + R (1 - exp(-(ratio - 1)/R))): what `ratio` times the fresh stock is worth."""
    R = np.exp(log_R)
    # Beyond e^40 repeats the worth has long been its limit.
    ratio = np.exp(np.where(log_ratio.real < 40, log_ratio, 40.0))
    return np.asarray(np.log(1 + R * (1 - np.exp(-(ratio - 1) / R))))


def _outer(coefficient: Array, vectors: Array) -> Array:
    """Sum over rows of coefficient times v v', (s, k, k)."""
    return np.asarray(np.swapaxes(vectors, 1, 2) @ (coefficient[..., None] * vectors))


def solve(
    rows: Rows,
    objective: Objective,
    chart: Chart,
    kernel: Kernel,
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
    size = max(1, _BATCH_ELEMENTS // max(1, len(rows.loss)))
    parts = []
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        part_weights = weights if len(weights) == 1 else weights[part]
        # A wild trial step may overflow; its value is then not lower, and the step is refused.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            solved = _solve_chunk(
                rows, objective, chart, kernel, x[part], part_weights, max_iterations, tolerance
            )
        parts.append(solved)
    if len(parts) == 1:
        return parts[0]
    return Solution(
        x=np.concatenate([part.x for part in parts]),
        value=np.concatenate([part.value for part in parts]),
        gradient=np.concatenate([part.gradient for part in parts]),
        hessian=np.concatenate([part.hessian for part in parts]),
        converged=np.concatenate([part.converged for part in parts]),
        at_bound=np.concatenate([part.at_bound for part in parts]),
        iterations=max(part.iterations for part in parts),
    )


def _solve_chunk(
    rows: Rows,
    objective: Objective,
    chart: Chart,
    kernel: Kernel,
    x: Array,
    weights: Array,
    max_iterations: int,
    tolerance: float,
) -> Solution:
    def evaluate(x: Array, weights: Array) -> tuple[Array, Array, Array]:
        value, gradient, hessian = kernel(rows, objective, chart.to_theta(x), weights)
        jacobian = chart.jacobian(x)
        reduced = np.swapaxes(jacobian, 1, 2) @ hessian @ jacobian
        if chart.curvature is not None:
            reduced = reduced + chart.curvature(x, gradient)
        return value, (gradient[:, None, :] @ jacobian)[:, 0], reduced

    x = np.clip(x, chart.lower, chart.upper)
    value, gradient, hessian = evaluate(x, weights)
    damping = np.full(len(x), 1e-4)
    done = np.zeros(len(x), bool)
    open_ = np.arange(len(x))
    iterations = 0
    while len(open_) and iterations < max_iterations:
        iterations += 1
        step = _step(x[open_], gradient[open_], hessian[open_], damping[open_], chart)
        trial = np.clip(x[open_] + step, chart.lower, chart.upper)
        moved = np.abs(trial - x[open_]) / (1.0 + np.abs(x[open_]))
        part_weights = weights if len(weights) == 1 else weights[open_]
        new_value, new_gradient, new_hessian = evaluate(trial, part_weights)
        # Near the optimum the value no longer resolves a step; there the step is its own proof.
        slack = 1e-14 * np.abs(value[open_])
        better = new_value <= value[open_] + slack
        small = (moved.max(axis=1) < tolerance) & ((damping[open_] <= 1e-3) | ~better)
        accept = open_[better]
        x[accept], value[accept] = trial[better], new_value[better]
        gradient[accept], hessian[accept] = new_gradient[better], new_hessian[better]
        damping[open_] = np.where(better, damping[open_] / 10, damping[open_] * 8)
        np.clip(damping, 1e-12, 1e12, out=damping)
        done[open_[small]] = True
        open_ = open_[~small]
    at_bound = (x <= chart.lower) | (x >= chart.upper)
    return Solution(x, value, gradient, hessian, done, at_bound, iterations)


def _step(x: Array, gradient: Array, hessian: Array, damping: Array, chart: Chart) -> Array:
    """Damped Newton step; coordinates held by their box stay."""
    held = ((x <= chart.lower) & (gradient > 0)) | ((x >= chart.upper) & (gradient < 0))
    if chart.held is not None:
        held |= chart.held
    free = (~held).astype(float)
    gradient = gradient * free
    diagonal = np.einsum("skk->sk", hessian)
    scale = np.abs(diagonal) + 1e-9 * np.abs(diagonal).max(axis=1, keepdims=True) + 1e-300
    matrix = hessian * (free[:, :, None] * free[:, None, :])
    index = np.arange(x.shape[1])
    matrix[:, index, index] += damping[:, None] * scale + held * scale
    step = np.zeros_like(gradient)
    finite = np.isfinite(matrix).all(axis=(1, 2)) & np.isfinite(gradient).all(axis=1)
    balance = 1.0 / np.sqrt(scale)
    balanced = (matrix * balance[:, :, None] * balance[:, None, :])[finite]
    downhill = -(gradient * balance)[finite]
    step[finite] = _descent(balanced, downhill)
    return np.asarray(step * balance)


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
