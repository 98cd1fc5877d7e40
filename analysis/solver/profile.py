"""Profile likelihoods of the quantities people decide by: the exponent of N*, N* and D*.

A profile holds the quantity at a value and minimises over everything else. Each quantity gets
coordinates in which it is one coordinate, so a profile is one batch of ordinary solves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtri

from analysis.law import CONSTANTS, Array
from analysis.solver.newton import Chart
from analysis.solver.problem import EXPONENT_BOX, Problem, linear_map
from analysis.solver.uncertainty import covariances, inverse_curvature, smoothed

Quantity = Literal["exponent_N", "n_opt", "d_opt"]
_POINTS = 25  # held values in a round
_ROUNDS = 7  # each three times wider: the narrowest reach passes the limits by then


@dataclass(frozen=True, slots=True)
class Profile:
    """The objective's rise along a quantity.

    Attributes:
        values: of the quantity, ascending, until past the threshold or at the limits: exponents
            from 0.01 to 0.99, sizes to a factor 1e6 either side of the estimate.
        rise: twice the objective's increase over its scale; chi-square with one
            degree of freedom at the true value. The scale comes from the sandwich covariance,
            so misfit and correlation within runs count.
        threshold: what `rise` must pass for a value to be outside the interval.
        interval: None on a side where the profile never passes the threshold.
    """

    quantity: Quantity
    flops: float | None
    estimate: float
    values: Array
    rise: Array
    threshold: float
    interval: tuple[float | None, float | None]


def profile(
    problem: Problem,
    x: Array,
    quantity: Quantity,
    *,
    flops: float | None = None,
    level: float = 0.9,
    clusters: NDArray[np.intp] | None = None,
) -> Profile:
    """Profile of a quantity around the optimum x (q,).

    Args:
        flops: the budget of n_opt and d_opt, under C = 6·N·D.
    """
    problem = smoothed(problem, x, parts=30)
    exponent = quantity == "exponent_N"

    def value(x: Array) -> Array:
        """The quantity at coordinates (s, q), each (s,)."""
        constants = problem.constants(x)
        if exponent:
            return constants.exponent_N
        assert flops is not None
        N, D = constants.compute_optimal(flops)
        return N if quantity == "n_opt" else D

    def place(x: Array) -> Array:
        """The coordinate that is held: an exponent, or the log of a size."""
        return value(x) if exponent else np.log(value(x))

    estimate, base = float(value(x[None])[0]), float(problem.value(x[None])[0])
    scale, deviation = _scale(problem, x, place, clusters)
    freedom = max(len(problem.rows.loss) - len(x), 1)
    threshold = float(fdtri(1, freedom, level))
    if exponent:
        chart, start = _exponent_chart(problem, x)
        centre, shift, limits = estimate, 0.0, (0.01, 0.99)
        reach = min(max(4 * deviation, 0.01), 0.5)
    else:
        shift = float(place(x[None])[0])
        log_product = float(np.log((flops or 0.0) / 6))
        chart, start = _size_chart(problem, x, shift, log_product, mirrored=quantity == "d_opt")
        centre, limits = 0.0, (float(np.log(1e-6)), float(np.log(1e6)))
        reach = min(max(4 * deviation, 0.05), 10.0)
    posed = replace(problem, chart=chart)
    minima: dict[float, float] = {}
    for _ in range(_ROUNDS):
        places = np.unique(np.clip(centre + np.linspace(-reach, reach, _POINTS), *limits))
        minima |= zip(places, _along(posed, shift + places, start), strict=True)
        ordered = np.array(sorted(minima))
        rise = np.array([2 * (minima[p] - base) / scale for p in ordered])
        left, right = rise[0] > threshold, rise[-1] > threshold
        if (left or ordered[0] <= limits[0]) and (right or ordered[-1] >= limits[1]):
            break
        reach *= 3
    rise = np.maximum(rise, 0.0)
    ends = _crossings(ordered, rise, threshold, centre)
    if exponent:
        return Profile(quantity, flops, estimate, ordered, rise, threshold, ends)
    low, high = (None if end is None else float(estimate * np.exp(end)) for end in ends)
    values = estimate * np.exp(ordered)
    return Profile(quantity, flops, estimate, values, rise, threshold, (low, high))


def _scale(
    problem: Problem,
    x: Array,
    place: Callable[[Array], Array],
    clusters: NDArray[np.intp] | None,
) -> tuple[float, float]:
    """The objective's scale along the quantity, and the sandwich's standard error.

    Along the profile the objective rises as (q - q0)² / (2 v), with v the quantity's variance
    were the objective a log-likelihood. The sandwich covariance gives it the
    variance V, so the rise over V/v is the chi-square (Godambe 1960; Royall 1986).
    """
    step = 1e-5
    shifts = np.eye(len(x)) * step
    up, down = np.split(place(np.concatenate([x + shifts, x - shifts])), 2)
    gradient = (up - down) / (2 * step)
    variance = float(gradient @ covariances(problem, x, clusters)["sandwich"] @ gradient)
    unit = float(gradient @ inverse_curvature(problem, x) @ gradient)
    return max(variance / max(unit, 1e-300), 1e-300), float(np.sqrt(max(variance, 0.0)))


def _along(posed: Problem, held: Array, start: Array) -> list[float]:
    """The objective's minimum at each held value, the best of three searches."""
    assert posed.chart.held is not None
    x = np.repeat(start[None], len(held), axis=0)
    x[:, posed.chart.held] = held[:, None]
    best = posed.solve(x).x
    value = posed.value(best)
    # Search again from the minima of both neighbours, in case their basin is lower.
    for shift in (1, -1):
        again = np.roll(best, shift, axis=0)
        again[:, posed.chart.held] = held[:, None]
        ends = posed.solve(again).x
        lower = posed.value(ends) < value
        best = np.where(lower[:, None], ends, best)
        value = np.minimum(value, posed.value(ends))
    return [float(minimum) for minimum in value]


