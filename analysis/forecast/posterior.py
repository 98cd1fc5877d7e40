"""What a table says about losses at other N and D: a law, a discrepancy and noise, on ln L.

y = ln f(N, D; phi) + z(N, D) + e. f is the law of `curve`, with priors on its constants. z is the
law's error: a Gaussian process of scale tau that is smooth in N and D, larger for runs far from the
frontier and far below the table's largest compute, and growing beyond it. e is noise of scale
sigma, with the tails of Student's t. phi is integrated by Laplace's method at each point of a grid
over (sigma, tau), the grid by its evidence; nothing is resampled. C is 6·N·D throughout.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.linalg.lapack import dtrtrs
from threadpoolctl import ThreadpoolController

from analysis.forecast.curve import Reference, excess, log_loss, log_loss_and_jacobian
from analysis.forecast.rows import Rows
from analysis.law import Array, ForecastForm, deviations

# Means and deviations of the constants of gamma fits to public tables, narrowed by about 0.7;
# ln L0 has the mean of ln L around the reference.
_MEAN = np.array([0.0, 0.2, 0.1, np.log(0.33), np.log(0.36), np.log(0.65)])
_SD = np.array([0.2, 0.55, 0.55, 0.28, 0.32, 0.32])
_STEPS = np.array([-1.8, -0.9, 0.0, 0.9, 1.8])
_SIGMA, _SIGMA_SPREAD = 0.0025, 0.8
_TAU, _TAU_SPREAD = 0.004, 0.7
_REPLICATED_SPREAD = 0.3
# E-folds of N·D and D/N over which the law's error changes, and the scales on which it grows with
# the distance from the frontier (in ln L) and from the largest compute (in e-folds).
_LENGTH, _OFF_FRONTIER, _FAR = 3.5, 0.05, 4.0
_TOO_FAR_OFF = 0.5  # above the frontier in ln L, a row says nothing about it
_FREEDOM = 4.0  # of Student's t, for residuals beyond _GAUSSIAN sigma
_GAUSSIAN = 2.0
_FIRST_SIGMA = 0.01  # while the law's first constants are searched
_MOST_STEPS = 60
_SETTLED = 1e-12  # of the decrease in cost that the next step promises
_LEAST_DAMPING = 1e-6
# Points predicted in one go: their covariance grows with the square.
_TOGETHER = 256


@contextmanager
def _one_thread() -> Iterator[None]:
    # Hundreds of small solutions: on two busy cores, threads of BLAS made them six times slower.
    with _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> ThreadpoolController:
    """Made once: to look for the libraries takes as long as a prediction."""
    return ThreadpoolController()


@dataclass(frozen=True, slots=True)
class Scales:
    """A point of the grid with all that a prediction under it needs.

    Attributes:
        weight: its share of the evidence.
        sigma, tau: scales of noise and of the law's error, in ln L.
        phi: the law's constants of greatest posterior density; (6,).
        factor: lower Cholesky factor of the rows' covariance; (rows, rows).
        whitened: residuals of the rows and derivatives by phi, multiplied by its inverse;
            (rows,) and (rows, 6).
        precision: of phi; (6, 6).
    """

    weight: float
    sigma: float
    tau: float
    phi: Array
    factor: Array
    whitened: tuple[Array, Array]
    precision: Array


@dataclass(frozen=True, slots=True)
class Marginals:
    """ln L at several points, each a normal distribution, and where its variance comes from.

    Attributes:
        mean: (points,).
        law, discrepancy, noise: the parts of each point's variance; (points,).
    """

    mean: Array
    law: Array
    discrepancy: Array
    noise: Array

    @property
    def sd(self) -> Array:
        """Of a run's ln L, its noise included."""
        return np.asarray(np.sqrt(self.law + self.discrepancy + self.noise))

    def losses(self, level: float) -> tuple[Array, Array, Array]:
        """A run's loss, and the ends of its interval."""
        half = deviations(level) * self.sd
        return np.exp(self.mean), np.exp(self.mean - half), np.exp(self.mean + half)


@dataclass(frozen=True, slots=True)
class Prediction(Marginals):
    """ln L at several points together; `covariance` (points, points) is without noise."""

    covariance: Array


