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
_QUANTITIES = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-2 / 3, 0, 2 / 3]])


@dataclass(frozen=True, slots=True)
class Choice:
    """A run to train next; `candidate` is its place among the candidates.

    `n_width` and `loss_width` are the widths that the target's intervals of ln N* and ln L will
    have after this run and those chosen before it, as shares of today's.
    """

    candidate: int
    n_width: float
    loss_width: float


def choose(
    posterior: Posterior, N: Array, D: Array, target_flops: float, runs: int
) -> tuple[Choice, ...]:
    """The runs that teach most about loss and N* at the target per FLOP^0.4, best first.

    Args:
        N, D: of the candidates; (candidates,). Each is chosen once at most.
    """
    half = np.log(target_flops / 6)
    sizes = float(optimal_n(posterior.phi, half, posterior.reference)) + _AROUND
    points = posterior.predict(
        np.concatenate([np.exp(sizes), N]), np.concatenate([np.exp(half - sizes), D])
    )
    noise = float(points.noise[0])
    quantities = len(_QUANTITIES)
    take = np.zeros((quantities + len(N), len(sizes) + len(N)))
    take[:quantities, : len(sizes)] = _QUANTITIES
    take[quantities:, len(sizes) :] = np.eye(len(N))
    covariance = take @ points.covariance @ take.T
    today = np.diag(covariance)[:quantities]
    cost = (6 * N * D) ** COST_POWER
    chosen: list[Choice] = []
    for _ in range(min(runs, len(N))):
        variance = np.diag(covariance)[quantities:] + noise
        taught = (covariance[:quantities, quantities:] ** 2).sum(axis=0) / variance
        value = taught / cost
        value[[choice.candidate for choice in chosen]] = -1
        best = int(np.argmax(value))
        column = covariance[:, quantities + best]
        covariance = covariance - np.outer(column, column) / variance[best]
        left = np.sqrt(np.diag(covariance)[:quantities] / today)
        chosen.append(Choice(best, float(left[-1]), float(left[1])))
    return tuple(chosen)