def _crossings(
    places: Array, rise: Array, threshold: float, centre: float
) -> tuple[float | None, float | None]:
    """The profile's first crossing of the threshold on each side of the estimate."""
    ends: list[float | None] = []
    for side in (-1, 1):
        order = np.flatnonzero((places - centre) * side >= 0)
        order = order[np.argsort((places[order] - centre) * side)]
        out = np.flatnonzero(rise[order] > threshold)
        if not len(out):
            ends.append(None)
            continue
        b = order[out[0]]
        a = order[out[0] - 1] if out[0] else b
        below, over = np.sqrt(rise[a]), np.sqrt(rise[b])
        share = 1.0 if a == b else (np.sqrt(threshold) - below) / max(over - below, 1e-300)
        ends.append(float(places[a] + share * (places[b] - places[a])))
    return ends[0], ends[1]


def _exponent_chart(problem: Problem, x: Array) -> tuple[Chart, Array]:
    """Coordinates ([E], A, B, [alpha + beta], share held, [gamma]), and the optimum in them.

    beta = share · total. kaplan holds beta = 1, so alpha = (1 - share)/share and there is no
    total.
    """
    kaplan = problem.form == "kaplan"
    other = {"alpha": "share"} if kaplan else {"alpha": "total", "beta": "share"}
    names = [other.get(name, name) for name in problem.free]
    matrix, offset = linear_map(problem.form, names)
    share_at, total_at = names.index("share"), -1 if kaplan else names.index("total")

    def to_theta(x: Array) -> Array:
        theta = x @ matrix.T + offset
        share = x[:, share_at]
        total = 1 / share if kaplan else x[:, total_at]
        theta[:, 3], theta[:, 4] = (1 - share) * total, share * total
        return theta

    def jacobian(x: Array) -> Array:
        columns = np.repeat(matrix[None], len(x), axis=0)
        if not kaplan:
            share = x[:, share_at]
            columns[:, 3, total_at], columns[:, 4, total_at] = 1 - share, share
        return columns

    optimum = _optimum(problem, x)
    total = optimum["alpha"] + optimum["beta"]
    optimum |= {"total": total, "share": optimum["beta"] / total}
    box = {"total": (2 * EXPONENT_BOX[0], 2 * EXPONENT_BOX[1]), "share": (0.0, 1.0)}
    chart = Chart(to_theta, jacobian, None, *_box(problem, names, box), np.array(names) == "share")
    return chart, np.array([optimum[name] for name in names])


