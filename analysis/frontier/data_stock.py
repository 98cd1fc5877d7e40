"""The value of repeated data, and the frontier when unique data runs out.

Muennighoff et al. 2023 (arXiv:2305.16264): tokens beyond the stock U of unique ones, and
parameters beyond what U can train, lose value exponentially. Their half-lives R_D and R_N were
fitted on C4; under a law without its own they are borrowed, and the answer says so.
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
from analysis.law import Array, LossLaw, Repetition
from analysis.repeated_data import effective, optimal_size_for_tokens
from analysis.words import short


class DataRunsOut(FrontierError):
    """No number of epochs over the stock reaches the loss."""


@dataclass(frozen=True)
class Stock:
    """Unique tokens in stock under one law.

    Attributes:
        U: unique tokens.
        borrowed: R_D and R_N come from C4's fit, not from the law's own data.
    """

    law: LossLaw
    U: float

    def __post_init__(self) -> None:
        if not self.U > 0:
            raise FrontierError(f"a stock of {self.U:g} unique tokens is not above zero.")

    @property
    def borrowed(self) -> bool:
        """Whether the half-lives come from another law."""
        return self.law.repetition is None

    @property
    def half_lives(self) -> Repetition:
        """R_D and R_N."""
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
        return self.law.loss(self.effective_params(N, D), self.effective_tokens(D))

    def tokens(self, N: ArrayLike, loss: ArrayLike) -> Array:
        """Tokens to see for a loss at N parameters; infinite where no number does.

        Loss falls with D everywhere, so bisection in log D cannot miss.
        """
        N, loss = np.broadcast_arrays(np.asarray(N, float), loss)
        # After 40 half-lives of repetition the next epoch is worth less than rounding.
        most = np.log(self.U * (1 + 40 * self.half_lives.R_D))
        low, high = np.zeros(N.shape), np.full(N.shape, most)
        reached = self.loss(N, np.exp(high)) <= loss
        for _ in range(60):
            middle = (low + high) / 2
            enough = self.loss(N, np.exp(middle)) <= loss
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return np.where(reached, np.exp(high), np.inf)


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
