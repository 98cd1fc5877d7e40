"""The shares of least loss among mixtures of given ones, under limits of single sources."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog, nnls
from scipy.spatial import ConvexHull, QhullError

from analysis.law import Array
from analysis.mixtures.surface import Surface
from analysis.table.observations import TableError

_ITERATIONS, _POLISHING, _ROUNDS = 100, 30, 4
# A step is taken unless the loss is above that of the last few, and the next one is then shorter.
_MEMORY, _LONGER, _SHORTER = 5, 1.6, 0.3
# A share below this is none, and a mixture this close to the hull is inside: shares are printed
# with three digits.
_NONE, _CLOSE = 1e-3, 5e-3
# Sources of which the hull's corners are found; their number explodes with the dimensions.
_MOST_HULL = 6


@dataclass(frozen=True, slots=True)
class Space:
    """Where mixtures may lie: averages of the corners, under limits.

    Attributes:
        corners: (c, k).
        limits: the largest share of each source (k,); 1 for none.
        sources: their names.
    """

    corners: Array
    limits: Array
    sources: tuple[str, ...]

    @classmethod
    def of(cls, corners: Array, limits: Array, sources: Sequence[str]) -> "Space":
        """The space without corners that repeat, or that averages of others make.

        Raises:
            TableError: no average of the corners keeps the limits.
        """
        space = cls(_extreme(np.unique(corners, axis=0)), limits, tuple(sources))
        if (limits < 1).any():
            space._feasible()
        return space

    @property
    def limited(self) -> bool:
        """Whether some corner exceeds a limit."""
        return bool((self.corners > self.limits).any())

    def _feasible(self) -> Array:
        """The average of corners that keeps farthest below the limits (k,)."""
        c = len(self.corners)
        # Room below each limit, as a part of it, is maximised: x_j + room·limit_j <= limit_j.
        result = linprog(
            np.append(np.zeros(c), -1.0),
            A_ub=np.hstack([self.corners.T, self.limits[:, None]]),
            b_ub=self.limits,
            A_eq=np.append(np.ones(c), 0.0)[None],
            b_eq=[1.0],
            bounds=[(0, None)] * c + [(0, 1)],
        )
        if result.x is None:
            least = self.corners.min(axis=0)
            worst = int((least - self.limits).argmax())
            limits = ", ".join(
                f"{name} {limit:.3g}"
                for name, limit in zip(self.sources, self.limits, strict=True)
                if limit < 1
            )
            raise TableError(
                f"--stock: no mixture within what was tried keeps the limits ({limits}); the least "
                f"share of {self.sources[worst]} tried is {least[worst]:.3g}. Allow more epochs, "
                "or search beyond the mixtures tried with --anywhere."
            )
        return np.asarray(self.corners.T @ result.x[:c])


def least_loss(surface: Surface, weights: Array, space: Space, sizes: Array, count: int) -> Array:
    """The mixture of least weighted loss on each of `count` draws (count, k).

    The weights of the corners move by multiplication, each by the loss's slope towards it
    (exponentiated gradient, Kivinen and Warmuth 1997), so that they stay positive and sum to 1.
    That approaches a weight of zero without end, so the last steps are straight and end on the
    edge (projected gradient). A price for each limit rises until it is kept.

    Args:
        weights: of the losses (t,).
        sizes: at which (s,).
    """
    corners, limits = space.corners, space.limits
    at = np.broadcast_to(sizes, (count, len(sizes)))
    prices = np.zeros((count, len(limits)))
    stiffness = 0.0

    def value(mixing: Array) -> tuple[Array, Array]:
        shares = mixing @ corners
        logs, slopes = surface.slopes(np.hstack([shares, at]))
        losses = np.exp(logs) * weights
        total, slope = losses.sum(axis=1), (losses[..., None] * slopes).sum(axis=1)
        if stiffness:
            over = np.maximum(prices + stiffness * (shares - limits), 0)
            total = total + (over**2).sum(axis=1) / (2 * stiffness)
            slope = slope + over
        return total, slope @ corners.T

    mixing = np.full((count, len(corners)), 1 / len(corners))
    rounds = _ROUNDS if space.limited else 1
    for _ in range(rounds):
        if space.limited:
            slope = value(mixing)[1]
            stiffness = max(stiffness * 4, 10 * float(np.ptp(slope, axis=1).max()))
        mixing = _descended(value, mixing, _MULTIPLIED, _ITERATIONS)
        if space.limited:
            prices = np.maximum(prices + stiffness * (mixing @ corners - limits), 0)
    mixing = _descended(value, mixing, _STRAIGHT, _POLISHING)
    shares = mixing @ corners
    shares = np.where(shares < _NONE, 0, shares)
    shares = shares / shares.sum(axis=1, keepdims=True)
    if space.limited:
        inner = space._feasible()
        over = (shares - limits) / np.maximum(shares - inner, 1e-12)
        back = np.clip(np.where(shares > limits, over, 0).max(axis=1), 0, 1)[:, None]
        shares = shares + back * (inner - shares)
    return np.asarray(shares)


def outside(points: Array, corners: Array) -> Array:
    """How far each mixture is from the averages of the corners, in shares (m,); 0 for inside."""
    wide = np.vstack([np.unique(corners, axis=0).T, np.full(len(np.unique(corners, axis=0)), 10.0)])
    far = np.array([nnls(wide, np.append(point, 10.0))[1] for point in points])
    return np.where(far > _CLOSE, far, 0.0)


def _extreme(corners: Array) -> Array:
    """The corners of the hull, where few sources make them cheap to find; else all.

    With every mixture in it the search has many ways to write one, and is slow to the edge.
    """
    if not 3 <= corners.shape[1] <= _MOST_HULL or len(corners) <= corners.shape[1]:
        return corners
    try:
        return corners[ConvexHull(corners[:, :-1]).vertices]
    except QhullError:  # they have a plane in common
        return corners


@dataclass(frozen=True, slots=True)
class _Geometry:
    """How weights that sum to 1 move.

    Attributes:
        moved: weights (m, c) after a step (m,) against a slope (m, c), which is 0 at its least.
        apart: how far new weights are from old ones, by what the steps are of (m,).
    """

    moved: Callable[[Array, Array, Array], Array]
    apart: Callable[[Array, Array], Array]


def _descended(
    value: Callable[[Array], tuple[Array, Array]], mixing: Array, by: _Geometry, iterations: int
) -> Array:
    """The least value of each draw, by mirror descent with Barzilai-Borwein step lengths."""
    total, slope = value(mixing)
    step = 1 / np.maximum(np.ptp(slope, axis=1), 1e-12)
    best, least = mixing, total
    recent = np.tile(total, (_MEMORY, 1))
    for turn in range(iterations):
        trial = by.moved(mixing, slope - slope.min(axis=1, keepdims=True), step)
        new_total, new_slope = value(trial)
        taken = new_total <= recent.max(axis=0)
        far = by.apart(trial, mixing)
        bend = ((trial - mixing) * (new_slope - slope)).sum(axis=1)
        longer = np.where(bend > 0, far / np.maximum(bend, 1e-300), step * _LONGER)
        step = np.where(taken, np.clip(longer, step / 10, step * 10), step * _SHORTER)
        mixing = np.where(taken[:, None], trial, mixing)
        slope = np.where(taken[:, None], new_slope, slope)
        total = np.where(taken, new_total, total)
        recent[turn % _MEMORY] = total
        better = total < least
        best = np.where(better[:, None], mixing, best)
        least = np.where(better, total, least)
    return best


def _multiplied(mixing: Array, slope: Array, step: Array) -> Array:
    weights = np.maximum(mixing * np.exp(np.maximum(-step[:, None] * slope, -30)), 1e-30)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _projected(mixing: Array, slope: Array, step: Array) -> Array:
    """The closest weights that sum to 1 (Duchi et al. 2008, algorithm 1)."""
    weights = mixing - step[:, None] * slope
    ranked = -np.sort(-weights, axis=1)
    excess = (ranked.cumsum(axis=1) - 1) / np.arange(1, ranked.shape[1] + 1)
    last = (ranked > excess).sum(axis=1, keepdims=True) - 1
    return np.maximum(weights - np.take_along_axis(excess, last, axis=1), 0)


_MULTIPLIED = _Geometry(_multiplied, lambda new, old: ((new - old) * np.log(new / old)).sum(axis=1))
_STRAIGHT = _Geometry(_projected, lambda new, old: ((new - old) ** 2).sum(axis=1))
