"""The frontier of a goal: which N and D, how certain, and what a wrong guess of demand costs.

A goal fixes the quality: a loss, a training budget, or a model to match. Every draw of
the law meets the goal again, so an interval shows how sure the choice is. Draws come from a
bootstrap, or from a forecast.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from analysis.frontier.allocation import (
    Allocation,
    FrontierError,
    compute_optimal,
    contour_above_E,
    inference_optimal,
)
from analysis.law import Array, Constants, Law, LossLaw

Quantity = Literal["N", "D", "train_flops", "inference_flops", "total", "tokens_per_param"]


@dataclass(frozen=True)
class AtLoss:
    """Reach this loss."""

    loss: float

    def __post_init__(self) -> None:
        if not np.isfinite(self.loss):
            raise FrontierError(f"a loss of {self.loss} is not a goal: give a finite one above E.")

    def loss_under(self, law: Law) -> Array:
        """The loss, whatever the law."""
        return np.asarray(self.loss)


@dataclass(frozen=True)
class AtBudget:
    """Be as good as the compute-optimal model of this training budget."""

    train_flops: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.train_flops) and self.train_flops > 0):
            raise FrontierError(f"a budget of {self.train_flops:g} FLOPs is not above zero.")

    def loss_under(self, law: Law) -> Array:
        """The loss that the budget reaches under the law."""
        law = Constants.of(law)
        return law.loss(*compute_optimal(law, self.train_flops))


@dataclass(frozen=True)
class Like:
    """Be as good as this model."""

    N: float
    D: float

    def __post_init__(self) -> None:
        if not (self.N > 0 and self.D > 0):
            raise FrontierError(
                f"a model of {self.N:g} parameters on {self.D:g} tokens: both must be above zero."
            )

    def loss_under(self, law: Law) -> Array:
        """The model's loss under the law."""
        return Constants.of(law).loss(self.N, self.D)


Goal = AtLoss | AtBudget | Like


@dataclass(frozen=True)
class Frontier:
    """Best choices for several demands, one goal, one law.

    Attributes:
        loss: the goal's loss under the law.
        compute_optimal: cheapest to train, with the bill of serving each demand.
        optimum: cheapest over its life, one model for each demand.
        drawn: the same optimum under each draw that can reach the goal, shape
            (draws, demands); None without draws.
        drawn_baseline: the compute-optimal choice under those draws.
        unreachable: share of the draws under which the goal lies at or below E.
        extrapolated: for each demand whether the optimum lies outside the law's support;
            None when the law has no support.
    """

    law: LossLaw
    loss: float
    compute_optimal: Allocation
    optimum: Allocation
    drawn: Allocation | None
    drawn_baseline: Allocation | None
    unreachable: float
    extrapolated: NDArray[np.bool_] | None

    @property
    def saving(self) -> Array:
        """Share of the compute-optimal choice's lifetime bill that the optimum saves."""
        return np.asarray(1 - self.optimum.total / self.compute_optimal.total)

    def interval(self, quantity: Quantity, level: float = 0.9) -> tuple[Array, Array] | None:
        """Interval of the optimum for each demand; None without draws."""
        if self.drawn is None:
            return None
        return quantiles(getattr(self.drawn, quantity), level)

    def saving_interval(self, level: float = 0.9) -> tuple[Array, Array] | None:
        """Interval of `saving` for each demand; None without draws."""
        if self.drawn is None or self.drawn_baseline is None:
            return None
        return quantiles(1 - self.drawn.total / self.drawn_baseline.total, level)


def frontier(law: LossLaw, goal: Goal, inference_tokens: ArrayLike) -> Frontier:
    """The frontier of one goal over several demands, with the law's draws where it has some.

    Raises:
        UnreachableLoss: the goal is not above E, under the law or under every draw.
        NegativeDemand: some demand is below zero.
    """
    demand = np.atleast_1d(np.asarray(inference_tokens, float))
    loss = goal.loss_under(law)
    optimum = inference_optimal(law, loss=loss, inference_tokens=demand)
    baseline = inference_optimal(law, loss=loss, inference_tokens=0.0)
    drawn = drawn_baseline = None
    unreachable = 0.0
    if law.draws:
        draws, losses, unreachable = reaching_draws(law, goal)
        drawn = inference_optimal(draws, loss=losses, inference_tokens=demand)
        drawn_baseline = inference_optimal(draws, loss=losses, inference_tokens=0.0).serving(demand)
    return Frontier(
        law=law,
        loss=float(loss),
        compute_optimal=baseline.serving(demand),
        optimum=optimum,
        drawn=drawn,
        drawn_baseline=drawn_baseline,
        unreachable=unreachable,
        extrapolated=extrapolated(law, optimum.N, optimum.D),
    )


