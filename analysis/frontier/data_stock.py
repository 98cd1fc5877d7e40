"""The value of repeated data, and the frontier when unique data runs out.

Muennighoff et al. 2023 (arXiv:2305.16264): tokens beyond the stock U of unique ones, and
parameters beyond what U can train, lose value exponentially. Their half-lives R_D and R_N were
fitted on C4; under a law whose runs chose no form of their own (analysis/repetition) they are
borrowed, and the answer says so. Under the other two forms repetition adds what it costs to the
law of fresh tokens.
"""

from dataclasses import dataclass

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
from analysis.law import Array, LossLaw, RepeatedForm, RepeatedLaw, Repetition
from analysis.repeated_data import effective, excess, optimal_size_for_tokens
from analysis.words import short

# Where loss is taken to be least at the latest, under a form by which it may rise again.
_MOST_EPOCHS = 1e3


class DataRunsOut(FrontierError):
    """No number of epochs over the stock reaches the loss."""


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
        """R_D and R_N."""
        if self.own is not None and self.own.form == "half_lives":
            return Repetition(R_D=self.own.constants["R_D"], R_N=self.own.constants["R_N"])
        repetition = self.law.repetition or published.law("muennighoff_c4").repetition
        assert repetition is not None
        return repetition

    def effective_tokens(self, D: ArrayLike) -> Array:
        """D': fresh tokens worth as much as D tokens over the stock (eq. 5)."""
        D, R = np.asarray(D, float), np.asarray(self.half_lives.R_D)
        return effective(D, np.asarray(self.U), R)

    def effective_params(self, N: ArrayLike, D: ArrayLike) -> Array:
        """N': parameters worth as much as N when only min(U, D) tokens are unique (eq. 6)."""
        N, R = np.asarray(N, float), np.asarray(self.half_lives.R_N)
        unique = np.minimum(self.U, np.asarray(D, float))
        return effective(N, optimal_size_for_tokens(self.law, unique), R)

    def loss(self, N: ArrayLike, D: ArrayLike) -> Array:
        """Loss at N parameters and D tokens seen, of which at most U are unique."""
        if self.own is not None and self.own.form != "half_lives":
            N, D = np.asarray(N, float), np.asarray(D, float)
            return self.law.loss(N, D) + excess(self.own, N, D, np.minimum(self.U, D))
        return self.law.loss(self.effective_params(N, D), self.effective_tokens(D))

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

    def _log_D_of_least_loss(self, N: Array) -> Array:
        """ln of the tokens beyond which a model gains nothing."""
        if self.form == "half_lives":
            # After 40 half-lives of repetition the next epoch is worth less than rounding.
            return np.full(N.shape, np.log(self.U * (1 + 40 * self.half_lives.R_D)))
        epochs = np.geomspace(1, _MOST_EPOCHS, 200)
        losses = np.stack([self.loss(N, each * self.U) for each in epochs])
        return np.asarray(np.log(self.U * epochs[np.argmin(losses, axis=0)]))


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
    contour = contour_above_E(stock.law, loss)
    plain = inference_optimal(stock.law, loss=loss, inference_tokens=inference_tokens)
    if plain.D <= stock.U:
        return plain

    def total(log_N: Array) -> Array:
        N = np.exp(log_N)
        return np.asarray(N * (stock.tokens(N, loss) + FLOPS_RATIO * inference_tokens))

    # With too little data the best N is above N0, but not far: excess parameters fade too.
    scan = np.log(np.geomspace(contour.N_min, 1e3 * contour.N(0.0), 4001))
    bill = total(scan)
    best = int(np.argmin(bill))
    if not np.isfinite(bill[best]):
        raise DataRunsOut(
            f"{short(stock.U)} unique tokens do not reach loss {loss:.6g} at any size, however "
            f"often they repeat; fresh data would take {short(float(plain.D))} tokens. Add data or "
            "accept a higher loss."
        )
    edges = scan[max(best - 1, 0)], scan[min(best + 1, scan.size - 1)]
    N = np.exp(zoom_minimum(total, *(np.atleast_1d(edge) for edge in edges)))[0]
    D, demand = stock.tokens(N, loss), np.asarray(inference_tokens, float)
    return Allocation(np.asarray(N), D, demand, np.asarray(loss))
