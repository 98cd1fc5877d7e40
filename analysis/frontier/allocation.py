"""Which N and D to train: compute-optimal, and inference-optimal for tokens served.

A target loss draws a contour in the plane of N and D. Training alone is cheapest at one point
of it; every served token moves the cheapest point towards smaller N and larger D.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from analysis.frontier.contour import Contour
from analysis.law import Array, Constants, Law
from analysis.words import flops, short

# An inference token costs 2·N FLOPs, a training token 6·N (Sardana et al. 2024, section 2).
FLOPS_RATIO = 1 / 3


class FrontierError(ValueError):
    """The question has no answer; the message says how to change it."""


class UnreachableLoss(FrontierError):
    """No size and no amount of data reach this loss under the law."""


class TooSmall(FrontierError):
    """No amount of data brings a model of this size to the loss."""


class NegativeDemand(FrontierError):
    """The demand is below zero."""


@dataclass(frozen=True)
class Allocation:
    """Sizes and tokens to train, and the bill over the model's life. Fields broadcast."""

    N: Array
    D: Array
    inference_tokens: Array
    loss: Array

    @property
    def train_flops(self) -> Array:
        """6·N·D."""
        return np.asarray(6 * self.N * self.D)

    @property
    def inference_flops(self) -> Array:
        """2·N·D_inf."""
        return np.asarray(6 * FLOPS_RATIO * self.N * self.inference_tokens)

    @property
    def total(self) -> Array:
        """Lifetime bill."""
        return self.train_flops + self.inference_flops

    @property
    def tokens_per_param(self) -> Array:
        """D/N."""
        return np.asarray(self.D / self.N)

    @property
    def spend_ratio(self) -> Array:
        """Inference bill over training bill; rho."""
        return np.asarray(FLOPS_RATIO * self.inference_tokens / self.D)

    def serving(self, inference_tokens: ArrayLike) -> "Allocation":
        """The same models under another demand."""
        return replace(self, inference_tokens=_demand(inference_tokens))


def compute_optimal(law: Law, C: ArrayLike) -> tuple[Array, Array]:
    """Parameters and tokens that minimise loss at a training budget.

    Closed form under C = 6·N·D (Hoffmann et al. 2022, eq. 4), which every gamma shares. For
    counted FLOPs use `compute_optimal_counted`, which searches.

    Args:
        C: training FLOPs, any shape.

    Returns:
        N and D, each shaped like C, not rounded to a trainable model.

    Raises:
        FrontierError: some C is not positive.
    """
    return Constants.of(law).compute_optimal(_budget(C))


def compute_optimal_counted(
    law: Law,
    C: ArrayLike,
    train_flops_per_token: Callable[[Array], Array],
    *,
    sizes: tuple[float, float] = (1e3, 1e14),
) -> tuple[Array, Array]:
    """Parameters and tokens that minimise loss where FLOPs per token are counted, not 6·N.

    Args:
        C: training FLOPs, any shape.
        train_flops_per_token: counted training FLOPs of one token for an N of any shape;
            embeddings, head and attention included as the caller counts them.
        sizes: range of N to search.

    Returns:
        N and D, each shaped like C.

    Raises:
        FrontierError: some C is not positive, or the best size is not inside `sizes`.
    """
    law, budget = Constants.of(law), _budget(C)

    def loss(log_N: Array) -> Array:
        N = np.exp(log_N)
        return law.loss(N, budget / train_flops_per_token(N))

    low, high = (np.full(budget.shape, np.log(size)) for size in sizes)
    log_N = zoom_minimum(loss, low, high)
    edge = (log_N - low < 1e-3) | (high - log_N < 1e-3)
    if np.any(edge):
        raise FrontierError(
            f"the best size for {flops(float(np.max(budget[edge])))} FLOPs is not between "
            f"{short(sizes[0])} and {short(sizes[1])} parameters. Widen `sizes`."
        )
    N = np.exp(log_N)
    return N, budget / train_flops_per_token(N)


def inference_optimal(law: Law, *, loss: ArrayLike, inference_tokens: ArrayLike) -> Allocation:
    """The cheapest model of a given loss over its life: training and serving together.

    Minimises 6·N·(D + D_inf/3) at fixed loss (Sardana et al. 2024, eq. 3). The optimum satisfies
    eps_N/eps_D = 1 + D_inf/(3·D) with the elasticities eps_N = alpha·A/N^alpha and eps_D =
    beta·B/D^beta.

    Args:
        loss: target, broadcast against `inference_tokens`.
        inference_tokens: tokens served over the model's life.

    Raises:
        UnreachableLoss: some loss is not above E.
        NegativeDemand: some demand is below zero.
    """
    demand = _demand(inference_tokens)
    contour = contour_above_E(law, loss)
    rho = contour.rho(FLOPS_RATIO * demand)
    N, D = contour.N(rho), contour.D(rho)
    return Allocation(N, D, demand, np.broadcast_to(loss, N.shape))