@dataclass(frozen=True, slots=True)
class Posterior:
    """A table's forecast. `rows` are those it learnt from; `phi` averages the grid's constants."""

    rows: Rows
    reference: Reference
    phi: Array
    error_scale: Array
    grid: tuple[Scales, ...]

    @_one_thread()
    def predict(self, N: Array, D: Array) -> Prediction:
        """ln L of runs of N parameters and D tokens; (points,) each."""
        n, d = np.log(np.asarray(N, float)), np.log(np.asarray(D, float))
        scale = self._scale(n, d)
        own = scale[:, None] * scale * _matern(n, d, n, d)
        across = self.error_scale[:, None] * scale * _matern(self.rows.n, self.rows.d, n, d)
        weights, sigma, tau = np.array([(p.weight, p.sigma, p.tau) for p in self.grid]).T
        value, J = log_loss_and_jacobian(
            np.array([point.phi for point in self.grid]), n, d, self.reference
        )
        residual, rows_J = map(np.array, zip(*(point.whitened for point in self.grid), strict=True))
        # What the rows say of the points: (grid, rows, points).
        reach = np.array([_solve(point.factor, point.tau**2 * across) for point in self.grid])
        back = np.swapaxes(reach, 1, 2)
        q = J - back @ rows_J
        means = value + (back @ residual[..., np.newaxis])[..., 0]
        mean = weights @ means
        apart = means - mean
        # Summed over the grid within each product: a matrix of each would take 25 times the memory.
        precision = np.array([point.precision for point in self.grid])
        law = np.tensordot(
            weights[:, np.newaxis, np.newaxis] * q,
            np.linalg.solve(precision, np.swapaxes(q, 1, 2)),
            axes=((0, 2), (0, 1)),
        ) + apart.T @ (weights[:, np.newaxis] * apart)
        known = (np.sqrt(weights)[:, np.newaxis, np.newaxis] * reach).reshape(-1, len(n))
        error = (weights @ tau**2) * own - known.T @ known
        noise = float(weights @ sigma**2)
        noises = np.full(len(n), noise)
        return Prediction(mean, np.diag(law), np.diag(error), noises, law + error)

    def predict_each(self, N: Array, D: Array) -> Marginals:
        """`predict` of any number of points, one by one: time and memory grow with their number."""
        parts = [
            self.predict(N[start : start + _TOGETHER], D[start : start + _TOGETHER])
            for start in range(0, len(N), _TOGETHER)
        ]
        names = ("mean", "law", "discrepancy", "noise")
        return Marginals(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))

    @property
    def sigma(self) -> float:
        """Scale of the noise, in ln L: root mean square over the grid."""
        return float(np.sqrt(sum(point.weight * point.sigma**2 for point in self.grid)))

    @property
    def tau(self) -> float:
        """Scale of the law's error inside the data, in ln L: root mean square over the grid."""
        return float(np.sqrt(sum(point.weight * point.tau**2 for point in self.grid)))

    @property
    def weight_of_largest_tau(self) -> float:
        """Near 1 the rows differ by more than any smooth error: their recipes differ."""
        largest = max(point.tau for point in self.grid)
        return float(sum(point.weight for point in self.grid if point.tau == largest))

    def _scale(self, n: Array, d: Array) -> Array:
        return error_scale(
            excess(self.phi, n, d, self.reference), n + d, float((self.rows.n + self.rows.d).max())
        )


@_one_thread()
def posterior(rows: Rows, form: ForecastForm = "gamma") -> Posterior:
    """Learn law, discrepancy and noise from rows."""
    reference, height = _reference(rows)
    mean, sd = _MEAN.copy(), _SD.copy()
    mean[0] = height
    if form == "chinchilla":
        mean[-1], sd[-1] = 0.0, 1e-6
    prior = _Prior(mean, 1 / sd**2)
    phi = _first_constants(rows, reference, prior)
    above = excess(phi, rows.n, rows.d, reference)
    kept = above <= _TOO_FAR_OFF
    if not kept.all():
        # Without the rows that leave, or they would bend what is near the frontier.
        rows = rows.only(kept)
        phi = _first_constants(rows, reference, prior)
        above = excess(phi, rows.n, rows.d, reference)
    scale = error_scale(above, rows.n + rows.d, float((rows.n + rows.d).max()))
    kernel = scale[:, None] * scale * _matern(rows.n, rows.d, rows.n, rows.d)
    sigma, sigma_spread = _SIGMA, _SIGMA_SPREAD
    if rows.replicated_sd is not None:
        sigma, sigma_spread = rows.replicated_sd, _REPLICATED_SPREAD
    points, evidence = [], []
    for s in _STEPS:
        for t in _STEPS:
            scales = sigma * np.exp(sigma_spread * s), _TAU * np.exp(_TAU_SPREAD * t)
            log_evidence, point = _at_scales(rows, reference, prior, kernel, scales, phi)
            phi = point.phi
            points.append(point)
            evidence.append(log_evidence - s**2 / 2 - t**2 / 2)
    weights = np.exp(np.array(evidence) - max(evidence))
    weights /= weights.sum()
    grid = tuple(
        replace(point, weight=float(weight)) for weight, point in zip(weights, points, strict=True)
    )
    return Posterior(rows, reference, weights @ [p.phi for p in points], scale, grid)


def error_scale(above: Array, log_product: Array, largest: float) -> Array:
    """By how much the law's error grows with the distance from frontier and largest compute."""
    distance = np.maximum(above, 0) / _OFF_FRONTIER + np.abs(log_product - largest) / _FAR
    return np.asarray(1 + distance)


@dataclass(frozen=True, slots=True)
class _Prior:
    mean: Array
    precision: Array


