"""Which run to pay for next: what each candidate would teach about the target, per FLOP.

The forecast's posterior is normal in ln L, so what a run teaches does not depend on the loss it
will reach: var(t) falls by cov(t, c)²/(var(c) + noise) for each quantity t of the target. The cost
of a run enters as its FLOPs to the power 0.4: with the full cost the cheapest run always won, and
none of those alone reaches the target.
"""

from dataclasses import dataclass

import numpy as np

from analysis.forecast.curve import optimal_n
from analysis.forecast.posterior import Posterior
from analysis.law import Array

COST_POWER = 0.4
_AROUND = np.array([-1.5, 0.0, 1.5])  # e-folds of N around N* at the target
# What the target is: the losses there, and twice the slope between them, which decides N*.
_TARGET = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-2 / 3, 0, 2 / 3]])
_QUANTITIES, _LOSS, _SLOPE = len(_TARGET), 1, 3
_REACH = 0.25  # e-folds of N and D over which the gain from compute is measured


@dataclass(frozen=True, slots=True)
class Candidates:
    """Runs that could be trained next: N, D and what each costs in FLOPs; (candidates,) each."""

    N: Array
    D: Array
    flops: Array

    def __len__(self) -> int:
        return len(self.N)


@dataclass(frozen=True, slots=True)
class Widths:
    """Widths that the target's intervals of ln N* and ln L will have, as shares of today's.

    The interval of ln L is that of a run there, its noise included.
    """

    n: Array
    loss: Array


@dataclass(frozen=True, slots=True)
class Design:
    """The runs to train next, best first, and what the target's intervals will be.

    Attributes:
        chosen: places among the candidates.
        alone: after each candidate alone; (candidates,).
        together: after each chosen run and those before it; (chosen,).
    """

    chosen: tuple[int, ...]
    alone: Widths
    together: Widths


@dataclass(frozen=True, slots=True)
class Stakes:
    """What an error of ln N* costs at the target, and what compute is worth there.

    Attributes:
        curvature: of ln L in ln N at fixed compute.
        slope: by how much ln L falls with ln C.
    """

    curvature: float
    slope: float

    def flops(self, sd: float, target_flops: float) -> float:
        """FLOPs of the target that the expected loss of a size off by `sd` in ln N is worth."""
        regret = self.curvature * sd**2 / 2
        return target_flops * regret / self.slope


def choose(
    posterior: Posterior,
    candidates: Candidates,
    target_flops: float,
    budget: float,
    runs: int,
) -> Design:
    """The runs that teach most about loss and N* at the target per FLOP^0.4.

    Each is chosen for what it adds to those before it, among the candidates that the rest of the
    budget affords, and once at most.

    Args:
        budget: FLOPs that all chosen runs together may cost.
    """
    covariance, noise = _ahead(posterior, candidates, target_flops)
    today = np.diag(covariance)[:_QUANTITIES]
    alone = _widths(today[:, None] - _taught(covariance, noise), today, noise)
    flops = candidates.flops
    cost = flops**COST_POWER
    free = np.ones(len(flops), bool)
    chosen: list[int] = []
    after = np.empty((_QUANTITIES, 0))
    while len(chosen) < runs and (free & (flops <= budget)).any():
        value = _taught(covariance, noise).sum(axis=0) / cost
        best = int(np.argmax(np.where(free & (flops <= budget), value, -np.inf)))
        column = covariance[:, _QUANTITIES + best]
        covariance = covariance - np.outer(column, column) / (column[_QUANTITIES + best] + noise)
        chosen.append(best)
        free[best] = False
        budget -= float(flops[best])
        after = np.column_stack([after, np.diag(covariance)[:_QUANTITIES]])
    return Design(tuple(chosen), alone, _widths(after, today, noise))


def stakes(posterior: Posterior, target_flops: float) -> Stakes | None:
    """None where the forecast has no valley at the target, or no gain from more compute."""
    half = np.log(target_flops / 6)
    centre = float(optimal_n(posterior.phi, half, posterior.reference))
    # Beside the valley, N and D larger and smaller together: at the best N, compute counts as
    # much whichever way it is spent.
    n = centre + np.array([*_AROUND, -_REACH, _REACH])
    d = half - centre + np.array([*-_AROUND, -_REACH, _REACH])
    low, middle, high, less, more = posterior.predict(np.exp(n), np.exp(d)).mean
    curvature = (low - 2 * middle + high) / _AROUND[-1] ** 2
    slope = (less - more) / (4 * _REACH)
    return Stakes(float(curvature), float(slope)) if min(curvature, slope) > 0 else None


def _ahead(posterior: Posterior, candidates: Candidates, flops: float) -> tuple[Array, float]:
    """Covariance of the target's quantities and the candidates' ln L, and the noise of a run."""
    half = np.log(flops / 6)
    sizes = float(optimal_n(posterior.phi, half, posterior.reference)) + _AROUND
    points = posterior.predict(
        np.concatenate([np.exp(sizes), candidates.N]),
        np.concatenate([np.exp(half - sizes), candidates.D]),
    )
    take = np.zeros((_QUANTITIES + len(candidates), len(sizes) + len(candidates)))
    take[:_QUANTITIES, : len(sizes)] = _TARGET
    take[_QUANTITIES:, len(sizes) :] = np.eye(len(candidates))
    return take @ points.covariance @ take.T, float(points.noise[0])


def _taught(covariance: Array, noise: float) -> Array:
    """By how much each candidate lowers the variance of each quantity."""
    variance = np.diag(covariance)[_QUANTITIES:] + noise
    return np.asarray(covariance[:_QUANTITIES, _QUANTITIES:] ** 2 / variance)


def _widths(variance: Array, today: Array, noise: float) -> Widths:
    """Of variances, (quantities, any)."""
    loss = np.sqrt((variance[_LOSS] + noise) / (today[_LOSS] + noise))
    return Widths(np.sqrt(variance[_SLOPE] / today[_SLOPE]), loss)
