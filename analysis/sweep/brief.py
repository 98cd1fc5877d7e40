"""A law in one line of a list: verdict, exponent of N*, and N* at ten times its data."""

from dataclasses import dataclass

import numpy as np

from analysis.law import Constants, LossLaw, central

LEVEL = 0.9  # of the intervals


@dataclass(frozen=True, slots=True)
class Brief:
    """The least that a law says.

    Attributes:
        verdict: what bars N* or warns of it first, or that the law supports N*.
        flops: the budget of `n_opt`, ten times the largest of the data; None where the data are
            unknown.
        n_opt: None where the law bars N*.
    """

    verdict: str
    exponent: float
    exponent_interval: tuple[float, float] | None
    flops: float | None
    n_opt: float | None
    n_interval: tuple[float, float] | None


def brief(law: LossLaw) -> Brief:
    """A law in brief; N* under C = 6·N·D."""
    lines = law.trust.lines
    constants = Constants.of(law)
    draws = Constants.of_draws(law) if law.draws else None
    flops = 10 * law.support.flops[1] if law.support else None
    n_opt = n_interval = None
    if flops is not None and not law.trust.bars:
        n_opt = float(constants.compute_optimal(flops)[0])
        if draws is not None:
            # A draw of vanishing exponents has no finite N*.
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                n_interval = central(draws.compute_optimal(flops)[0].ravel(), LEVEL)
    return Brief(
        verdict=lines[0] if lines else "supports N*",
        exponent=law.exponent_N,
        exponent_interval=None if draws is None else central(draws.exponent_N.ravel(), LEVEL),
        flops=flops,
        n_opt=n_opt,
        n_interval=n_interval,
    )
