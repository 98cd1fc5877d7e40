"""Profile likelihoods of the quantities people decide by: the exponent of N*, N* and D*.

A profile holds the quantity at a value and minimises over everything else. Each quantity gets
coordinates in which it is one coordinate, so a profile is one batch of ordinary solves.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as fisher

from analysis.law import Array, constants_and_exponents, optimal_size
from analysis.solver.newton import Chart
from analysis.solver.problem import EXPONENT_BOX, Problem
from analysis.solver.uncertainty import covariances, inverse_curvature, smoothed

Quantity = Literal["exponent_N", "n_opt", "d_opt"]
_POINTS = 25


@dataclass(frozen=True, slots=True)
class Profile:
    """The objective's rise along a quantity, in units of its own threshold.

    Attributes:
        values: of the quantity, rising.
        rise: twice the objective's increase over its scale; chi-square of one freedom at the
            truth. The scale is the sandwich's, so misfit and correlation within runs count.
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
    estimate = float(_quantity(problem, x[None], quantity, flops)[0])
    scale, deviation = _scale(problem, x, quantity, flops, clusters)
    freedom = max(len(problem.rows.loss) - len(x), 1)
    threshold = float(fisher.ppf(level, 1, freedom))
    limits = (0.01, 0.99) if quantity == "exponent_N" else (np.log(1e-6), np.log(1e6))
    base = float(problem.value(x[None])[0])
    if quantity == "exponent_N":
        centre, reach = estimate, min(max(4 * deviation, 0.01), 0.5)
    else:
        centre, reach = 0.0, min(max(4 * deviation, 0.05), 10.0)
    done: dict[float, tuple[float, Array]] = {}
    start = _to_profile(problem, x, quantity, flops)
    for _ in range(4):
        offsets = np.linspace(-reach, reach, _POINTS)
        places = np.unique(np.clip(centre + offsets, *limits))
        held = places if quantity == "exponent_N" else np.log(estimate) + places
        ends = _along(problem, held, start, quantity, flops)
        done |= dict(zip(places, ends, strict=True))
        ordered = np.array(sorted(done))
        rise = np.array([2 * (done[p][0] - base) / scale for p in ordered])
        left, right = rise[0] > threshold, rise[-1] > threshold
        if (left or ordered[0] <= limits[0]) and (right or ordered[-1] >= limits[1]):
            break
        reach *= 3
    rise = np.maximum(rise, 0.0)
    low, high = _crossings(ordered, rise, threshold, centre)
    values = ordered if quantity == "exponent_N" else estimate * np.exp(ordered)
    low, high = (
        None if end is None else float(end if quantity == "exponent_N" else estimate * np.exp(end))
        for end in (low, high)
    )
    return Profile(quantity, flops, estimate, values, rise, threshold, (low, high))


def _quantity(problem: Problem, x: Array, quantity: Quantity, flops: float | None) -> Array:
    constants = problem.constants(x)
    if quantity == "exponent_N":
        return constants_and_exponents(constants)["exponent_N"]
    assert flops is not None
    N, D = optimal_size(constants, flops)
    return N if quantity == "n_opt" else D


def _scale(
    problem: Problem,
    x: Array,
    quantity: Quantity,
    flops: float | None,
    clusters: NDArray[np.intp] | None,
) -> tuple[float, float]:
    """The objective's scale along the quantity, and the sandwich's standard error.

    Along the profile the objective rises as (q - q0)² / (2 v), with v the quantity's variance
    were the objective a log-likelihood. The sandwich says its variance is V, so the rise over
    V/v is the chi-square (Godambe 1960; Royall 1986).
    """
    step = 1e-5
    shifts = np.eye(len(x)) * step
    value = _quantity(problem, np.concatenate([x + shifts, x - shifts]), quantity, flops)
    if quantity != "exponent_N":
        value = np.log(value)
    up, down = np.split(value, 2)
    gradient = (up - down) / (2 * step)
    variance = float(gradient @ covariances(problem, x, clusters)["sandwich"] @ gradient)
    unit = float(gradient @ inverse_curvature(problem, x) @ gradient)
    return max(variance / max(unit, 1e-300), 1e-300), float(np.sqrt(max(variance, 0.0)))