def best_loss_for_bill(
    law: Law, *, total_flops: ArrayLike, inference_tokens: ArrayLike
) -> Allocation:
    """The dual: the model of least loss whose lifetime bill is `total_flops`.

    The optimum satisfies the same condition as `inference_optimal`. In z = log D it reads
    (alpha + beta)·z - (1 - alpha)·log(1 + D_inf/(3·e^z)) = constant: monotone, and
    bent one way only, so Newton's method overshoots at most once.

    Raises:
        NegativeDemand: some demand is below zero.
        FrontierError: some bill is not positive.
    """
    law, demand = Constants.of(law), _demand(inference_tokens)
    log_product = np.log(_budget(total_flops) / 6)
    weighted = FLOPS_RATIO * demand
    slope = law.alpha + law.beta
    target = law.alpha * log_product - np.log(law.alpha * law.A / (law.beta * law.B))
    z = np.broadcast_to(target / slope, np.broadcast(target, weighted).shape)
    for _ in range(200):
        rho = weighted * np.exp(-z)
        excess = slope * z - (1 - law.alpha) * np.log1p(rho) - target
        step = excess / (slope + (1 - law.alpha) * rho / (1 + rho))
        z = z - step
        if not np.any(np.abs(step) > 1e-8):
            break
    else:
        raise AssertionError("Newton on a monotone, once-bent function did not converge")
    D = np.exp(z)
    N = np.exp(log_product) / (D + weighted)
    return Allocation(N, D, demand, law.loss(N, D))


def inference_optimal_with_bill(
    law: Law,
    *,
    loss: ArrayLike,
    bill: Callable[[Array], Array],
    train_price: float = 1.0,
) -> tuple[Array, Array]:
    """N and D for any smooth serving bill that rises with N.

    At the optimum eps_N/eps_D = 1 + eta·bill/training, eta the bill's elasticity in N, which
    falls below 1 when part of the bill does not depend on N. Where memory or whole GPUs make
    the bill jump, enumerate shapes instead (`analysis.frontier.serving_choice.menu`).

    Args:
        loss: target, broadcast against the law's constants.
        bill: lifetime serving bill of N parameters of any shape, in units of `train_price`.
        train_price: price of one training FLOP.

    Raises:
        UnreachableLoss: the loss is not above E.
    """
    contour = contour_above_E(law, loss)

    def total(log_N: Array) -> Array:
        N = np.exp(log_N)
        return np.asarray(train_price * 6 * N * contour.tokens(N) + bill(N))

    N = np.exp(zoom_minimum(total, np.log(contour.N_min) + 1e-9, np.log(contour.N(0.0))))
    return N, contour.tokens(N)


def contour_above_E(law: Law, loss: ArrayLike) -> Contour:
    """The contour of a loss.

    Raises:
        UnreachableLoss: some loss is not above E.
    """
    law = Constants.of(law)
    if not np.all(np.asarray(loss) > law.E):
        least = float(np.max(law.E))
        raise UnreachableLoss(
            f"loss {np.min(loss):.6g} is at or under E = {least:.6g}, the irreducible loss: no N "
            f"and D reach it under this law. Ask for a loss above {least:.6g}."
        )
    return Contour.of(law, loss)


def zoom_minimum(
    f: Callable[[Array], Array], low: Array, high: Array, *, rounds: int = 12
) -> Array:
    """Minima between `low` and `high` of functions that have one valley, many at once.

    Takes the best of 33 points and zooms into its neighbours, until after 12 rounds the interval
    is below 1e-9 of its place; every grid contains the best point of the one before.

    Args:
        f: maps an array of shape (points, *low.shape) to values of that shape.
    """
    for _ in range(rounds):
        grid = np.linspace(low, high, 33)
        best = np.argmin(f(grid), axis=0)[np.newaxis]
        low = np.take_along_axis(grid, np.maximum(best - 1, 0), axis=0)[0]
        high = np.take_along_axis(grid, np.minimum(best + 1, 32), axis=0)[0]
    return np.asarray(np.take_along_axis(grid, best, axis=0)[0])


def _budget(C: ArrayLike) -> Array:
    budget = np.asarray(C, float)
    if not np.all(budget > 0):
        raise FrontierError(f"a budget of {np.min(budget):.3g} FLOPs is not above zero.")
    return budget


def _demand(inference_tokens: ArrayLike) -> Array:
    demand = np.asarray(inference_tokens, float)
    if not np.all(demand >= 0):
        raise NegativeDemand(
            f"{np.min(demand):.3g} tokens to serve is below zero. Give zero for a model that "
            "only trains, or the tokens served over its life."
        )
    return demand
