"""Iso-loss contours in closed form, for one law or for all of its bootstrap draws at once.

The exponent gamma of a law drops out: with r = (loss - E)^(1/gamma) the contour of a loss is
A/N^alpha + B/D^beta = r for the whole family. Along it the lifetime optimum has a closed form
in ρ, the inference bill over the training bill. So a whole frontier is an array expression,
and the optimum for a given demand is one safe solve in log ρ.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from analysis.law import Array, Constants, Law


@dataclass(frozen=True)
class Contour:
    """All (N, D) of one loss: A/N^alpha + B/D^beta = reducible. Shapes broadcast."""

    law: Constants
    reducible: Array

    @classmethod
    def of(cls, law: Law, loss: ArrayLike) -> Self:
        """The contour of a loss, which must lie above E."""
        law = Constants.of(law)
        return cls(law, np.asarray((np.asarray(loss, float) - law.E) ** (1 / law.gamma)))

    @classmethod
    def through(cls, law: Constants, N: ArrayLike, D: ArrayLike) -> Self:
        """The contour that a model lies on."""
        N, D = np.asarray(N, float), np.asarray(D, float)
        return cls(law, np.asarray(law.A * N**-law.alpha + law.B * D**-law.beta))

    def N(self, rho: ArrayLike) -> Array:
        """Parameters where inference costs `rho` times the training."""
        k = (1 + np.asarray(rho)) * self.law.beta / self.law.alpha
        return np.asarray((self.law.A * (1 + 1 / k) / self.reducible) ** (1 / self.law.alpha))

    def D(self, rho: ArrayLike) -> Array:
        """Training tokens where inference costs `rho` times the training."""
        k = (1 + np.asarray(rho)) * self.law.beta / self.law.alpha
        return np.asarray((self.law.B * (1 + k) / self.reducible) ** (1 / self.law.beta))

    @property
    def N_min(self) -> Array:
        """Size at and below which no amount of data reaches the loss."""
        return np.asarray((self.law.A / self.reducible) ** (1 / self.law.alpha))

    def tokens(self, N: ArrayLike) -> Array:
        """Training tokens that bring N parameters to the loss; infinite at and below N_min."""
        left = self.reducible - self.law.A * np.asarray(N, float) ** -self.law.alpha
        reached = left > 0
        D = (self.law.B / np.where(reached, left, 1.0)) ** (1 / self.law.beta)
        return np.where(reached, D, np.inf)

    def rho(self, demand: ArrayLike) -> Array:
        """Solve rho·D(rho) = demand, with demand in tokens at the price of training tokens.

        With x = log rho, x + log D is convex and rises with slope between 1 and 1 + 1/beta.
        The search starts to the right of the root, where Newton's steps on a convex function
        only shrink towards it, so it cannot fail.
        """
        demand = np.asarray(demand, float)
        served = demand > 0
        if not served.any():
            return np.zeros(np.broadcast_shapes(demand.shape, self.reducible.shape))
        y = np.log(np.where(served, demand, 1.0))
        beta, k = self.law.beta, self.law.beta / self.law.alpha
        log_scale = np.log(self.law.B / self.reducible) / beta
        # x + log D lies above both its asymptotes; where the higher one meets y is the start.
        near_zero = y - log_scale - np.log1p(k) / beta
        near_infinity = (y - log_scale - np.log(k) / beta) / (1 + 1 / beta)
        x = np.minimum(near_zero, near_infinity)
        for _ in range(60):
            extra = k * np.exp(x)
            inner = 1 + k + extra
            step = (x + log_scale + np.log(inner) / beta - y) / (1 + extra / (beta * inner))
            x = x - step
            # Newton squares its error: a step of 1e-8 leaves 1e-16.
            if np.all(np.abs(step) < 1e-8):
                return np.where(served, np.exp(x), 0.0)
        raise AssertionError("Newton on a convex function did not converge")
