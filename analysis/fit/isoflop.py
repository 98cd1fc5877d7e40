"""Approach 2 of Hoffmann et al. 2022: a valley of loss for each budget, then power laws.

On one budget loss against ln N is close to a parabola near its minimum; the minima of several
budgets give N*(C) and D*(C). An Akima spline through the same points is reported beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.interpolate import Akima1DInterpolator
from scipy.special import stdtrit

from analysis.fit.power_law import PowerLaw, power_law, weighted
from analysis.law import Array, LossLaw
from analysis.table.numbers import near_groups
from analysis.words import counted, short

ValleyStatus = Literal["ok", "edge", "no_minimum", "too_few_sizes"]
# Points within this factor of N* are near the valley. Further out the parabola is no longer the
# law's shape; nearer, a usual grid (a factor 2 between sizes) leaves too few points.
NEAR_FACTOR = 6.0
_FEWEST = 4
# Without a budget column, rows whose compute agrees to this factor form one budget.
SAME_BUDGET = 1.08
# With one, rows of one budget lie up to a hundredth above and below it, by rounding to whole steps.
_SAME_NAMED_BUDGET = 1.02


@dataclass(frozen=True, slots=True)
class Valley:
    """One budget's minimum.

    Attributes:
        flops: the budget; the median compute of its rows where the table names none.
        n_opt, d_opt, loss: at the parabola's minimum in ln N, and its minimum in ln D; None
            when refused.
        n_interval, d_interval: by Fieller's theorem; None where the parabola has no more
            points than coefficients or its curvature may be zero.
        n_akima: minimum of the spline, None when it is not inside the grid.
        rows: table rows near the valley that the parabola used.
        advice: how to repair a refused valley; empty when it is ok.
    """

    flops: float
    status: ValleyStatus
    n_opt: float | None = None
    d_opt: float | None = None
    loss: float | None = None
    n_interval: tuple[float, float] | None = None
    d_interval: tuple[float, float] | None = None
    n_se_log: float | None = None
    d_se_log: float | None = None
    n_akima: float | None = None
    curvature: float | None = None
    rows: tuple[int, ...] = ()
    rows_all: tuple[int, ...] = ()
    advice: str = ""


@dataclass(frozen=True, slots=True)
class IsoflopFit:
    """Valleys and the power laws through the minima of those that are ok.

    Attributes:
        N, D: every budget counts alike, as in the published fits.
        N_weighted, D_weighted: budgets weigh by the inverse of their minimum's variance, to
            which the scatter between budgets is added (DerSimonian and Laird 1986).
        N_akima: through the spline's minima.
        reason: why there are no power laws; empty when there are.
    """

    valleys: tuple[Valley, ...]
    level: float
    N: PowerLaw | None = None
    D: PowerLaw | None = None
    N_weighted: PowerLaw | None = None
    D_weighted: PowerLaw | None = None
    N_akima: PowerLaw | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ParabolaBias:
    """Approach 2 applied to an approach 3 law's own losses on the same grid.

    The difference from the law's exponent is the parabola's error: wide, off-centre and
    asymmetric grids shift its minimum.
    """

    exponent_N_law: float
    exponent_N_parabola: float
    shift_N_factors: tuple[float, ...]


def fit_isoflop(used: pl.DataFrame, *, level: float = 0.9) -> IsoflopFit:
    """Valleys of every budget of the rows, and N*(C), D*(C) through them.

    Rows without budgets, or with fewer than two usable valleys, give a fit without power laws
    and the reason.
    """
    valleys = tuple(_valley(flops, group, level) for flops, group in budgets(used))
    return _through(valleys, level)


def budgets(used: pl.DataFrame) -> list[tuple[float, pl.DataFrame]]:
    """The table's IsoFLOP budgets in rising order, each with its rows.

    By `flops_budget` where the table has it, to within rounding. Otherwise rows of equal compute,
    if at least 60 % of all rows then lie on a budget with three sizes or more.
    """
    if "flops_budget" in used.columns and used["flops_budget"].null_count() < used.height:
        named = used.drop_nulls("flops_budget").sort("flops_budget")
        logs = np.log(named["flops_budget"].to_numpy())
        group = near_groups(named["flops_budget"].to_numpy(), _SAME_NAMED_BUDGET)
        labels = range(group.max() + 1)
        # Wider than rounding makes it, a group is of many budgets, and the column names none.
        if max(np.ptp(logs[group == k]) for k in labels) <= 2 * np.log(_SAME_NAMED_BUDGET):
            parts = [named.filter(pl.Series(group == k)) for k in labels]
            return [(float(np.median(part["flops_budget"])), part) for part in parts]
    column = "train_flops" if "train_flops" in used.columns else "flops_6nd"
    if column not in used.columns or used[column].null_count():
        column = "flops_6nd"
    ordered = used.sort(column)
    logs = np.log(ordered[column].to_numpy())
    group = near_groups(ordered[column].to_numpy(), SAME_BUDGET)
    levels, covered = [], 0
    for label in np.unique(group):
        part = ordered.filter(pl.Series(group == label))
        inside = logs[group == label]
        if part["n_params"].n_unique() >= 3 and np.ptp(inside) <= 2 * np.log(SAME_BUDGET):
            levels.append((float(np.exp(np.median(inside))), part))
            covered += part.height
    return levels if covered >= 0.6 * used.height else []


def parabola(N: Array, loss: Array, points: int = 60) -> tuple[Array, Array]:
    """The least-squares parabola in ln N through a valley's points, over their range."""
    u = np.log(N)
    coefficients = np.polynomial.Polynomial.fit(u, loss, 2)
    fine = np.linspace(u.min(), u.max(), points)
    return np.exp(fine), np.asarray(coefficients(fine))