def _size_chart(
    problem: Problem, x: Array, log_size: float, log_product: float, *, mirrored: bool
) -> tuple[Chart, Array]:
    """Coordinates ([E], k, alpha, [beta], ln N* or ln D* held, [gamma]), and the optimum in them.

    At the optimum of a budget alpha·A/N^alpha = beta·B/D^beta = exp(k), which gives A and B.

    Args:
        log_size: ln of the optimum's N* or D*.
        log_product: ln of N*·D*.
        mirrored: D* is held, not N*.
    """
    rows = problem.rows
    names = [{"A": "k"}.get(name, name) for name in problem.free if name not in ("B", "gamma")]
    names += ["size", *(["gamma"] if "gamma" in problem.free else [])]
    matrix, offset = linear_map(problem.form, names)
    k_at, size_at = names.index("k"), names.index("size")

    def places(x: Array) -> tuple[Array, Array, Array]:
        """Internal parameters without A and B, and the centred logs of N* and D*."""
        log_N = log_product - x[:, size_at] if mirrored else x[:, size_at]
        return x @ matrix.T + offset, log_N - rows.n_mean, log_product - log_N - rows.d_mean

    def to_theta(x: Array) -> Array:
        theta, n, d = places(x)
        alpha, beta = theta[:, 3], theta[:, 4]
        theta[:, 1] = x[:, k_at] - np.log(alpha) + alpha * n
        theta[:, 2] = x[:, k_at] - np.log(beta) + beta * d
        return theta

    def jacobian(x: Array) -> Array:
        theta, n, d = places(x)
        columns = np.repeat(matrix[None], len(x), axis=0)
        columns[:, 1] = (n - 1 / theta[:, 3])[:, None] * matrix[3]
        columns[:, 2] = (d - 1 / theta[:, 4])[:, None] * matrix[4]
        columns[:, 1:3, k_at] = 1.0
        return columns

    def curvature(x: Array, gradient: Array) -> Array:
        theta, _, _ = places(x)
        bend = gradient[:, 1:3] / theta[:, 3:5] ** 2
        return np.asarray(
            bend[:, 0, None, None] * np.outer(matrix[3], matrix[3])
            + bend[:, 1, None, None] * np.outer(matrix[4], matrix[4])
        )

    optimum = _optimum(problem, x)
    log_N = log_product - log_size if mirrored else log_size
    level = optimum["A"] + np.log(optimum["alpha"]) - optimum["alpha"] * (log_N - rows.n_mean)
    optimum |= {"k": level, "size": log_size}
    box = _box(problem, names, {"k": (-60.0, 60.0), "size": (-np.inf, np.inf)})
    chart = Chart(to_theta, jacobian, curvature, *box, np.array(names) == "size")
    return chart, np.array([optimum[name] for name in names])


def _optimum(problem: Problem, x: Array) -> dict[str, float]:
    """The internal parameters at x (q,), by name."""
    theta = problem.chart.to_theta(x[None])[0]
    return dict(zip(CONSTANTS, theta, strict=False))


def _box(
    problem: Problem, names: Sequence[str], other: Mapping[str, tuple[float, float]]
) -> tuple[Array, Array]:
    """Lower and upper ends of the coordinates: the problem's own, or those in `other`."""
    ends = zip(problem.chart.lower, problem.chart.upper, strict=True)
    box = dict(zip(problem.free, ends, strict=True)) | dict(other)
    lower, upper = np.array([box[name] for name in names]).T
    return lower, upper
