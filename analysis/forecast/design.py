"""Which run to pay for next: what each candidate would teach about the target, per FLOP.

The forecast's posterior is normal in ln L, so what a run teaches does not depend on the loss it
will reach: var(t) falls by cov(t, c)²/(var(c) + noise) for each quantity t of the target. N* moves
with the slope of ln L in ln N there, so the slope's variance is what runs are chosen to lower; the
loss gets as sharp by the way. The cost of a run enters as its FLOPs to the power 0.4: with the full
cost the cheapest run always won, and none of those alone reaches the target.
"""

from dataclasses import dataclass

import numpy as np

from analysis.forecast.curve import optimal_n
from analysis.forecast.posterior import Posterior
from analysis.law import Array

COST_POWER = 0.4
_POWERS = (0.0, 0.2, COST_POWER, 0.6, 0.8, 1.0)
_AROUND = np.array([-1.5, 0.0, 1.5])  # e-folds of N around N* at the target
# What the target is: the loss there, and the slope of ln L in ln N, which decides N*.
_LOSS, _SLOPE, _QUANTITIES = 0, 1, 2
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
        return float(target_flops * np.expm1(regret / self.slope))


def choose(
    posterior: Posterior,
    candidates: Candidates,
    target_flops: float,
    runs: int,
    budget: float | None = None,
) -> Design:
    """The runs that teach most about N* at the target for their cost.

    Each is chosen for what it adds to those before it, and once at most. With a budget only runs
    that its rest affords are chosen, and of the batches under several powers of the cost the one
    that leaves the narrowest interval is taken: a high power fills the budget with many cheap
    runs, a low one with few dear ones.

    Args:
        budget: FLOPs that all chosen runs together may cost.
    """
    covariance, noise = _ahead(posterior, candidates, target_flops)
    today = np.diag(covariance)[:_QUANTITIES]
    alone = _widths(today[:, None] - _taught(covariance, noise), today, noise)
    if budget is None:
        batches = [_batch(covariance, noise, candidates.flops, COST_POWER, runs, np.inf)]
    else:
        batches = [
            _batch(covariance, noise, candidates.flops, power, runs, budget) for power in _POWERS
        ]
    chosen, after = min(batches, key=lambda batch: batch[1][-1][_SLOPE])
    return Design(chosen, alone, _widths(np.array(after[1:]).reshape(-1, 2).T, today, noise))


def _batch(
    covariance: Array, noise: float, flops: Array, power: float, runs: int, budget: float
) -> tuple[tuple[int, ...], list[Array]]:
    """Runs chosen one by one, and the variances of the quantities before and after each."""
    free = np.ones(len(flops), bool)
    chosen: list[int] = []
    after = [np.diag(covariance)[:_QUANTITIES]]
    while len(chosen) < runs and (free & (flops <= budget)).any():
        value = _taught(covariance, noise)[_SLOPE] / flops**power
        best = int(np.argmax(np.where(free & (flops <= budget), value, -np.inf)))
        column = covariance[:, _QUANTITIES + best]
        covariance = covariance - np.outer(column, column) / (column[_QUANTITIES + best] + noise)
        chosen.append(best)
        free[best] = False
        budget -= flops[best]
        after.append(np.diag(covariance)[:_QUANTITIES])
    return tuple(chosen), after


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
    # The target's loss and slope, then the candidates.
    take = np.zeros((_QUANTITIES + len(candidates), len(sizes) + len(candidates)))
    take[_LOSS, 1] = 1
    take[_SLOPE, : len(sizes)] = [-1, 0, 1] / (2 * _AROUND[-1])
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