def parabola_bias(fit: IsoflopFit, used: pl.DataFrame, law: LossLaw) -> ParabolaBias | None:
    """Approach 2 on the law's own noise-free losses; None without power laws.

    Args:
        used: the rows both were fitted on.
    """
    by_row = {int(row): k for k, row in enumerate(used["row"])}
    N, D = (used[c].to_numpy().astype(float) for c in ("n_params", "tokens"))
    shifts, logs_C, logs_N = [], [], []
    for valley in fit.valleys:
        if valley.status != "ok":
            continue
        index = [by_row[row] for row in valley.rows]
        vertex = _vertex(np.log(N[index]), law.loss(N[index], D[index]), fit.level)
        if vertex is None:
            continue
        fine = np.linspace(np.log(N[index]).min() - 3, np.log(N[index]).max() + 3, 4001)
        product = np.exp(np.mean(np.log(N[index] * D[index])))
        true = fine[np.argmin(law.loss(np.exp(fine), product / np.exp(fine)))]
        shifts.append(float(np.exp(vertex.place - true)))
        logs_C.append(np.log(valley.flops))
        logs_N.append(vertex.place)
    if len(shifts) < 2:
        return None
    slope = float(np.polyfit(logs_C, logs_N, 1)[0])
    return ParabolaBias(law.exponent_N, slope, tuple(shifts))


@dataclass(frozen=True, slots=True)
class _Vertex:
    place: float
    height: float
    curvature: float
    se: float | None
    interval: tuple[float, float] | None


def _vertex(u: Array, loss: Array, level: float) -> _Vertex | None:
    """Minimum of the least-squares parabola; None when it opens downwards."""
    centre, spread = u.mean(), max(float(np.ptp(u)) / 2, 1e-12)
    v = (u - centre) / spread
    design = np.stack([np.ones_like(v), v, v * v], axis=1)
    inverse = np.linalg.pinv(design.T @ design)
    c = inverse @ design.T @ loss
    if c[2] <= 0:
        return None
    place = -c[1] / (2 * c[2])
    height, curvature = float(c[0] + c[1] * place / 2), float(c[2] / spread**2)
    freedom = len(u) - 3
    if freedom < 1:
        return _Vertex(float(centre + spread * place), height, curvature, None, None)
    residual = loss - design @ c
    covariance = inverse * float(residual @ residual) / freedom
    gradient = np.array([0.0, -1 / (2 * c[2]), c[1] / (2 * c[2] ** 2)])
    se = float(np.sqrt(gradient @ covariance @ gradient)) * spread
    interval = _fieller(c, covariance, float(stdtrit(freedom, 0.5 + level / 2)))
    if interval is not None:
        interval = (float(centre + spread * interval[0]), float(centre + spread * interval[1]))
    return _Vertex(float(centre + spread * place), height, curvature, se, interval)


def _fieller(c: Array, covariance: Array, width: float) -> tuple[float, float] | None:
    """Interval of -c1/(2 c2): all x with |c1 + 2 c2 x| <= width · its standard error."""
    a = 4 * (c[2] ** 2 - width**2 * covariance[2, 2])
    b = 4 * (c[1] * c[2] - width**2 * covariance[1, 2])
    e = c[1] ** 2 - width**2 * covariance[1, 1]
    if a <= 0:
        return None
    root = np.sqrt(max(b * b - 4 * a * e, 0.0))
    return float((-b - root) / (2 * a)), float((-b + root) / (2 * a))


def _near(u: Array, loss: Array) -> NDArray[np.bool_]:
    """The points near the valley: a window around the minimum, moved until it stays."""
    keep = np.ones(len(u), bool)
    centre = float(u[np.argmin(loss)])
    for _ in range(20):
        away = np.abs(u - centre)
        reach = max(np.log(NEAR_FACTOR), float(np.sort(away)[min(_FEWEST, len(u)) - 1]))
        window = away <= reach
        vertex = _vertex(u[window], loss[window], 0.9)
        place = centre if vertex is None else float(np.clip(vertex.place, u.min(), u.max()))
        if (window == keep).all() and abs(place - centre) < 1e-9:
            break
        keep, centre = window, place
    return keep


