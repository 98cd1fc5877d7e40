"""How a forecast did once its run's loss is known, in per cent of the loss."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Interval:
    """A foretold loss with its interval."""

    loss: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """A loss beside its forecast.

    Attributes:
        error_percent: by how much ln L lies above its forecast, times 100; negative below.
        winkler: width of the interval plus 2/(1 - level) times the distance of a loss outside it
            (Gneiting and Raftery 2007, eq. 43), both in ln L times 100.
    """

    inside: bool
    error_percent: float
    winkler: float


def outcome(loss: float, foretold: Interval, level: float) -> Outcome:
    """The outcome of a forecast whose interval has this level."""
    y, lower, upper = np.log([loss, foretold.lower, foretold.upper])
    outside = max(lower - y, y - upper, 0.0)
    return Outcome(
        bool(foretold.lower <= loss <= foretold.upper),
        float(100 * (y - np.log(foretold.loss))),
        float(100 * (upper - lower + 2 / (1 - level) * outside)),
    )
