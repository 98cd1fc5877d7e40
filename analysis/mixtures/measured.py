"""How a law's order and choice of mixtures hold where others measured them, at any loss level."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.law import Array
from analysis.mixtures.choice import rank_correlation

# Two points are always in order or in reverse.
_FEWEST = 3


@dataclass(frozen=True, slots=True)
class Choice:
    """The point that the law would choose among those whose target was measured.

    Attributes:
        count: of those points.
        chosen, best: places, from 0, of the least predicted and the least measured target.
        loss, least, mean: the target measured of the chosen point, of the best, and on average.
        place: of the chosen point by its measured target, from 1.
    """

    count: int
    chosen: int
    best: int
    loss: float
    least: float
    mean: float
    place: int

    @property
    def regret(self) -> float:
        """What the choice gives away."""
        return self.loss - self.least


@dataclass(frozen=True, slots=True)
class Measured:
    """Predictions beside the losses that points have of their own.

    Attributes:
        ranks: rank correlation of predicted and measured, by loss that varies.
        pooled: that of the target; None where too few points have all its losses, or all have one.
        missing: losses of the target that no point has.
    """

    ranks: dict[str, float]
    pooled: float | None
    choice: Choice | None
    missing: tuple[str, ...]


def compare(
    predicted: Array, measured: Array, weights: Array, names: Sequence[str]
) -> Measured | None:
    """Order and choice of points, by losses that they have; None where they have none.

    Args:
        predicted, measured: losses (points, t); nan where not measured.
        weights: of the losses in the target (t,).
    """
    known = np.isfinite(measured)
    if not known.any():
        return None
    ranks = {
        name: rank
        for j, name in enumerate(names)
        if known[:, j].sum() >= _FEWEST
        and (rank := _rank(predicted[known[:, j], j], measured[known[:, j], j])) is not None
    }
    used = weights > 0
    lacking = (used & ~known.any(axis=0)).tolist()
    missing = tuple(name for name, none in zip(names, lacking, strict=True) if none)
    [rows] = np.nonzero(known[:, used].all(axis=1))
    if len(rows) < _FEWEST:
        return Measured(ranks, None, None, missing)
    guess, target = (losses[rows][:, used] @ weights[used] for losses in (predicted, measured))
    chosen, best = int(guess.argmin()), int(target.argmin())
    choice = Choice(
        len(rows), int(rows[chosen]), int(rows[best]), float(target[chosen]), float(target[best]),
        float(target.mean()), int((target < target[chosen]).sum()) + 1,
    )  # fmt: skip
    return Measured(ranks, _rank(guess, target), choice, missing)


def _rank(predicted: Array, measured: Array) -> float | None:
    rank = rank_correlation(predicted, measured)
    return rank if np.isfinite(rank) else None
