"""Kernel regression of ln L on powers of the shares, with a length scale for each source and loss.

The length scales are learnt from the fit's own gradients: a source that moves the loss gets a
short one (recursive feature machines, Radhakrishnan et al. 2024, arXiv:2212.13881, with a
diagonal matrix). A 0.4th power spreads small shares as a logarithm does, and takes zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.linalg.lapack import dpotrf, dpotrs

from analysis.law import Array
from analysis.mixtures.surface import Fitted, Mask, Scaling, Surface

_POWER, _STRETCH, _NEAR_ZERO = 0.4, 3.0, 1e-4
# Rounds in which length scales are learnt, and noise and total variance of the features there.
_ROUNDS, _NOISE, _SPREAD = 3, 0.05, 1.5
# A source that moves nothing keeps this part of the largest inverse squared length scale.
_FLOOR = 0.003
# The choices that the marginal likelihood has.
_NOISES, _SPREADS = (0.001, 0.004, 0.015, 0.06, 0.25, 1.0), (0.7, 1.5, 3.0)
# The most rows that length scales are learnt from, and that the likelihood is computed on: of all
# 512 of RegMix the errors on mixtures held out are 0.8 % smaller, in twice the time.
_ROWS_LEARNT, _ROWS_LIKELY = 256, 160
# Variance of a slope in ln N and ln D, beside that of the kernel.
_SLOPE = 4.0
# Random features of a draw of the prior (Rahimi and Recht 2007).
_FEATURES = 120


@dataclass(frozen=True, slots=True)
class _One:
    """The regression of one standardised loss.

    Attributes:
        weights: inverse squared length scales of the features (f,).
        noise, variance: of the noise, as a part of the kernel's; of the kernel.
        alpha: weights of the rows (rows,).
        factor: Cholesky factor of the kernel with noise.
        target: the loss itself (rows,).
    """

    weights: Array
    noise: float
    variance: float
    alpha: Array
    factor: Array
    target: Array


@dataclass(frozen=True, slots=True)
class Features:
    """Powers of the k shares, and standardised sizes."""

    k: int
    sizes: Scaling

    def __call__(self, inputs: Array) -> Array:
        powers = _STRETCH * (inputs[:, : self.k] + _NEAR_ZERO) ** _POWER
        return np.hstack([powers, self.sizes(inputs[:, self.k :])])

    def slopes(self, inputs: Array) -> Array:
        """Of the powers by the shares (m, k)."""
        return _STRETCH * _POWER * (inputs[:, : self.k] + _NEAR_ZERO) ** (_POWER - 1)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A fitted kernel regression; see `surface.Fitted`.

    Attributes:
        rows: features of the rows learnt from (rows, f).
        losses: how ln L was standardised.
    """

    features: Features
    rows: Array
    losses: Scaling
    fits: tuple[_One, ...]

    def log_losses(self, inputs: Array) -> Array:
        at = self.features(inputs)
        columns = [_kernel(at, self.rows, fit.weights, self.k) @ fit.alpha for fit in self.fits]
        return np.column_stack(columns) * self.losses.width + self.losses.centre

    def spread(self, inputs: Array) -> Array:
        at = self.features(inputs)
        columns = []
        for fit in self.fits:
            cross = _kernel(at, self.rows, fit.weights, self.k)
            own = 1 + _SLOPE * (at[:, self.k :] ** 2).sum(axis=1)
            part = solve_triangular(fit.factor, cross.T, lower=True, check_finite=False)
            left = np.maximum(own - (part**2).sum(axis=0), 0)
            columns.append(np.sqrt(fit.variance * (left + fit.noise)))
        return np.column_stack(columns) * self.losses.width

    def slopes(self, inputs: Array) -> tuple[Array, Array]:
        return self._slopes(inputs, [fit.alpha[:, None] for fit in self.fits], None)

    def draws(self, count: int, rng: np.random.Generator) -> Surface:
        """Draws of the posterior: a draw of the prior, corrected by what the rows say of it."""
        priors, alphas = [], []
        for fit in self.fits:
            prior = _Prior.draw(fit, self.rows, self.k, count, rng)
            noise = np.sqrt(fit.noise * fit.variance) * rng.standard_normal((len(self.rows), count))
            left = fit.target[:, None] - prior.everywhere(self.rows, self.k) - noise
            alphas.append(cho_solve((fit.factor, True), left, check_finite=False))
            priors.append(prior)
        return _Draws(self, alphas, priors)

    @property
    def k(self) -> int:
        return self.features.k

    def _slopes(
        self, inputs: Array, alphas: Sequence[Array], priors: "Sequence[_Prior] | None"
    ) -> tuple[Array, Array]:
        at, chain = self.features(inputs), self.features.slopes(inputs)
        values, slopes = [], []
        for place, (fit, alpha) in enumerate(zip(self.fits, alphas, strict=True)):
            pull = _kernel(at, self.rows, fit.weights, self.k, linear=False) * alpha.T
            value = pull.sum(axis=1)
            by_feature = (pull @ self.rows[:, : self.k] - value[:, None] * at[:, : self.k]) * (
                fit.weights[: self.k]
            )
            # The line in the sizes has no slope by the shares.
            value = value + _SLOPE * (at[:, self.k :] * (alpha.T @ self.rows[:, self.k :])).sum(1)
            if priors is not None:
                more, more_slopes = priors[place].slopes(at, self.k)
                value, by_feature = value + more, by_feature + more_slopes
            values.append(value)
            slopes.append(by_feature * chain * self.losses.width[place])
        logs = np.column_stack(values) * self.losses.width + self.losses.centre
        return logs, np.stack(slopes, axis=1)


