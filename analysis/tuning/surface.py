"""A smooth surface of loss over learning rate and batch at one model size, and its minimum.

The lowest trial of a coarse search is a biased choice: it is the luckiest of many, and lies on
the search's own points. A quadratic in logs uses all trials near the minimum.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc

from analysis.law import Array, Frozen, central
from analysis.words import counted

# Trials within this share of the lowest loss are near enough for a quadratic: 0.1 nats, on the
# demo's corpus a factor three to five in learning rate (docs/benchmarks/demo_lr_scan.md).
WITHIN = 0.03
_DRAWS = 2000
# Fewest residual degrees of freedom for a standard error.
_LEAST_FREE = 2
# P-value of the F test below which sizes get curvatures of their own.
_DIFFER = 0.05
# Below this share of the variance residuals are rounding, not noise to test against.
_EXACT = 1e-12
# A draw this close to an edge, in logs, counts as at the edge.
_AT_EDGE = 1e-9


class SurfaceError(ValueError):
    """The trials do not determine a surface; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A searched parameter and the range it was searched in."""

    name: str
    low: float
    high: float


class Optimum(Frozen):
    """The minimum of the loss along one axis.

    Attributes:
        value: the minimum within the searched range.
        interval: an end is None where the trials do not bound it within the range.
        edge: `low` or `high` when the minimum lies at that end, so that the range must be widened.
    """

    value: float
    interval: tuple[float | None, float | None]
    edge: str | None


@dataclass(frozen=True, slots=True)
class Surface:
    """loss = c + b·x + x'A x in centred logs x, at one model size and one budget.

    Attributes:
        axes: the searched parameters, learning rate first.
        centre: ln of the origin of x, (d,).
        coef: constant, d slopes, d squares, then the product of the first two axes if d > 1.
        minimum: ln of the minimum within the searched box, (d,).
        optima: the minimum with intervals, by axis name.
        loss: of the surface at its minimum.
        noise: standard deviation of the trials around it, nats per token.
        rows: positions of the trials used.
        coef_draws: posterior draws of the coefficients, (draws, p).
        minimum_draws: their minima, (draws, d).
    """

    axes: tuple[Axis, ...]
    centre: Array
    coef: Array
    minimum: Array
    optima: dict[str, Optimum]
    loss: float
    noise: float
    rows: tuple[int, ...]
    coef_draws: Array
    minimum_draws: Array
    level: float

    @property
    def curvature(self) -> Array:
        """Second derivatives in logs, (d, d); not negative where the minimum is inside."""
        d = len(self.axes)
        matrix = np.diag(2 * self.coef[1 + d : 1 + 2 * d])
        if d > 1:
            matrix[0, 1] = matrix[1, 0] = self.coef[-1]
        return matrix

    def at(self, logs: Array) -> Array:
        """Loss at points given by their logs, (..., d)."""
        return _design(logs - self.centre) @ self.coef

    def lost(self, logs: Array) -> tuple[float, tuple[float, float]]:
        """Loss above the minimum at one point given by its logs (d,), with its interval."""
        row = _design((logs - self.centre)[None])[0]
        at_point = self.coef_draws @ row
        minima = _design(self.minimum_draws - self.centre)
        at_minimum = np.einsum("np,np->n", minima, self.coef_draws)
        low, high = central(at_point - at_minimum, self.level)
        value = float(self.at(logs[None])[0] - self.loss)
        return max(value, 0.0), (max(low, 0.0), max(high, 0.0))


@dataclass(frozen=True, slots=True)
class Trials:
    """The trials at one model size.

    Attributes:
        axes: the searched parameters, learning rate first, batch second if it was searched.
        points: their values, (n, d), all positive.
        losses: a column for each budget, (n, h), finite; every point was tried at every budget.
    """

    axes: tuple[Axis, ...]
    points: Array
    losses: Array


def fit_surfaces(
    sizes: Sequence[Trials],
    *,
    level: float = 0.9,
    within: float = WITHIN,
    draws: int = _DRAWS,
    seed: tuple[int, ...] = (0,),
) -> list[list[Surface]]:
    """Surfaces of model sizes that were searched alike: one for each size and budget.

    Ordinary least squares on the trials whose loss, averaged over the budgets, is within a share
    `within` of their size's lowest. The only product is that of the first two axes, learning rate
    and batch. Sizes share their curvature, which a dozen trials determine badly and two dozen
    better, unless an F test at 5 % finds that it differs.

    Coefficients are drawn from the posterior under a flat prior, a matrix t (Box and Tiao 1973,
    section 8.4), budgets together because they share a trial's noise; intervals are percentiles
    of the draws' minima.

    Args:
        sizes: all with the same axes and number of budgets; ranges may differ.

    Raises:
        SurfaceError: too few trials at a size, or trials that do not spread over every axis.
    """
    near = [_near(trials, within) for trials in sizes]
    if len(near) == 1 or _alike(near):
        return _fit(near, level, draws, seed)
    return [_fit([part], level, draws, (*seed, place))[0] for place, part in enumerate(near)]


def least_trials(axes: int) -> int:
    """Fewest trials that a surface over this many axes can be fitted to."""
    return _columns(axes) + _LEAST_FREE


def check_trials(trials: Trials) -> None:
    """Raise SurfaceError where `fit_surfaces` would for this size."""
    _near(trials, WITHIN)


@dataclass(frozen=True, slots=True)
class _Near:
    """The trials of one size that its surface is fitted to."""

    axes: tuple[Axis, ...]
    centre: Array
    design: Array
    losses: Array
    rows: NDArray[np.intp]


def _near(trials: Trials, within: float) -> _Near:
    if not trials.axes or trials.axes[0].name != "lr":
        raise SurfaceError("every trial has the same learning rate: try several.")
    logs = np.log(np.asarray(trials.points, float))
    losses = np.asarray(trials.losses, float)
    rows = near_minimum(losses, _columns(len(trials.axes)), within)
    centre = np.asarray(logs[rows].mean(axis=0), np.float64)
    design = _design(logs[rows] - centre)
    n, p = design.shape
    names = ", ".join(axis.name for axis in trials.axes)
    if n < least_trials(len(trials.axes)):
        raise SurfaceError(
            f"{counted(n, 'trial')} that did not diverge, too few for a surface over {names}: it "
            f"has {p} constants and needs {least_trials(len(trials.axes))} trials or more."
        )
    if np.linalg.matrix_rank(design / np.abs(design).max(axis=0).clip(1e-300)) < p:
        raise SurfaceError(
            f"the {n} trials near the minimum do not spread over all of {names}: try more values."
        )
    return _Near(trials.axes, centre, design, losses[rows], rows)


def _joint(near: Sequence[_Near]) -> Array:
    """The design of all trials: a constant and slopes for each size, then one curvature."""
    own = 1 + len(near[0].axes)
    trials = sum(len(part.design) for part in near)
    joint = np.zeros((trials, own * len(near) + near[0].design.shape[1] - own))
    row = 0
    for place, part in enumerate(near):
        rows = slice(row, row + len(part.design))
        joint[rows, place * own : (place + 1) * own] = part.design[:, :own]
        joint[rows, own * len(near) :] = part.design[:, own:]
        row += len(part.design)
    return joint


def _alike(near: Sequence[_Near]) -> bool:
    """Whether all sizes share one curvature, by an F test on the mean over the budgets."""
    joint, losses = _joint(near), np.concatenate([part.losses.mean(axis=1) for part in near])
    together = _squares(joint, losses)
    apart = sum(_squares(part.design, part.losses.mean(axis=1)) for part in near)
    if together <= _EXACT * float(np.var(losses)) * len(losses):
        return True
    constants = sum(part.design.shape[1] for part in near)
    more, free = constants - joint.shape[1], len(losses) - constants
    ratio = (together - apart) / more / max(apart / free, np.finfo(float).tiny)
    return bool(fdtrc(more, free, max(ratio, 0.0)) > _DIFFER)


def _squares(design: Array, losses: Array) -> float:
    """Sum of squared residuals of a least-squares fit."""
    residual = losses - design @ np.linalg.lstsq(design, losses, rcond=None)[0]
    return float(residual @ residual)


def _fit(
    near: Sequence[_Near], level: float, draws: int, seed: tuple[int, ...]
) -> list[list[Surface]]:
    design, losses = _joint(near), np.concatenate([part.losses for part in near])
    n, p = design.shape
    unscaled = np.asarray(np.linalg.inv(design.T @ design), np.float64)
    coef = unscaled @ design.T @ losses
    residual = losses - design @ coef
    covariance = np.asarray(residual.T @ residual / (n - p), np.float64)
    drawn = _draw(coef, unscaled, covariance, n - p, draws, seed)
    own = 1 + len(near[0].axes)
    shared = np.arange(own * len(near), p)
    surfaces = []
    for place, part in enumerate(near):
        columns = np.concatenate([np.arange(place * own, (place + 1) * own), shared])
        surfaces.append(
            [
                _surface(part, coef[columns, k], drawn[:, columns, k], covariance[k, k], level)
                for k in range(losses.shape[1])
            ]
        )
    return surfaces


def _surface(part: _Near, coef: Array, drawn: Array, variance: float, level: float) -> Surface:
    low, high = _box(part.axes, part.centre)
    minimum = _box_minimum(coef[None], low, high)[0]
    minima = _box_minimum(drawn, low, high)
    return Surface(
        axes=part.axes,
        centre=part.centre,
        coef=coef,
        minimum=minimum + part.centre,
        optima={
            axis.name: _optimum(minimum[k], minima[:, k], low[k], high[k], part.centre[k], level)
            for k, axis in enumerate(part.axes)
        },
        loss=float(_design(minimum[None])[0] @ coef),
        noise=float(np.sqrt(variance)),
        rows=tuple(int(row) for row in part.rows),
        coef_draws=drawn,
        minimum_draws=minima + part.centre,
        level=level,
    )


def near_minimum(losses: Array, constants: int, within: float) -> NDArray[np.intp]:
    """Positions of the trials near the lowest loss, in order; at least as many as a fit needs.

    Args:
        losses: (n, h); a trial's height is its mean over the columns, each over its lowest.
    """
    height = (losses / losses.min(axis=0)).mean(axis=1)
    order = np.argsort(height, kind="stable")
    near = int((height <= height.min() * (1 + within)).sum())
    return np.sort(order[: max(near, constants + _LEAST_FREE + 1)])


def _columns(d: int) -> int:
    return 1 + 2 * d + (d > 1)


def _design(x: Array) -> Array:
    """Constant, slopes, squares, and the product of the first two axes, (..., p)."""
    parts = [np.ones((*x.shape[:-1], 1)), x, x**2]
    if x.shape[-1] > 1:
        parts.append(x[..., :1] * x[..., 1:2])
    return np.concatenate(parts, axis=-1)


def _draw(
    coef: Array,
    unscaled: Array,
    covariance: Array,
    free: int,
    draws: int,
    seed: tuple[int, ...],
) -> Array:
    rng = np.random.default_rng(seed)
    left = np.linalg.cholesky(unscaled)
    # With fewer residuals than budgets the covariance has no inverse, but it has a root.
    values, vectors = np.linalg.eigh(covariance)
    right = vectors * np.sqrt(values.clip(0))
    noise = rng.standard_normal((draws, *coef.shape))
    scale = np.sqrt(free / rng.chisquare(free, draws))
    return np.asarray(coef + scale[:, None, None] * (left @ noise @ right.T))


def _box(axes: Sequence[Axis], centre: Array) -> tuple[Array, Array]:
    low = np.log([axis.low for axis in axes]) - centre
    return low, np.log([axis.high for axis in axes]) - centre


def _box_minimum(coef: Array, low: Array, high: Array) -> Array:
    """The minimum of each quadratic (s, p) within the box, (s, d).

    Other axes are separate; over the first two the minimum is the stationary point if that is a
    minimum and inside, else it lies on one of the four sides.
    """
    d = len(low)
    slope, square = coef[:, 1 : 1 + d], coef[:, 1 + d : 1 + 2 * d]
    best = np.stack([_line(slope[:, k], square[:, k], low[k], high[k]) for k in range(d)], axis=1)
    if d == 1:
        return best
    product = coef[:, -1]
    candidates = []
    determinant = 4 * square[:, 0] * square[:, 1] - product**2
    safe = np.where(determinant > 0, determinant, 1.0)
    inner = np.stack(
        [
            (product * slope[:, 1] - 2 * square[:, 1] * slope[:, 0]) / safe,
            (product * slope[:, 0] - 2 * square[:, 0] * slope[:, 1]) / safe,
        ],
        axis=1,
    )
    convex = (determinant > 0) & (square[:, 0] > 0)
    inside = convex & (inner >= low[:2]).all(axis=1) & (inner <= high[:2]).all(axis=1)
    for k, other in ((0, 1), (1, 0)):
        for end in (low[k], high[k]):
            side = np.empty((len(coef), 2))
            side[:, k] = end
            side[:, other] = _line(
                slope[:, other] + product * end, square[:, other], low[other], high[other]
            )
            candidates.append(side)
    sides = np.stack(candidates, axis=1)
    value = (
        (slope[:, None, :2] * sides).sum(-1)
        + (square[:, None, :2] * sides**2).sum(-1)
        + product[:, None] * sides.prod(-1)
    )
    lowest = sides[np.arange(len(coef)), value.argmin(axis=1)]
    best[:, :2] = np.where(inside[:, None], inner, lowest)
    return best


def _line(slope: Array, square: Array, low: float, high: float) -> Array:
    """The x of least slope·x + square·x² between two ends."""
    inner = np.clip(-slope / np.where(square > 0, 2 * square, 1.0), low, high)
    ends = np.where(slope * low + square * low**2 <= slope * high + square * high**2, low, high)
    return np.asarray(np.where(square > 0, inner, ends))


def _optimum(
    minimum: float, minima: Array, low: float, high: float, centre: float, level: float
) -> Optimum:
    low_end, high_end = (
        None if abs(draw - end) < _AT_EDGE else float(np.exp(draw + centre))
        for draw, end in zip(central(minima, level), (low, high), strict=True)
    )
    edge = None
    if minimum - low < _AT_EDGE:
        edge = "low"
    elif high - minimum < _AT_EDGE:
        edge = "high"
    value = float(np.exp(minimum + centre))
    return Optimum(value=value, interval=(low_end, high_end), edge=edge)
