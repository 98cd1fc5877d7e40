"""The value of repeated data, and the frontier when unique data runs out.

Muennighoff et al. 2023 (arXiv:2305.16264): tokens beyond the stock U of unique ones, and
parameters beyond what U can train, lose value exponentially. Their half-lives R_D and R_N were
fitted on C4; under a law whose runs chose no form of their own (analysis/repetition) they are
borrowed, and the answer says so. Under a form of its own, half-lives too, repetition adds what it
costs to the law of fresh tokens: that law has what excess parameters cost without repeats.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from analysis import published
from analysis.frontier.allocation import (
    FLOPS_RATIO,
    Allocation,
    FrontierError,
    contour_above_E,
    inference_optimal,
    zoom_minimum,
)
from analysis.frontier.decision import Goal, quantiles, reaching_draws
from analysis.law import Array, Constants, Law, LossLaw, RepeatedForm, RepeatedLaw, Repetition
from analysis.repeated_data import excess_of_form, half_lives_loss
from analysis.words import short

# Where loss is taken to be least at the latest, under a form by which it may rise again.
_MOST_EPOCHS = 1e3
# Sizes scanned under a law and under each of its draws; at most _MOST_DRAWS draws are used, each
# refined to one part in a million.
_SCAN, _SCAN_OF_DRAWS, _MOST_DRAWS, _ROUNDS_OF_DRAWS = 4001, 101, 200, 4


class DataRunsOut(FrontierError):
    """No number of epochs over the stock reaches the loss."""


@dataclass(frozen=True)
class Repeating:
    """Losses of training on a stock, under the constants of a law or of its draws.

    Attributes:
        form: of a law of its own whose cost of repetition is added to `law`; None where half-lives
            make N and D effective ones in `law` itself.
        costs: constants of the form, or R_D and R_N.
        U: unique tokens.
    """

    law: Law
    form: RepeatedForm | None
    costs: Mapping[str, Array]
    U: float

    def loss(self, N: ArrayLike, D: ArrayLike) -> Array:
        """Loss at N parameters and D tokens seen, of which at most U are unique."""
        N, D, U = np.asarray(N, float), np.asarray(D, float), np.asarray(self.U)
        if self.form is None:
            return half_lives_loss(self.law, self.costs["R_D"], self.costs["R_N"], N, D, U)
        cost = excess_of_form(self.form, self.costs, N, D, U)
        return np.asarray(self.law.loss(N, D) + cost)

    def tokens(self, N: ArrayLike, loss: ArrayLike) -> Array:
        """Fewest tokens to see for a loss at N parameters; infinite where no number does.

        By bisection in log D, up to where loss is least: under half-lives it falls everywhere.
        """
        N, loss = np.broadcast_arrays(np.asarray(N, float), loss)
        low, high = np.zeros(N.shape), self._log_D_of_least_loss(N)
        reached = self.loss(N, np.exp(high)) <= loss
        for _ in range(60):
            middle = (low + high) / 2
            enough = self.loss(N, np.exp(middle)) <= loss
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return np.where(reached, np.exp(high), np.inf)

    def cheapest(self, loss: Array, demand: float, scan: int, rounds: int) -> tuple[Array, Array]:
        """N and D of the least bill, shaped like `loss`; infinite where no size reaches it.

        Args:
            scan: how many sizes are looked at first; rounds: in which the best is zoomed into.
        """
        contour = contour_above_E(self.law, loss)

        def total(log_N: Array) -> Array:
            N = np.exp(log_N)
            return np.asarray(N * (self.tokens(N, loss) + FLOPS_RATIO * demand))

        # With too little data the best N is above N0, but not far: excess parameters fade too.
        sizes = np.log(np.geomspace(contour.N_min, 1e3 * contour.N(0.0), scan))
        bill = total(sizes)
        best = np.argmin(bill, axis=0)[np.newaxis]
        reached = np.isfinite(np.take_along_axis(bill, best, axis=0)[0])
        low, high = (
            np.take_along_axis(sizes, np.clip(best + step, 0, scan - 1), axis=0)[0]
            for step in (-1, 1)
        )
        N = np.exp(zoom_minimum(total, low, high, rounds=rounds))
        D = self.tokens(N, loss)
        return np.where(reached, N, np.inf), np.where(reached, D, np.inf)

    def _log_D_of_least_loss(self, N: Array) -> Array:
        """ln of the tokens beyond which a model gains nothing."""
        if self.form is None:
            # After 40 half-lives of repetition the next epoch is worth less than rounding.
            return np.broadcast_to(np.log(self.U * (1 + 40 * self.costs["R_D"])), N.shape)
        least, tokens = np.full(N.shape, np.inf), np.full(N.shape, self.U)
        for D in self.U * np.geomspace(1, _MOST_EPOCHS, 200):
            loss = self.loss(N, D)
            tokens = np.where(loss < least, D, tokens)
            least = np.minimum(loss, least)
        return np.asarray(np.log(tokens))


@dataclass(frozen=True)
class Stock:
    """Unique tokens in stock under one law.

    Attributes:
        U: unique tokens.
    """

    law: LossLaw
    U: float

    def __post_init__(self) -> None:
        if not self.U > 0:
            raise FrontierError(f"a stock of {self.U:g} unique tokens is not above zero.")

    @property
    def own(self) -> RepeatedLaw | None:
        """What the law's own runs chose; None under a law fitted with half-lives, or borrowed."""
        return None if self.law.repetition is not None else self.law.repeated

    @property
    def borrowed(self) -> bool:
        """Whether the half-lives come from C4's fit, not from the law's own data."""
        return self.law.repetition is None and self.law.repeated is None

    @property
    def form(self) -> RepeatedForm:
        """The form of what repetition costs."""
        return "half_lives" if self.own is None else self.own.form

    @property
    def half_lives(self) -> Repetition:
        """R_D and R_N, where its own runs chose no form."""
        repetition = self.law.repetition or published.law("muennighoff_c4").repetition
        assert repetition is not None
        return repetition

    @property
    def repeating(self) -> Repeating:
        """The losses of training on it."""
        costs = self.half_lives.model_dump() if self.own is None else self.own.constants
        arrays = {name: np.asarray(value, float) for name, value in costs.items()}
        return Repeating(self.law, None if self.own is None else self.own.form, arrays, self.U)

    @property
    def costs_drawn(self) -> bool:
        """Whether there are draws of what repetition costs."""
        return "R_D" in self.law.draws if self.own is None else bool(self.own.draws)

    def drawn(self, draws: Constants) -> Repeating:
        """The same under draws of the law (draws, 1).

        Draws of a law of repeats are another bootstrap's, and go with any of the law.
        """
        if self.own is not None and self.own.draws:
            columns = {name: np.asarray(column) for name, column in self.own.draws.items()}
            costs = {name: np.resize(c, draws.E.shape) for name, c in columns.items()}
        elif draws.R_D is not None and draws.R_N is not None:
            costs = {"R_D": draws.R_D, "R_N": draws.R_N}
        else:
            return replace(self.repeating, law=draws)
        return replace(self.repeating, law=draws, costs=costs)