def reaching_draws(law: LossLaw, goal: Goal) -> tuple[Constants, Array, float]:
    """The draws that can reach the goal, the loss of each, and the share that cannot.

    Raises:
        UnreachableLoss: no draw can.
    """
    draws = Constants.of_draws(law)
    losses = np.broadcast_to(goal.loss_under(draws), draws.E.shape)
    reached = (losses > draws.E)[:, 0]
    if not reached.any():
        contour_above_E(draws, losses)
    return draws.rows(reached), losses[reached], float(1 - reached.mean())


def extrapolated(law: LossLaw, N: ArrayLike, D: ArrayLike) -> NDArray[np.bool_] | None:
    """Whether (6·N·D, D/N) lies outside the law's support; None when it has none."""
    if law.support is None:
        return None
    N, D = np.asarray(N, float), np.asarray(D, float)
    return np.asarray(~law.support.contains(N, D, 6 * N * D))


def spread_over_laws(laws: Sequence[LossLaw], goal: Goal, inference_tokens: float) -> pl.DataFrame:
    """The choice under each law, one row each, for a goal that every law states in its own loss.

    A loss has another meaning under another tokenizer, so a goal given as a loss belongs to one
    law: pass `AtBudget` or `Like`.

    Raises:
        FrontierError: the goal is a loss.
    """
    if isinstance(goal, AtLoss):
        raise FrontierError(
            "laws of different data and tokenizers do not share a loss: compare them at a "
            "training budget or at the quality of a model."
        )
    rows = []
    for law in laws:
        answer = frontier(law.model_copy(update={"draws": {}}), goal, inference_tokens)
        optimum = answer.optimum
        rows.append(
            {
                "law": law.name,
                "loss": answer.loss,
                "compute_optimal_N": float(answer.compute_optimal.N),
                "compute_optimal_D": float(answer.compute_optimal.D),
                "N": float(optimum.N[0]),
                "D": float(optimum.D[0]),
                "tokens_per_param": float(optimum.tokens_per_param[0]),
                "train_flops": float(optimum.train_flops[0]),
                "saving": float(answer.saving[0]),
                "extrapolated": None
                if answer.extrapolated is None
                else bool(answer.extrapolated[0]),
            }
        )
    return pl.DataFrame(rows)


def regret(law: Law, loss: float, *, planned: ArrayLike, true: ArrayLike) -> Array:
    """Extra lifetime bill when demand differs from the plan, as a fraction.

    Returns:
        Shape (true, planned).
    """
    planned, true = np.atleast_1d(planned), np.atleast_1d(true)
    plan = inference_optimal(law, loss=loss, inference_tokens=planned)
    best = inference_optimal(law, loss=loss, inference_tokens=true)
    met = plan.serving(np.asarray(true, float)[:, np.newaxis])
    return np.asarray(met.total / best.total[:, np.newaxis] - 1)


def least_regret_demand(law: Law, loss: float, low: float, high: float) -> float:
    """The demand to plan for when only its bounds are known: the one of least worst regret.

    Regret at `low` rises with the plan and regret at `high` falls, so the worst case is least
    where they meet: one bisection in log demand.
    """
    floor = max(low, high * 1e-9)
    bounds = np.log([floor, high])
    for _ in range(60):
        middle = bounds.mean()
        at_low, at_high = regret(law, loss, planned=np.exp(middle), true=[low, high])[:, 0]
        bounds = (
            np.array([bounds[0], middle]) if at_low > at_high else np.array([middle, bounds[1]])
        )
    return float(np.exp(bounds.mean()))


def quantiles(draws: Array, level: float) -> tuple[Array, Array]:
    """The central interval of `level` down the first axis; draws may be infinite."""
    tail = (1 - level) / 2
    # By sorting, which is several times as fast as numpy's quantile for the same draws.
    ordered = np.sort(draws, axis=0)
    places = (max(int(np.ceil(len(draws) * share - 1)), 0) for share in (tail, 1 - tail))
    # What is not a number comes last.
    low, high = (np.where(np.isnan(ordered[-1]), np.nan, ordered[place]) for place in places)
    return low, high