def _along(
    problem: Problem, held: Array, start: Array, quantity: Quantity, flops: float | None
) -> list[tuple[float, Array]]:
    """Objective and coordinates at each held value, the better of two searches."""
    chart = _chart(problem, quantity, flops)
    posed = replace(problem, chart=chart)
    place = int(np.flatnonzero(chart.held)[0]) if chart.held is not None else 0
    x = np.repeat(start[None], len(held), axis=0)
    x[:, place] = held
    first = posed.solve(x)
    value, best = posed.value(first.x), first.x
    # Again from the neighbours' ends, inner to outer: a basin found nearby is followed.
    for shift in (1, -1):
        again = np.roll(best, shift, axis=0)
        again[:, place] = held
        second = posed.solve(again)
        lower = posed.value(second.x) < value
        best = np.where(lower[:, None], second.x, best)
        value = np.minimum(value, posed.value(second.x))
    return list(zip(value.tolist(), best, strict=True))


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


def _to_profile(problem: Problem, x: Array, quantity: Quantity, flops: float | None) -> Array:
    """The optimum in the profile's coordinates."""
    theta = problem.chart.to_theta(x[None])[0]
    alpha, beta = theta[3], theta[4]
    kaplan, tied = problem.form == "kaplan", problem.form == "tied"
    gamma = [theta[5]] if len(theta) == 6 else []
    E = [] if np.isneginf(theta[0]) else [theta[0]]
    if quantity == "exponent_N":
        total = [] if kaplan else [alpha + beta]
        return np.array([*E, theta[1], theta[2], *total, beta / (alpha + beta), *gamma])
    log_N = np.log(_quantity(problem, x[None], quantity, flops)[0])
    n_held = log_N if quantity == "n_opt" else np.log((flops or 0.0) / 6) - log_N
    level = theta[1] + np.log(alpha) - alpha * (n_held - problem.rows.n_mean)
    exponents = [alpha] if kaplan or tied else [alpha, beta]
    return np.array([*E, level, *exponents, log_N, *gamma])


def _chart(problem: Problem, quantity: Quantity, flops: float | None) -> Chart:
    return (
        _exponent_chart(problem)
        if quantity == "exponent_N"
        else _size_chart(problem, quantity, flops or 0.0)
    )


def _exponent_chart(problem: Problem) -> Chart:
    """Coordinates ([E], A, B, [alpha + beta], share held, [gamma]): beta = share · total.

    kaplan holds beta = 1, so alpha = (1 - share)/share and there is no total.
    """
    size = 6 if problem.form in ("gamma", "kaplan") else 5
    with_E, kaplan = "E" in problem.free, problem.form == "kaplan"
    names = [*(["E"] if with_E else []), "A", "B", *([] if kaplan else ["total"]), "share"]
    names += ["gamma"] if size == 6 else []
    at = {name: k for k, name in enumerate(names)}

    def to_theta(x: Array) -> Array:
        theta = np.empty((len(x), size))
        share = x[:, at["share"]]
        total = 1 / share if kaplan else x[:, at["total"]]
        theta[:, 0] = x[:, at["E"]] if with_E else -np.inf
        theta[:, 1], theta[:, 2] = x[:, at["A"]], x[:, at["B"]]
        theta[:, 3], theta[:, 4] = (1 - share) * total, share * total
        if size == 6:
            theta[:, 5] = x[:, at["gamma"]]
        return theta

    def jacobian(x: Array) -> Array:
        share = x[:, at["share"]]
        columns = np.zeros((len(x), size, len(names)))
        for row, name in ((0, "E"), (1, "A"), (2, "B"), (5, "gamma")):
            if name in at:
                columns[:, row, at[name]] = 1.0
        if not kaplan:
            columns[:, 3, at["total"]], columns[:, 4, at["total"]] = 1 - share, share
        return columns

    box = {**_box(problem), "total": (2 * EXPONENT_BOX[0], 2 * EXPONENT_BOX[1]), "share": (0, 1)}
    return _boxed(names, box, "share", to_theta, jacobian, None)


