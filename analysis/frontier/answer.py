"""The whole answer of `isoflop frontier`, gathered from the modules that compute it."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from analysis import published
from analysis.frontier.allocation import (
    Allocation,
    FrontierError,
    NegativeDemand,
    best_loss_for_bill,
)
from analysis.frontier.data_stock import (
    Stock,
    StockDraws,
    inference_optimal_with_stock,
    stock_draws,
)
from analysis.frontier.decision import (
    AtBudget,
    AtLoss,
    Frontier,
    Goal,
    Like,
    extrapolated,
    frontier,
    least_regret_demand,
    regret,
    spread_over_laws,
)
from analysis.frontier.overtraining import break_even_tokens
from analysis.frontier.priced import ServedAdvice, served_advice
from analysis.frontier.serving import Serving
from analysis.law import Law, LossLaw


@dataclass(frozen=True)
class Demand:
    """Tokens to serve over the model's life, prompt and generated apart, each low to high."""

    prompt: tuple[float, float] = (0.0, 0.0)
    generated: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for name in ("prompt", "generated"):
            low, high = getattr(self, name)
            if low < 0 or high < 0:
                raise NegativeDemand(
                    f"{min(low, high):.3g} {name} tokens is below zero. Give zero or more."
                )
            if low > high:
                raise FrontierError(f"{name} tokens {low:.3g}:{high:.3g}: low is above high.")

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and most tokens, prompt and generated together."""
        low, high = (self.prompt[i] + self.generated[i] for i in (0, 1))
        return low, high

    def split(self, total: float) -> tuple[float, float]:
        """Split `total` tokens into prompt and generated, interpolating between the bounds."""
        low, high = self.bounds
        if high == 0:
            return 0.0, 0.0
        at = 0.0 if high == low else (total - low) / (high - low)
        prompt = self.prompt[0] + at * (self.prompt[1] - self.prompt[0])
        return prompt, total - prompt


@dataclass(frozen=True)
class StockedAdvice:
    """The answer when only the stock's tokens are unique.

    Attributes:
        fresh: the choice without a limit.
        drawn: both under draws; None without any that reach the goal.
    """

    stock: Stock
    choice: Allocation
    fresh: Allocation
    drawn: StockDraws | None

    @property
    def epochs(self) -> float:
        """Passes over the stock; at least one."""
        return max(1.0, self.choice.D.item() / self.stock.U)

    @property
    def over_fresh(self) -> float:
        """Lifetime FLOPs above those with fresh data, as a fraction."""
        return float(self.choice.total.item() / self.fresh.total.item() - 1)


@dataclass(frozen=True)
class Advice:
    """The whole answer for one goal and one demand.

    Attributes:
        planned: tokens planned for; of an interval of demands, the one of least worst regret.
        frontier: the answer at `planned`, one demand long.
        asked: the model that the goal names, with the bill of serving `planned`; None where the
            goal names none.
        same_bill: the best loss for the compute-optimal choice's lifetime bill.
        break_even: served tokens from which the optimum is cheaper than compute-optimal.
        regret_demands: demands of `regret`, whose rows are true and columns planned.
        laws: the choice under each published law; at the compute-optimal budget where the goal
            is a loss, which other laws do not share.
        foretold: the intervals are a forecast's, which says itself how far it can be trusted.
    """

    law: LossLaw
    goal: Goal
    demand: Demand
    planned: float
    frontier: Frontier
    asked: Allocation | None
    same_bill: Allocation
    break_even: float
    regret_demands: tuple[float, ...]
    regret: np.ndarray
    laws: pl.DataFrame
    stocked: StockedAdvice | None
    served: ServedAdvice | None
    level: float
    foretold: bool = False

    @property
    def extrapolated(self) -> bool | None:
        """Whether the choice in FLOPs or in dollars lies outside the law's data; None: unknown."""
        choices = [self.frontier.extrapolated]
        if self.served is not None:
            choices.append(extrapolated(self.law, self.served.choice.N, self.served.choice.D))
        known = [bool(outside.any()) for outside in choices if outside is not None]
        return any(known) if known else None

    @property
    def training_rules(self) -> pl.DataFrame:
        """N and D by rules that give no loss law, at the compute-optimal budget."""
        return published.training_rules(float(self.frontier.compute_optimal.train_flops))


def advise(
    law: LossLaw,
    goal: Goal,
    demand: Demand,
    *,
    serving: Serving | None = None,
    days: float | None = None,
    unique_tokens: float | None = None,
    level: float = 0.9,
) -> Advice:
    """Choose N and D for a goal and a demand.

    Args:
        serving: price the answer in dollars too, training on the same GPUs.
        days: rent whole replicas around the clock for this long when pricing published shapes.
        unique_tokens: stock of unique data; None takes all data as fresh.
        level: of the intervals.

    Raises:
        FrontierError: the question has no answer; the message says how to change it.
    """
    loss = float(goal.loss_under(law))
    low, high = demand.bounds
    planned = planned_demand(law, loss, demand)
    answer = frontier(law, goal, planned)
    optimum, baseline = answer.optimum, answer.compute_optimal
    demands = _compared_demands(low, planned, high)
    shared = AtBudget(float(baseline.train_flops)) if isinstance(goal, AtLoss) else goal
    stocked = None
    if unique_tokens is not None:
        stock = Stock(law, unique_tokens)
        choice = inference_optimal_with_stock(stock, loss=loss, inference_tokens=planned)
        stocked = StockedAdvice(stock, choice, optimum, stock_draws(stock, goal, planned))
    asked = None
    if isinstance(goal, Like):
        N, D, tokens = (np.asarray(value) for value in (goal.N, goal.D, planned))
        asked = Allocation(N=N, D=D, inference_tokens=tokens, loss=np.asarray(loss))
    return Advice(
        law=law,
        goal=goal,
        demand=demand,
        planned=planned,
        frontier=answer,
        asked=asked,
        same_bill=best_loss_for_bill(law, total_flops=baseline.total, inference_tokens=planned),
        break_even=float(break_even_tokens(law, optimum.N, optimum.D)[0]),
        regret_demands=demands,
        regret=regret(law, loss, planned=demands, true=demands),
        laws=spread_over_laws(published.six_laws(), shared, planned),
        stocked=stocked,
        served=None
        if serving is None
        else served_advice(law, goal, serving, demand.split(planned), days=days, level=level),
        level=level,
    )


def planned_demand(law: Law, loss: float, demand: Demand) -> float:
    """Tokens to plan for; of an interval of demands, those of least worst regret."""
    low, high = demand.bounds
    return low if low == high else least_regret_demand(law, loss, low, high)


def _compared_demands(low: float, planned: float, high: float) -> tuple[float, ...]:
    """Demands of the regret table: the bounds and the plan, and some outside them."""
    if high == 0:
        return (0.0,)
    if low == high:
        return (0.0, *(high * factor for factor in (0.1, 0.3, 1.0, 3.0, 10.0)))
    return tuple(sorted({0.0, low / 3, low, planned, high, high * 3}))
