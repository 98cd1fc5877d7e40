"""The law under a forecast, written around a point inside the data, and its derivatives.

    L = L0·[rho + (1 - rho)·(w·e^(-(a/g)·dn) + (1 - w)·e^(-(b/g)·dd))^g]

with dn = ln N - n0 and dd = ln D - d0 from a reference point (n0, d0). E = rho·L0; w is N's share
of what more N and D could still gain at the reference; a and b are the slopes of ln(L - E) in ln N
alone and in ln D alone. g = 1 is Chinchilla's form (Hoffmann et al. 2022, eq. 2) with alpha = a and
beta = b; a free g is the form with gamma (alpha = a/g, beta = b/g). Written so, no constant but L0
has a unit, and one prior serves every table.
"""

from dataclasses import dataclass

import numpy as np

from analysis.law import Array, Constants

# phi = (ln L0, logit rho, logit w, ln a, ln b, ln g)
SIZE = 6


@dataclass(frozen=True, slots=True)
class Reference:
    """The point (ln N, ln D) around which a curve is written."""

    n: float
    d: float


def log_loss(phi: Array, n: Array, d: Array, at: Reference) -> Array:
    """ln L at ln N = n and ln D = d, shape (points,); `phi` (..., 6) gives (..., points)."""
    return log_loss_and_jacobian(phi, n, d, at)[0]


def log_loss_and_jacobian(phi: Array, n: Array, d: Array, at: Reference) -> tuple[Array, Array]:
    """ln L, (..., points), and its derivatives by phi, (..., points, 6)."""
    value, slopes = log_loss_and_slopes(np.moveaxis(phi[..., np.newaxis, :], -1, 0), n, d, at)
    return value, np.stack(slopes, axis=-1)


def log_loss_and_slopes(phi: Array, n: Array, d: Array, at: Reference) -> tuple[Array, list[Array]]:
    """ln L, and its derivative by each constant; `phi` is six arrays that broadcast with n and d.

    Of many curves, the last axis is best theirs: the points are few.
    """
    dn, dd = n - at.n, d - at.d
    level, logit_rho, logit_w, ln_a, ln_b, ln_g = phi
    a, b, g = np.exp(ln_a), np.exp(ln_b), np.exp(ln_g)
    rho, w = _logistic(logit_rho), _logistic(logit_w)
    by_N = -np.logaddexp(0, -logit_w) - a / g * dn
    by_D = -np.logaddexp(0, logit_w) - b / g * dd
    log_sum = _log_sum(by_N, by_D)
    share = np.exp(by_N - log_sum)
    power = g * log_sum
    reducible = -np.logaddexp(0, logit_rho) + power
    value = _log_sum(-np.logaddexp(0, -logit_rho), reducible)
    # The share of the loss that more N and D can still take away, and of it N's.
    h = np.exp(reducible - value)
    h_N = h * share
    by_a, by_b = -h_N * (a * dn), (h_N - h) * (b * dd)
    slopes = [
        np.ones_like(value), 1 - rho - h, g * (h_N - h * w), by_a, by_b, h * power - by_a - by_b
    ]  # fmt: skip
    return level + value, slopes


def optimal_n(phi: Array, log_product: Array, at: Reference) -> Array:
    """ln N of least loss where ln N + ln D = log_product; broadcast shape.

    In closed form: alpha·w·e^(-alpha·dn) = beta·(1 - w)·e^(-beta·dd) (Hoffmann et al. 2022,
    eq. 4, in these coordinates).
    """
    logit_w, ln_a, ln_b, ln_g = (phi[..., k] for k in range(2, SIZE))
    alpha, beta = np.exp(ln_a - ln_g), np.exp(ln_b - ln_g)
    log_ratio = ln_a - ln_b + logit_w
    return np.asarray(at.n + (log_ratio + beta * (log_product - at.n - at.d)) / (alpha + beta))


def excess(phi: Array, n: Array, d: Array, at: Reference) -> Array:
    """How far ln L lies above the law's least ln L at the same N·D; (points,)."""
    best = optimal_n(phi, n + d, at)
    return log_loss(phi, n, d, at) - log_loss(phi, best, n + d - best, at)


def constants(phi: Array, at: Reference) -> Constants:
    """The same curves as L = E + (A/N^alpha + B/D^beta)^gamma; `phi` (..., 6) gives (...)."""
    level, logit_rho, logit_w, ln_a, ln_b, ln_g = np.moveaxis(phi, -1, 0)
    g = np.exp(ln_g)
    alpha, beta = np.exp(ln_a) / g, np.exp(ln_b) / g
    rho, w = _logistic(logit_rho), _logistic(logit_w)
    scale = (np.exp(level) * (1 - rho)) ** (1 / g)
    return Constants(
        E=rho * np.exp(level),
        A=scale * w * np.exp(alpha * at.n),
        B=scale * (1 - w) * np.exp(beta * at.d),
        alpha=alpha,
        beta=beta,
        gamma=g,
    )


def _log_sum(x: Array, y: Array) -> Array:
    """ln(e^x + e^y), in an eighth of the time of numpy's logaddexp."""
    return np.asarray(np.maximum(x, y) + np.log(1 + np.exp(-np.abs(x - y))))


def _logistic(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))