@dataclass(frozen=True)
class StockDraws:
    """The choice for a stock under draws of the law, and of what repetition costs.

    Attributes:
        choice: under each draw that reaches the goal, (draws, 1).
        fresh: the choice without a limit under the same draws.
        U: unique tokens.
        unreachable: share of the draws under which the stock does not reach the goal.
    """

    choice: Allocation
    fresh: Allocation
    U: float
    unreachable: float

    def intervals(self, level: float) -> dict[str, tuple[float, float]]:
        """Of N, D, total, epochs and over_fresh, by name."""
        columns = {
            "N": self.choice.N,
            "D": self.choice.D,
            "total": self.choice.total,
            "epochs": np.maximum(self.choice.D / self.U, 1.0),
            "over_fresh": self.choice.total / self.fresh.total - 1,
        }
        ends = {name: quantiles(column, level) for name, column in columns.items()}
        return {name: (low.item(), high.item()) for name, (low, high) in ends.items()}


def inference_optimal_with_stock(
    stock: Stock, *, loss: float, inference_tokens: float
) -> Allocation:
    """The cheapest model of a loss over its life when only U tokens are unique.

    There is no closed form: a scan over N, an inner solve for D, and a zoom.

    Raises:
        UnreachableLoss: the loss is not above E.
        NegativeDemand: the demand is below zero.
        DataRunsOut: no size and no number of epochs reach the loss.
    """
    plain = inference_optimal(stock.law, loss=loss, inference_tokens=inference_tokens)
    if plain.D <= stock.U:
        return plain
    N, D = stock.repeating.cheapest(np.asarray(loss), inference_tokens, _SCAN, rounds=12)
    if not np.isfinite(N):
        raise DataRunsOut(
            f"{short(stock.U)} unique tokens do not reach loss {loss:.6g} at any size, however "
            f"often they repeat; fresh data would take {short(float(plain.D))} tokens. Add data or "
            "accept a higher loss."
        )
    return Allocation(N, D, np.asarray(inference_tokens, float), np.asarray(loss))


def stock_draws(stock: Stock, goal: Goal, inference_tokens: float) -> StockDraws | None:
    """The choice under draws, each of which meets the goal again; None where none can be made.

    Raises:
        UnreachableLoss: the goal is not above E under any draw.
    """
    if not stock.law.draws:
        return None
    reaching, losses, unreachable = reaching_draws(stock.law, goal)
    places = np.linspace(0, len(losses) - 1, min(len(losses), _MOST_DRAWS)).astype(int)
    draws, losses = reaching.rows(places), losses[places]
    fresh = inference_optimal(draws, loss=losses, inference_tokens=inference_tokens)
    N, D = stock.drawn(draws).cheapest(losses, inference_tokens, _SCAN_OF_DRAWS, _ROUNDS_OF_DRAWS)
    enough = fresh.D <= stock.U
    N, D = np.where(enough, fresh.N, N), np.where(enough, fresh.D, D)
    reached = np.isfinite(N)[:, 0]
    if not reached.any():
        return None
    demand = np.asarray(inference_tokens, float)
    return StockDraws(
        Allocation(N[reached], D[reached], demand, losses[reached]),
        Allocation(fresh.N[reached], fresh.D[reached], demand, losses[reached]),
        stock.U,
        1 - float(reached.mean()) * (1 - unreachable),
    )