@dataclass(frozen=True, slots=True)
class _Prior:
    """Draws of a kernel's prior as sums of random waves, and lines in the sizes.

    Attributes:
        waves: (f, features); phases: (features,).
        heights: (features, draws); lines: (sizes, draws).
    """

    waves: Array
    phases: Array
    heights: Array
    lines: Array

    @classmethod
    def draw(cls, fit: _One, rows: Array, k: int, count: int, rng: np.random.Generator) -> "_Prior":
        waves = np.sqrt(fit.weights)[:, None] * rng.standard_normal((rows.shape[1], _FEATURES))
        heights = np.sqrt(2 * fit.variance / _FEATURES) * rng.standard_normal((_FEATURES, count))
        lines = np.sqrt(fit.variance * _SLOPE) * rng.standard_normal((rows.shape[1] - k, count))
        return cls(waves, rng.uniform(0, 2 * np.pi, _FEATURES), heights, lines)

    def everywhere(self, at: Array, k: int) -> Array:
        """Every draw at every place (m, draws)."""
        return np.cos(at @ self.waves + self.phases) @ self.heights + at[:, k:] @ self.lines

    def slopes(self, at: Array, k: int) -> tuple[Array, Array]:
        """Draw i at place i, and its slopes by the first k features."""
        # Single precision: a draw is no more exact than its waves are many.
        angles = (at @ self.waves + self.phases).astype(np.float32)
        value = (np.cos(angles) * self.heights.T).sum(axis=1) + (at[:, k:] * self.lines.T).sum(1)
        return value, -(np.sin(angles) * self.heights.T) @ self.waves[:k].T


@dataclass(frozen=True, slots=True)
class _Draws:
    """Draws of a kernel regression."""

    kernel: Kernel
    alphas: Sequence[Array]
    priors: Sequence[_Prior]

    def slopes(self, inputs: Array) -> tuple[Array, Array]:
        return self.kernel._slopes(inputs, self.alphas, self.priors)


class KernelLaw:
    """Kernel regression as a law to choose."""

    name = "kernel"
    formula = (
        "ln L of each source by kernel regression on shares^0.4, with length scales by source "
        "(recursive feature machine, arXiv:2212.13881)"
    )

    def least_rows(self, k: int, s: int) -> int:
        return 8

    def fits(self, inputs: Array, k: int, y: Array, keep: Sequence[Mask]) -> list[Fitted]:
        return [fit_kernel(inputs[mask], k, y[mask]) for mask in keep]


