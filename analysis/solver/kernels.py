"""The laws' predictions, and the objective's derivatives in the solver's parameters."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from analysis.law import Array
from analysis.solver.objective import Objective, Rows


class Kernel(Protocol):
    """The derivatives of a form's objective in its internal parameters."""

    def __call__(
        self, rows: Rows, objective: Objective, theta: Array, weights: Array
    ) -> tuple[Array, Array, Array]:
        """For theta (s, p) and weights (s or 1, rows): value (s,), gradient (s, p), Hessian."""
        ...


def predict_log(rows: Rows, theta: Array) -> Array:
    """Log of the predicted loss, problems by rows, for theta (s, 5, 6 or 7)."""
    if theta.shape[1] == 7:
        return np.asarray(repeated_log(rows, theta).real)
    e, a, b, alpha, beta = (theta[:, k, None] for k in range(5))
    inner = np.logaddexp(a - alpha * rows.n, b - beta * rows.d)
    if theta.shape[1] == 6:
        inner = theta[:, 5, None] * inner
    return np.asarray(np.logaddexp(e, inner))


def predict_own_log(rows: Rows, theta: Array) -> Array:
    """Log of the predicted loss of each row under its own theta, (rows, 5, 6 or 7)."""
    n, d = rows.n[:, None], rows.d[:, None]
    unique = None if rows.unique is None else rows.unique[:, None]
    return predict_log(replace(rows, n=n, d=d, unique=unique), theta)[:, 0]


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
    np.exp(terms, out=terms)
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
    fn, fd = _columns(len(n), 1.0, -n, n * n), _columns(len(n), 1.0, -d, d * d)
    g_e, g_n, g_d = linear[0].sum(-1), linear[1] @ fn, linear[2] @ fd
    ee = (mixed[0] * terms[0]).sum(-1) + g_e
    en = (mixed[0] * terms[1]) @ fn[:, :2]
    ed = (mixed[0] * terms[2]) @ fd[:, :2]
    nn = (mixed[1] * terms[1]) @ fn + g_n
    dd = (mixed[2] * terms[2]) @ fd + g_d
    nd = (mixed[1] * terms[2]) @ _columns(len(n), 1.0, -n, -d, n * d)

    gradient, hessian = np.empty((5, len(theta))), np.empty((5, 5, len(theta)))
    columns = (g_e, g_n[:, 0], g_d[:, 0], g_n[:, 1], g_d[:, 1])
    entries = (
        (ee, en[:, 0], ed[:, 0], en[:, 1], ed[:, 1]),
        (en[:, 0], nn[:, 0], nd[:, 0], nn[:, 1], nd[:, 2]),
        (ed[:, 0], nd[:, 0], dd[:, 0], nd[:, 1], dd[:, 1]),
        (en[:, 1], nn[:, 1], nd[:, 1], nn[:, 2], nd[:, 3]),
        (ed[:, 1], nd[:, 2], dd[:, 1], nd[:, 3], dd[:, 2]),
    )
    for i, row in enumerate(entries):
        gradient[i] = columns[i]
        for k, entry in enumerate(row):
            hessian[i, k] = entry
    return (value * weights).sum(-1), gradient.T, np.moveaxis(hessian, -1, 0)


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


def by_complex_steps(log_loss: Callable[[Rows, NDArray[Any]], NDArray[Any]]) -> Kernel:
    """The derivatives of any law whose log loss takes complex theta.

    First derivatives by complex steps, exact to rounding; the Hessian leaves out the law's own
    curvature (Gauss and Newton), which the damping makes up for.
    """

    def kernel(
        rows: Rows, objective: Objective, theta: Array, weights: Array
    ) -> tuple[Array, Array, Array]:
        log_prediction = np.asarray(log_loss(rows, theta).real)
        residual = objective.residual(log_prediction, rows.loss)
        value, first, second = objective.derivatives(residual)
        first, second = first * weights, second * weights
        slope = np.empty((*residual.shape, theta.shape[1]))
        step = 1e-30
        for k in range(theta.shape[1]):
            shifted = theta.astype(complex)
            shifted[:, k] += 1j * step
            slope[..., k] = log_loss(rows, shifted).imag / step
        if not objective.on_log:
            slope *= np.exp(log_prediction)[..., None]
        gradient = np.einsum("sr,srk->sk", first, slope)
        return (value * weights).sum(-1), gradient, _outer(second, slope)

    return kernel


def repeated_log(rows: Rows, theta: NDArray[np.inexact]) -> NDArray[np.inexact]:
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
    return log_sum((e + 0 * params, a - alpha * params, b - beta * tokens))


def log_sum(terms: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """ln of the sum of exponentials, for complex logs."""
    top = np.max([np.real(term) for term in terms], axis=0)
    return np.asarray(top + np.log(sum(np.exp(term - top) for term in terms)))


def _worth(log_ratio: NDArray[np.inexact], log_R: NDArray[np.inexact]) -> NDArray[np.inexact]:
    """ln of (1 + R (1 - exp(-(ratio - 1)/R))): the worth of `ratio` times the fresh stock."""
    R = np.exp(log_R)
    # Beyond e^40 repeats the worth has long been its limit.
    ratio = np.exp(np.where(log_ratio.real < 40, log_ratio, 40.0))
    return np.asarray(np.log(1 + R * (1 - np.exp(-(ratio - 1) / R))))


def _columns(rows: int, *columns: Array | float) -> Array:
    """A matrix of these columns; np.stack takes three times as long over a small table."""
    matrix = np.empty((rows, len(columns)))
    for k, column in enumerate(columns):
        matrix[:, k] = column
    return matrix


def _outer(coefficient: Array, vectors: Array) -> Array:
    """Sum over rows of coefficient times v v', (s, k, k)."""
    return np.asarray(np.swapaxes(vectors, 1, 2) @ (coefficient[..., None] * vectors))


repetition_kernel = by_complex_steps(repeated_log)