def _valley(flops: float, group: pl.DataFrame, level: float) -> Valley:
    group = group.sort("n_params")
    rows = tuple(int(row) for row in group["row"])
    u = np.log(group["n_params"].to_numpy().astype(float))
    d = np.log(group["tokens"].to_numpy().astype(float))
    loss = group["val_loss"].to_numpy().astype(float)
    refused = partial(Valley, flops, rows_all=rows)
    sizes = len(np.unique(u))
    if sizes < 3:
        return refused(
            "too_few_sizes",
            advice=f"{sizes} size{'s' if sizes > 1 else ''} cannot show a minimum: train "
            f"{3 - sizes} more, best around N = {short(np.exp(u.mean()))}.",
        )
    lowest = int(np.argmin(loss))
    if u[lowest] in (u.min(), u.max()):
        return refused("edge", advice=_edge_advice(u, lower=u[lowest] == u.min()))
    keep = _near(u, loss)
    in_n, in_d = _vertex(u[keep], loss[keep], level), _vertex(d[keep], loss[keep], level)
    if in_n is None or in_d is None:
        return refused(
            "no_minimum",
            advice="loss does not curve upwards in ln N: the noise hides the valley, or the "
            f"sizes lie too close. Widen the grid beyond {short(np.exp(u.min()))} to "
            f"{short(np.exp(u.max()))}.",
        )
    if not u.min() < in_n.place < u.max():
        return refused("edge", advice=_edge_advice(u, lower=in_n.place <= u.min()))
    return Valley(
        flops=flops,
        status="ok",
        n_opt=float(np.exp(in_n.place)),
        d_opt=float(np.exp(in_d.place)),
        loss=in_n.height,
        n_interval=_exp(in_n.interval),
        d_interval=_exp(in_d.interval),
        n_se_log=in_n.se,
        d_se_log=in_d.se,
        n_akima=_akima(u, loss),
        curvature=in_n.curvature,
        rows=tuple(np.array(rows)[keep].tolist()),
        rows_all=rows,
    )


def _edge_advice(u: Array, *, lower: bool) -> str:
    steps = np.diff(np.unique(u))
    step = float(np.median(steps))
    end, beyond = (u.min(), u.min() - step) if lower else (u.max(), u.max() + step)
    return (
        f"the minimum is at the {'lower' if lower else 'upper'} edge of the grid, "
        f"N = {short(np.exp(end))}: add a size {'below' if lower else 'above'} it, "
        f"N = {short(np.exp(beyond))} for a start."
    )


def _exp(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if interval is None else (float(np.exp(interval[0])), float(np.exp(interval[1])))


def _akima(u: Array, loss: Array) -> float | None:
    """Minimum of the Akima spline (Akima 1970) inside the grid; repeated sizes are averaged."""
    places, member = np.unique(u, return_inverse=True)
    if len(places) < 5:
        return None
    heights = np.bincount(member, loss) / np.bincount(member)
    fine = np.linspace(places[0], places[-1], 4001)
    values = Akima1DInterpolator(places, heights)(fine)
    lowest = int(np.argmin(values))
    return None if lowest in (0, len(fine) - 1) else float(np.exp(fine[lowest]))


def _through(valleys: Sequence[Valley], level: float) -> IsoflopFit:
    good = [v for v in valleys if v.status == "ok"]
    reason = ""
    if not valleys:
        reason = "the table has no IsoFLOP budgets: no budget column, and compute does not repeat"
    elif len(good) < 2:
        have = f"{len(good)} of {counted(len(valleys), 'budget')} {'has' if good else 'have'}"
        reason = f"{have} a usable minimum; two are needed"
    if reason:
        return IsoflopFit(tuple(valleys), level, reason=reason)
    log_C = np.log([v.flops for v in good])
    log_N = np.log([v.n_opt for v in good if v.n_opt])
    log_D = np.log([v.d_opt for v in good if v.d_opt])
    splined = [v for v in good if v.n_akima]
    return IsoflopFit(
        valleys=tuple(valleys),
        level=level,
        N=power_law(log_C, log_N, level),
        D=power_law(log_C, log_D, level),
        N_weighted=weighted(log_C, log_N, [v.n_se_log for v in good], level),
        D_weighted=weighted(log_C, log_D, [v.d_se_log for v in good], level),
        N_akima=power_law(
            np.log([v.flops for v in splined]),
            np.log([v.n_akima for v in splined if v.n_akima]),
            level,
        )
        if len(splined) >= 2
        else None,
    )