def fit_kernel(inputs: Array, k: int, y: Array) -> Kernel:
    """Kernel regression of each column of ln L (rows, t) on its inputs (rows, k + s)."""
    features = Features(k, Scaling.of(inputs[:, k:]))
    losses = Scaling.of(y)
    rows, standard = features(inputs), losses(y)
    fits = tuple(_fit_one(rows, k, standard[:, j]) for j in range(y.shape[1]))
    return Kernel(features, rows, losses, fits)


def _fit_one(rows: Array, k: int, y: Array) -> _One:
    variance = rows.var(axis=0)
    part, few = _every(len(rows), _ROWS_LEARNT), _every(len(rows), _ROWS_LIKELY)
    weights = _strengths(rows[part], k, y[part], variance)
    spread, noise = _likeliest(rows[few], k, y[few], weights)
    weights = weights * spread
    factor, alpha = _solved(_kernel(rows, rows, weights, k), y, noise)
    return _One(weights, noise, max(float(y @ alpha) / len(y), 1e-12), alpha, factor, y)


def _every(count: int, most: int) -> np.ndarray:
    """Every n-th place, so that an ordered table gives a part of each kind."""
    return np.linspace(0, count - 1, min(most, count)).astype(int)


def _strengths(rows: Array, k: int, y: Array, variance: Array) -> Array:
    """Inverse squared length scales from the fit's own slopes, of total variance 1."""
    weights = np.ones(rows.shape[1])
    for _ in range(_ROUNDS):
        weights = weights * (_SPREAD / max(float(weights @ variance), 1e-300))
        matrix = _kernel(rows, rows, weights, k)
        _, alpha = _solved(matrix, y, _NOISE)
        pull = matrix * alpha
        slopes = (pull @ rows - pull.sum(axis=1, keepdims=True) * rows) * weights
        strength = (slopes**2).mean(axis=0)
        weights = np.maximum(strength / max(float(strength.max()), 1e-300), _FLOOR)
    return np.asarray(weights / max(float(weights @ variance), 1e-300))


def _likeliest(rows: Array, k: int, y: Array, weights: Array) -> tuple[float, float]:
    """Spread and noise of the largest marginal likelihood, the variance at its own best."""
    best = (np.inf, 1.0, 1.0)
    for spread in _SPREADS:
        matrix = _kernel(rows, rows, weights * spread, k)
        for noise in _NOISES:
            factor, alpha = _solved(matrix, y, noise)
            size = len(y) * np.log(max(float(y @ alpha), 1e-300))
            best = min(best, (size + 2 * float(np.log(np.diag(factor)).sum()), spread, noise))
    return best[1], best[2]


def _solved(matrix: Array, y: Array, noise: float) -> tuple[Array, Array]:
    """The Cholesky factor of the kernel with noise, and the rows' weights."""
    # LAPACK by its name: scipy's checks take as long as a matrix of 160 rows.
    noisy = matrix.copy().T
    noisy.flat[:: len(noisy) + 1] += noise
    factor, fault = dpotrf(noisy, lower=1, overwrite_a=1)
    if fault:
        raise np.linalg.LinAlgError(f"the kernel with noise {noise} is not positive definite")
    return factor, dpotrs(factor, y, lower=1)[0]


def _kernel(at: Array, rows: Array, weights: Array, k: int, *, linear: bool = True) -> Array:
    """exp(-½ Σ w (a - b)²), plus a line in the sizes (m, rows)."""
    scale = np.sqrt(weights)
    left, right = at * scale, rows * scale
    apart = left @ right.T
    apart -= 0.5 * (left**2).sum(axis=1)[:, None]
    apart -= 0.5 * (right**2).sum(axis=1)
    np.exp(np.minimum(apart, 0, out=apart), out=apart)
    if linear and rows.shape[1] > k:
        apart += _SLOPE * at[:, k:] @ rows[:, k:].T
    return np.asarray(apart)