def _size_chart(problem: Problem, quantity: Quantity, flops: float) -> Chart:
    """Coordinates ([E], k, alpha, [beta], ln N* or ln D* held, [gamma]).

    At the optimum of a budget alpha·A/N^alpha = beta·B/D^beta = exp(k), which gives A and B.
    """
    size = 6 if problem.form in ("gamma", "kaplan") else 5
    with_E, kaplan, tied = "E" in problem.free, problem.form == "kaplan", problem.form == "tied"
    names = [*(["E"] if with_E else []), "k", "alpha", *([] if kaplan or tied else ["beta"])]
    names += ["size", *(["gamma"] if size == 6 else [])]
    at = {name: k for k, name in enumerate(names)}
    rows, log_product = problem.rows, np.log(flops / 6)

    def places(x: Array) -> tuple[Array, Array, Array, Array]:
        held = x[:, at["size"]]
        log_N = held if quantity == "n_opt" else log_product - held
        alpha = x[:, at["alpha"]]
        beta = np.ones_like(alpha) if kaplan else alpha if tied else x[:, at["beta"]]
        return alpha, beta, log_N - rows.n_mean, log_product - log_N - rows.d_mean

    def to_theta(x: Array) -> Array:
        alpha, beta, n, d = places(x)
        theta = np.empty((len(x), size))
        theta[:, 0] = x[:, at["E"]] if with_E else -np.inf
        theta[:, 1] = x[:, at["k"]] - np.log(alpha) + alpha * n
        theta[:, 2] = x[:, at["k"]] - np.log(beta) + beta * d
        theta[:, 3], theta[:, 4] = alpha, beta
        if size == 6:
            theta[:, 5] = x[:, at["gamma"]]
        return theta

    def jacobian(x: Array) -> Array:
        alpha, beta, n, d = places(x)
        columns = np.zeros((len(x), size, len(names)))
        if with_E:
            columns[:, 0, at["E"]] = 1.0
        columns[:, 1, at["k"]] = columns[:, 2, at["k"]] = 1.0
        columns[:, 1, at["alpha"]], columns[:, 3, at["alpha"]] = n - 1 / alpha, 1.0
        if not kaplan:
            second = at["alpha"] if tied else at["beta"]
            columns[:, 2, second], columns[:, 4, second] = d - 1 / beta, 1.0
        if size == 6:
            columns[:, 5, at["gamma"]] = 1.0
        return columns

    def curvature(x: Array, gradient: Array) -> Array:
        alpha, beta, _, _ = places(x)
        second = np.zeros((len(x), len(names), len(names)))
        second[:, at["alpha"], at["alpha"]] = gradient[:, 1] / alpha**2
        if not kaplan:
            k = at["alpha"] if tied else at["beta"]
            second[:, k, k] += gradient[:, 2] / beta**2
        return second

    box = {**_box(problem), "k": (-60.0, 60.0), "size": (-np.inf, np.inf)}
    return _boxed(names, box, "size", to_theta, jacobian, curvature)


def _box(problem: Problem) -> dict[str, tuple[float, float]]:
    lower, upper = problem.chart.lower, problem.chart.upper
    return {n: (lower[k], upper[k]) for k, n in enumerate(problem.free)}


def _boxed(
    names: list[str],
    box: dict[str, tuple[float, float]],
    held: str,
    to_theta: Callable[[Array], Array],
    jacobian: Callable[[Array], Array],
    curvature: Callable[[Array, Array], Array] | None,
) -> Chart:
    lower, upper = np.array([box[name] for name in names]).T
    return Chart(
        to_theta, jacobian, curvature, lower, upper, np.array([name == held for name in names])
    )
