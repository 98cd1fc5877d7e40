"""Mixture laws with few constants: L is a sum of terms, one of them made of the shares.

r are the shares, n and d are ln N and ln D less their means, in terms of their own that a table of
one size lacks. Every term is exp(u); a form gives u and its derivatives by its own constants.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.law import Array
from analysis.mixtures.surface import Fitted, Mask, Surface
from analysis.mixtures.terms import (
    Constant,
    Exponential,
    MixedSize,
    Powers,
    Size,
    Term,
    log_sum,
)
from analysis.solver.newton import Chart, Derivatives, solve

# Standard deviation of ln L's errors that a first fit assumes; a second one takes its residuals'.
_FIRST_ERROR = 0.03
_BOUND = 30.0
# A complex step has no rounding, so that any small one gives slopes to the last digit.
_STEP = 1e-30
# Derivatives by all constants at all rows that are solved together, so that they stay in cache.
_CACHED = 2**15


@dataclass(frozen=True, slots=True)
class FormLaw:
    """A sum of terms as a law to choose; see `surface.Law`.

    Attributes:
        reach: standard deviation of the constants around their start, as a prior: those that the
            rows say nothing of stay there.
    """

    name: str
    formula: str
    share_term: Term
    reach: float
    mixed_sizes: bool = False

    def least_rows(self, k: int, s: int) -> int:
        return sum(term.count(k) for term in self.terms(s)) + 2

    def terms(self, s: int) -> tuple[Term, ...]:
        """The constant, the term of the shares, and one for each of s sizes."""
        sizes: list[Term] = [(MixedSize if self.mixed_sizes else Size)(i) for i in range(s)]
        return (Constant(), self.share_term, *sizes)

    def fits(self, inputs: Array, k: int, y: Array, keep: Sequence[Mask]) -> list[Fitted]:
        """All choices of rows of a source are one batch."""
        sizes = inputs[:, k:]
        terms = self.terms(sizes.shape[1])
        centre = sizes.mean(axis=0)
        every, weights = np.ones((1, len(y))), np.array(keep, float)
        totals, constants = [], []
        for column in y.T:
            total = _Total(terms, k, centre, (_FIRST_ERROR / self.reach) ** 2)
            first = total.fitted(inputs, column, every)
            error = float(((total.log(first, *total.split(inputs)) - column) ** 2).mean())
            total = replace(total, prior=max(error, 1e-8) / self.reach**2)
            # The optimum of all rows is near those of its parts.
            totals.append(total)
            constants.append(total.fitted(inputs, column, weights, first[0]))
        theta = np.stack(constants, axis=1)
        return [
            FormFit(tuple(totals), own, inputs[mask], y[mask])
            for own, mask in zip(theta, keep, strict=True)
        ]


EXPONENTIAL = FormLaw(
    "exponential",
    "L of each source = c + exp(Σ t_j r_j) (data mixing law, arXiv:2403.16952)",
    Exponential(),
    reach=10.0,
)
POWER = FormLaw(
    "power",
    "L of each source = c + 1/Σ C_j r_j^γ_j, and A/N^α + B/D^β where N and D vary (additive law, "
    "arXiv:2507.09404, eq. 2.4)",
    Powers(),
    reach=1.0,
)
MIXED_SIZES = FormLaw(
    "joint",
    "L of each source = c + 1/Σ C_j r_j^γ_j + (Σ A_j r_j)^a/N^α + (Σ B_j r_j)^b/D^β (joint law, "
    "arXiv:2507.09404, eq. 2.5)",
    Powers(),
    reach=1.0,
    mixed_sizes=True,
)


@dataclass(frozen=True, slots=True)
class _Total:
    """The sum of the terms of one loss, with all their constants in one row.

    Attributes:
        centre: of the sizes.
        prior: weight of the start beside a row.
    """

    terms: tuple[Term, ...]
    k: int
    centre: Array
    prior: float

    def log(self, theta: Array, shares: Array, sizes: Array) -> Array:
        """ln L (b, m)."""
        parts = self._parts(theta)
        logs = [t.log(c, shares, sizes) for t, c in zip(self.terms, parts, strict=True)]
        return log_sum(np.stack(logs, axis=-1))

    def with_jacobian(self, theta: Array, shares: Array, sizes: Array) -> tuple[Array, Array]:
        """ln L (b, m), and its derivatives (b, m, p)."""
        terms = [
            term.with_jacobian(part, shares, sizes)
            for term, part in zip(self.terms, self._parts(theta), strict=True)
        ]
        total = log_sum(np.stack([log for log, _ in terms], axis=-1))
        slopes = [np.exp(log - total)[..., None] * slope for log, slope in terms]
        return total, np.concatenate(slopes, axis=-1)

    def split(self, inputs: Array) -> tuple[Array, Array]:
        """Shares, and sizes from their means."""
        return inputs[..., : self.k], inputs[..., self.k :] - self.centre

    def start(self, y: Array) -> Array:
        """Constants to start from for ln L (rows,): half the least loss is the constant."""
        level, least = float(np.exp(y).mean()), float(np.exp(y).min())
        left = (level - 0.5 * least) / (len(self.terms) - 1)
        rest = [term.start(self.k, float(np.log(left))) for term in self.terms[1:]]
        return np.concatenate([self.terms[0].start(self.k, float(np.log(0.5 * least))), *rest])

    def fitted(self, inputs: Array, y: Array, weights: Array, start: Array | None = None) -> Array:
        """Constants of least squares in ln L, for each row of weights (b, p)."""
        centre, count = self.start(y), len(weights)
        begin = np.tile(centre if start is None else start, (count, 1))
        return self._solved(
            inputs, begin, weights, np.tile(y, (count, 1)), np.tile(centre, (count, 1))
        )

    def refitted(self, inputs: Array, y: Array, centre: Array, start: Array) -> Array:
        """The same for each row of ln L (b, rows) and each centre of the prior (b, p)."""
        begin = np.tile(start, (len(y), 1))
        return self._solved(inputs, begin, np.ones_like(y), y, centre)

    def _solved(
        self, inputs: Array, begin: Array, weights: Array, y: Array, centre: Array
    ) -> Array:
        rows, p = y.shape[1], begin.shape[1]
        wide = np.full(p, _BOUND)
        chart = Chart(lambda x: x, None, None, -wide, wide)
        derivatives = self._derivatives(*self.split(inputs))
        few = max(2, _CACHED // (rows * p))
        # The solver hands to each problem its own row.
        own = np.hstack([weights, y, centre])
        parts = [
            solve(derivatives, chart, *part, max_iterations=100, tolerance=1e-2).x
            for part in ((begin[i : i + few], own[i : i + few]) for i in range(0, len(begin), few))
        ]
        return np.concatenate(parts)

    def _derivatives(self, shares: Array, sizes: Array) -> Derivatives:
        rows = len(shares)

        def derivatives(theta: Array, own: Array) -> tuple[Array, Array, Array]:
            weights, y, centre = np.split(own, [rows, 2 * rows], axis=1)
            log, slopes = self.with_jacobian(theta, shares, sizes)
            off = (log - y) * weights
            away = theta - centre
            value = 0.5 * (off * (log - y)).sum(axis=1) + 0.5 * self.prior * (away**2).sum(axis=1)
            turned = np.swapaxes(slopes, 1, 2)
            gradient = (turned @ off[..., None])[..., 0] + self.prior * away
            # Gauss and Newton's: the errors are too small for the second derivatives to matter.
            hessian = turned @ (slopes * weights[..., None])
            return value, gradient, hessian + self.prior * np.eye(theta.shape[1])

        return derivatives

    def _parts(self, theta: Array) -> list[Array]:
        ends = np.cumsum([term.count(self.k) for term in self.terms])
        return np.split(theta, ends[:-1], axis=1)


@dataclass(frozen=True, slots=True)
class FormFit:
    """A fitted form; see `surface.Fitted`.

    Attributes:
        theta: constants by loss (t, p), or of draws (draws, t, p).
        inputs, y: what it was fitted to.
    """

    totals: tuple[_Total, ...]
    theta: Array
    inputs: Array
    y: Array

    def log_losses(self, inputs: Array) -> Array:
        columns = [
            total.log(theta[None], *total.split(inputs))[0]
            for total, theta in zip(self.totals, self.theta, strict=True)
        ]
        return np.column_stack(columns)

    def spread(self, inputs: Array) -> Array:
        rows, p = len(self.y), self.theta.shape[-1]
        squares = ((self.log_losses(self.inputs) - self.y) ** 2).sum(axis=0)
        variance = squares / max(rows - p, 1)
        levers = np.column_stack(self._levers(inputs))
        return np.asarray(np.sqrt(variance * (1 + levers) + 1e-16))

    def slopes(self, inputs: Array) -> tuple[Array, Array]:
        theta = np.broadcast_to(self.theta, (len(inputs), *self.theta.shape[-2:]))
        values, slopes = [], []
        for place, total in enumerate(self.totals):
            # Each input is a batch of its own, of one row, under its own draw's constants.
            shares, sizes = (part[:, None, :] for part in total.split(inputs))
            steps = []
            for source in range(total.k):
                moved = shares.astype(complex)
                moved[..., source] += 1j * _STEP
                log = total.log(theta[:, place], moved, sizes)[:, 0]
                steps.append(log.imag / _STEP)
            values.append(log.real)
            slopes.append(np.stack(steps, axis=1))
        return np.stack(values, axis=1), np.stack(slopes, axis=1)

    def draws(self, count: int, rng: np.random.Generator) -> Surface:
        """Refits to losses and to a prior drawn anew around the law.

        A row's noise has its residual and, in place of what the fit took out of it, a part of the
        mean variance as large as its lever: so it is right on average where all noise is alike,
        follows rows of more noise, and stays where a row alone determines a constant (a lever of
        1). Losses of one run share the residual's sign, as their noise may.
        """
        rows = len(self.y)
        shared = rng.standard_normal((count, rows))
        refits = []
        for total, column, theta, lever in zip(
            self.totals, self.y.T, self.theta, self._levers(self.inputs), strict=True
        ):
            log = total.log(theta[None], *total.split(self.inputs))[0]
            residuals = column - log
            variance = float((residuals**2).sum() / max(rows - lever.sum(), 1.0))
            taken = np.sqrt(lever * variance) * rng.standard_normal((count, rows))
            away = np.sqrt(variance / total.prior) * rng.standard_normal((count, len(theta)))
            drawn = log + residuals * shared + taken
            refits.append(total.refitted(self.inputs, drawn, theta + away, theta))
        return replace(self, theta=np.stack(refits, axis=1))

    def _levers(self, inputs: Array) -> list[Array]:
        """Variance of ln L there by the constants', in variances of a row; by loss (m,)."""
        levers = []
        for total, theta in zip(self.totals, self.theta, strict=True):
            slopes = total.with_jacobian(theta[None], *total.split(self.inputs))[1][0]
            hessian = slopes.T @ slopes + total.prior * np.eye(slopes.shape[1])
            there = total.with_jacobian(theta[None], *total.split(inputs))[1][0]
            levers.append((there * np.linalg.solve(hessian, there.T).T).sum(axis=1))
        return levers
