"""A model that exists against the cheapest one of the same loss.

The extra training that its size costs, the served tokens that repay it, and the demand for which
its N and D are the best choice. All functions take a law or its draws.
"""

import numpy as np
from numpy.typing import ArrayLike

from analysis.frontier.allocation import FLOPS_RATIO, FrontierError, TooSmall
from analysis.frontier.contour import Contour
from analysis.law import Array, Constants, Law


def elasticity_ratio(law: Law, N: ArrayLike, D: ArrayLike) -> Array:
    """eps_N/eps_D: the fall of the loss with ln N over its fall with ln D.

    One at the compute-optimal point of every budget; above one where D is ahead of N.
    """
    law = Constants.of(law)
    N, D = np.asarray(N, float), np.asarray(D, float)
    log_ratio = np.log(law.alpha * law.A / (law.beta * law.B))
    return np.asarray(np.exp(log_ratio - law.alpha * np.log(N) + law.beta * np.log(D)))


def implied_spend_ratio(law: Law, N: ArrayLike, D: ArrayLike) -> Array:
    """Inference bill over training bill that makes (N, D) the cheapest of its loss.

    It does not depend on prices. Below zero no demand does: the model is larger than
    compute-optimal.
    """
    return elasticity_ratio(law, N, D) - 1


def same_loss_optimum(law: Law, N: ArrayLike, D: ArrayLike) -> tuple[Array, Array]:
    """N and D that reach the loss of (N, D) with the least training."""
    law = Constants.of(law)
    contour = Contour.of(law, law.loss(N, D))
    return contour.N(0.0), contour.D(0.0)


def training_overhead(law: Law, N: ArrayLike, D: ArrayLike) -> Array:
    """Training FLOPs above the least that reach the same loss, as a fraction of the least."""
    N0, D0 = same_loss_optimum(law, N, D)
    return np.asarray(np.asarray(N, float) / N0 * (np.asarray(D, float) / D0) - 1)


def break_even_tokens(law: Law, N: ArrayLike, D: ArrayLike) -> Array:
    """Served tokens after which (N, D) is cheaper than the compute-optimal model of its loss.

    Infinite where N is not below the compute-optimal size: it costs more to train and to serve.
    """
    N, D = np.asarray(N, float), np.asarray(D, float)
    N0, D0 = same_loss_optimum(law, N, D)
    saved_per_token = FLOPS_RATIO * (N0 - N)
    pays = saved_per_token > 0
    return np.where(pays, (N * D - N0 * D0) / np.where(pays, saved_per_token, 1.0), np.inf)


def tokens_multiple(law: Law, size_ratio: ArrayLike) -> Array:
    """k_D: tokens over the compute-optimal D for the same loss at N = size_ratio·N0.

    On the frontier A/N0^alpha : B/D0^beta = beta : alpha, so the budget cancels (de Vries 2023).

    Raises:
        TooSmall: at this ratio no amount of data reaches the loss.
    """
    law, k_N = Constants.of(law), np.asarray(size_ratio, float)
    if not np.all(k_N > 0):
        raise FrontierError(f"a size of {np.min(k_N):g} times the optimum is not above zero.")
    left = 1 - (k_N**-law.alpha - 1) * law.beta / law.alpha
    if not np.all(left > 0):
        least = float(np.max((law.beta / (law.alpha + law.beta)) ** (1 / law.alpha)))
        raise TooSmall(
            f"at {np.min(k_N):g} times the compute-optimal size no amount of data reaches the "
            f"same loss. Under this law the size must be above {least:.4g} times the optimum."
        )
    return np.asarray(left ** (-1 / law.beta))