@dataclass(frozen=True, slots=True)
class _Mode:
    """The posterior's mode in phi at fixed scales."""

    phi: Array
    cost: float
    residual: Array
    jacobian: Array
    precision: Array


def _reference(rows: Rows) -> tuple[Reference, float]:
    """Means of ln N, ln D and ln L over the good rows of the top decade of compute."""
    product = rows.n + rows.d
    top = product >= product.max() - np.log(10)
    good = top & (rows.y <= rows.y[top].min() + np.log(1.05))
    return Reference(rows.n[good].mean(), rows.d[good].mean()), float(rows.y[good].mean())


def _first_constants(rows: Rows, reference: Reference, prior: _Prior) -> Array:
    """Constants from which excess and search start: no discrepancy, the tails of Student's t."""
    phi, trust = prior.mean, np.ones(len(rows))
    for _ in range(6):
        factor = np.diag(_FIRST_SIGMA / np.sqrt(trust))
        phi = _mode(rows, reference, prior, factor, phi).phi
        residual = (rows.y - log_loss(phi, rows.n, rows.d, reference)) / _FIRST_SIGMA
        trust = np.minimum(1, (_FREEDOM + 1) / (_FREEDOM + residual**2))
    return phi


def _at_scales(
    rows: Rows,
    reference: Reference,
    prior: _Prior,
    kernel: Array,
    scales: tuple[float, float],
    phi: Array,
) -> tuple[float, Scales]:
    """The log evidence of (sigma, tau) without their own prior, and the grid's point there.

    Residuals beyond two sigma are trusted less, as under Student's t; the evidence is that of the
    loss so bent, with its Gaussian curvature at the mode.
    """
    sigma, tau = scales
    trust = np.ones(len(rows))
    for last in (False, False, True):
        noise = sigma**2 / (rows.count * trust)
        factor = cholesky(tau**2 * kernel + np.diag(noise), lower=True, check_finite=False)
        mode = _mode(rows, reference, prior, factor, phi)
        phi = mode.phi
        back = solve_triangular(factor, mode.residual, lower=True, trans=1, check_finite=False)
        # The noise of each row in units of its own sigma.
        squared = (noise * back) ** 2 * rows.count / sigma**2
        if not last:
            knee = _GAUSSIAN**2
            trust = np.minimum(1, (_FREEDOM + knee) / (_FREEDOM + squared))
    evidence = (
        -mode.cost
        - np.log(np.diag(factor)).sum()
        - np.linalg.slogdet(mode.precision)[1] / 2
        + (trust * squared / 2 - _bent(squared) - np.log(trust) / 2).sum()
    )
    point = Scales(0.0, sigma, tau, phi, factor, (mode.residual, mode.jacobian), mode.precision)
    return float(evidence), point


def _bent(squared: Array) -> Array:
    """The loss of a residual whose weight is 1 up to two sigma and Student's beyond."""
    knee = _GAUSSIAN**2
    tail = knee / 2 + (_FREEDOM + knee) / 2 * np.log((_FREEDOM + squared) / (_FREEDOM + knee))
    return np.where(squared < knee, squared / 2, tail)


def _mode(rows: Rows, reference: Reference, prior: _Prior, factor: Array, phi: Array) -> _Mode:
    """Minimise the whitened squares and the prior's by damped Gauss-Newton from `phi`."""

    def at(phi: Array) -> _Mode:
        value, J = log_loss_and_jacobian(phi, rows.n, rows.d, reference)
        white = _solve(factor, np.column_stack([rows.y - value, J]))
        residual, J = white[:, 0], white[:, 1:]
        off = phi - prior.mean
        cost = (residual @ residual + off @ (prior.precision * off)) / 2
        return _Mode(phi, float(cost), residual, J, J.T @ J + np.diag(prior.precision))

    best, damping = at(phi), 0.0
    for _ in range(_MOST_STEPS):
        slope = best.jacobian.T @ best.residual - prior.precision * (best.phi - prior.mean)
        damped = best.precision + damping * np.diag(np.diag(best.precision))
        step = np.linalg.solve(damped, slope)
        # The decrease that a quadratic would give.
        if slope @ step < _SETTLED:
            break
        tried = at(best.phi + step)
        if tried.cost <= best.cost:
            best, damping = tried, damping / 10 if damping > _LEAST_DAMPING else 0.0
        else:
            damping = max(10 * damping, 1e-3)
    return best


def _matern(n: Array, d: Array, n2: Array, d2: Array) -> Array:
    """Matern 3/2 over ln ND and ln D/N; (points, points2)."""
    product = (n + d)[:, None] - (n2 + d2)
    ratio = (d - n)[:, None] - (d2 - n2)
    r = np.sqrt(3) * np.hypot(product, ratio) / _LENGTH
    return np.asarray((1 + r) * np.exp(-r))


def _solve(factor: Array, columns: Array) -> Array:
    # The routine itself: what scipy's function checks takes longer than to solve.
    solution, _ = dtrtrs(factor, columns, lower=1)
    return np.asarray(solution)
