"""N*(C) under a forecast: the bottom of the forecast valley at a budget, with its interval.

The constraint is C = 6·N·D.
"""

from dataclasses import dataclass

import numpy as np

from analysis.fit.isoflop import budgets
from analysis.forecast.curve import log_loss, optimal_n
from analysis.forecast.posterior import Posterior
from analysis.law import Array, deviations
from analysis.table.observations import Table

# Half the width of the parabola, in e-folds of N, and its points.
_REACH, _POINTS = 1.5, 7
# On public tables the vertex scatters this much more than its standard deviation says.
_WIDENING = 1.4
# A forecast that hardly bends, or bends down, counts as having this part of its law's curvature:
# N* is then as unsure as its slope makes it over so flat a valley.
_LEAST_BEND = 0.1
# E-folds of N beyond which nothing is known, and numbers would overflow.
_MOST_SD = 40.0
# E-folds of D over which the gain from more compute is measured, and the least gain.
_MORE, _FLAT = 0.01, 1e-9
# Points of a measured valley within this of its lowest loss, and how many it takes.
_VALLEY, _FEWEST = 0.06, 3


@dataclass(frozen=True, slots=True)
class Optimum:
    """N* and D* at a budget of `flops`, each with its interval, and the loss of a run there.

    Attributes:
        regret: the rise of ln L from the best N to either end of the interval of N.
        regret_flops: the share of the budget that a run at either end wastes: with so much less
            compute the best N reaches the same loss.
    """

    flops: float
    n_opt: float
    n_interval: tuple[float, float]
    loss: float
    loss_interval: tuple[float, float]
    regret: tuple[float, float]
    regret_flops: tuple[float, float]

    @property
    def rise(self) -> tuple[float, float]:
        """`regret` as a share of the loss."""
        low, high = np.expm1(self.regret)
        return float(low), float(high)

    @property
    def d_opt(self) -> float:
        """D* = C/(6·N*)."""
        return self.flops / 6 / self.n_opt

    @property
    def d_interval(self) -> tuple[float, float]:
        """The interval of D*: the ends of N*'s in turn."""
        low, high = self.n_interval
        return self.flops / 6 / high, self.flops / 6 / low


def optimum(
    posterior: Posterior, flops: float, level: float, valleys: tuple[Array, Array] | None = None
) -> Optimum:
    """N*, D* and the loss there at a budget.

    The vertex of the least-squares parabola through the forecast at seven sizes around the law's
    own N*. Where the table's own valleys give two minima or more, the estimate is the mean of
    the vertex and of the power law through them: their errors have little in common.

    Args:
        valleys: ln 6ND and ln N of the minima that `measured_valleys` found.
    """
    half = np.log(flops / 6)
    steps = np.linspace(-_REACH, _REACH, _POINTS)
    centre = float(optimal_n(posterior.phi, half, posterior.reference))
    forecast = posterior.predict(np.exp(centre + steps), np.exp(half - centre - steps))
    design = np.linalg.pinv(np.vander(steps, 3, increasing=True))
    _, slope, curvature = design @ forecast.mean
    law = log_loss(posterior.phi, centre + steps, half - centre - steps, posterior.reference)
    _, law_slope, law_curvature = design @ law
    slope_sd = float(np.sqrt(design[1] @ forecast.covariance @ design[1]))
    bend = max(curvature, _LEAST_BEND * law_curvature)
    # A valley is steeper on one side, which moves the vertex: the law's own tells by how much.
    own = vertex = centre - slope / (2 * bend) + law_slope / (2 * law_curvature)
    sd = min(_WIDENING * slope_sd / (2 * bend), _MOST_SD)
    if valleys is not None:
        line = np.polynomial.Polynomial.fit(*valleys, 1)
        vertex = (vertex + float(line(np.log(flops)))) / 2
    z = deviations(level)
    sizes = np.array([vertex, vertex - z * sd, vertex + z * sd, own, own])
    # The last with more tokens: at the best N, compute counts as much whichever way it is spent.
    tokens = half - sizes + np.array([0, 0, 0, 0, _MORE])
    there = posterior.predict(np.exp(sizes), np.exp(tokens))
    loss, spread = there.mean[0], z * there.sd[0]
    rise = there.mean[1:3] - there.mean[:4].min()
    wasted = -np.expm1(-rise * _MORE / max(there.mean[3] - there.mean[4], _FLAT))
    ends = np.exp(sizes)
    return Optimum(
        flops,
        float(ends[0]),
        (float(ends[1]), float(ends[2])),
        float(np.exp(loss)),
        (float(np.exp(loss - spread)), float(np.exp(loss + spread))),
        (float(rise[0]), float(rise[1])),
        (float(wasted[0]), float(wasted[1])),
    )


def measured_valleys(table: Table) -> tuple[Array, Array] | None:
    """ln 6ND and ln N of the minima of the table's own budgets; None with fewer than two.

    A budget of counted FLOPs has a 6·N·D of its own at each size: the one at the minimum counts.
    """
    places = []
    for _, rows in budgets(table.used):
        u, d, y = np.log(rows.select("n_params", "tokens", "val_loss").to_numpy().astype(float)).T
        near = y <= y.min() + np.log1p(_VALLEY)
        if len(np.unique(u[near])) < _FEWEST:
            continue
        c = np.polynomial.Polynomial.fit(u[near], y[near], 2).convert().coef
        vertex = -c[1] / (2 * c[2])
        if c[2] > 0 and u[near].min() < vertex < u[near].max():
            tokens = np.polynomial.Polynomial.fit(u[near], d[near], 1)
            places.append((np.log(6) + vertex + float(tokens(vertex)), vertex))
    if len(places) < 2:
        return None
    log_C, log_N = np.array(places).T
    return log_C, log_N
