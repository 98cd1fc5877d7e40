"""Two sweeps' losses and laws side by side: what differs, and whether the tables can show it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from analysis.fit.answer import fit_table
from analysis.fit.options import FitOptions
from analysis.fit.records import GroupFit
from analysis.law import Array, LawFit, optimal_size
from analysis.observations import Table, TableError

_CONSTANTS = ("E", "A", "B", "alpha", "beta", "exponent_N")
# A and B alone say little: they move with alpha and beta by orders of magnitude.
_RATIOS = ("A", "B")


@dataclass(frozen=True, slots=True)
class Contrast:
    """A quantity under both laws, and the second less (or over) the first.

    Attributes:
        where: the budget or the point it is taken at; empty for a constant.
        kind: `difference` or `ratio`.
        interval: of the change, from the bootstrap draws; None without draws.
    """

    name: str
    where: str
    first: float
    first_interval: tuple[float, float] | None
    second: float
    second_interval: tuple[float, float] | None
    kind: str
    change: float
    interval: tuple[float, float] | None

    @property
    def shown(self) -> bool | None:
        """Whether the interval leaves out "no change"; None without an interval."""
        if self.interval is None:
            return None
        none = 1.0 if self.kind == "ratio" else 0.0
        return not self.interval[0] <= none <= self.interval[1]


@dataclass(frozen=True, slots=True)
class Matched:
    """Losses of both sweeps at the same N and D.

    Attributes:
        pairs: n_params, tokens, loss_first, loss_second, difference, same_run.
        mean: of the second less the first, over pairs of different trainings; None without one.
        interval: of the mean, resampling trainings; None with fewer than three.
    """

    pairs: pl.DataFrame
    mean: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two tables say of each other.

    Attributes:
        laws: the fits; None where a table is too small.
        refusals: why there is no law, or no N*, of a table.
        paired: the tables hold the same N and D, so both were resampled alike.
        contrasts: constants, exponents, and optima and losses at common budgets.
    """

    names: tuple[str, str]
    laws: tuple[GroupFit | None, GroupFit | None]
    refusals: tuple[str, ...]
    paired: bool
    level: float
    contrasts: tuple[Contrast, ...]
    matched: Matched


def compare(
    first: Table,
    second: Table,
    names: tuple[str, str],
    *,
    bootstrap: int = 1000,
    level: float = 0.9,
) -> Comparison:
    """Fit both tables and set them side by side.

    Where both hold the same N and D their resamples draw the same rows, as for paired data;
    otherwise each is resampled by itself (Efron and Tibshirani 1993, sections 8.3 and 8.4).

    Args:
        level: of every interval.
    """
    used = [first.used, second.used]
    paired = _cells(used[0]) == _cells(used[1])
    laws: list[GroupFit | None] = []
    refusals = []
    for place, (name, table) in enumerate(zip(names, (first, second), strict=True)):
        options = FitOptions(bootstrap=bootstrap, seed=0 if paired else place, level=level)
        try:
            [fit] = fit_table(table, options, source=name)
            laws.append(fit)
        except TableError as error:
            laws.append(None)
            refusals.append(f"no law of {name}: {error}")
    contrasts: list[Contrast] = []
    unknown = []
    for name, law in zip(names, laws, strict=True):
        if law is not None and law.verdicts["exponent_N"].verdict == "not_identified":
            unknown.append(name)
            refusals.append(
                f"the table of {name} does not identify how N* grows, so N* is not compared: "
                f"{law.verdicts['exponent_N'].reason}"
            )
    if laws[0] is not None and laws[1] is not None:
        contrasts = _contrasts(laws[0].fit, laws[1].fit, level, sizes_known=not unknown)
    return Comparison(
        names=names,
        laws=(laws[0], laws[1]),
        refusals=tuple(refusals),
        paired=paired,
        level=level,
        contrasts=tuple(contrasts),
        matched=match(used[0], used[1], draws=bootstrap, level=level),
    )


def match(first: pl.DataFrame, second: pl.DataFrame, *, draws: int, level: float) -> Matched:
    """Losses at the same N and D; where several share them, in order of `run_id`."""
    columns = ["n_params", "tokens", "val_loss", "parent_run_id"]
    sides = [
        frame.sort("run_id")
        .select(columns)
        .with_columns(pl.int_range(pl.len()).over("n_params", "tokens").alias("turn"))
        for frame in (first, second)
    ]
    pairs = (
        sides[0]
        .join(sides[1], on=["n_params", "tokens", "turn"], suffix="_second")
        .sort("n_params", "tokens", "turn")
        .select(
            pl.col("n_params").cast(pl.Int64),
            pl.col("tokens").cast(pl.Int64),
            pl.col("val_loss").alias("loss_first"),
            pl.col("val_loss_second").alias("loss_second"),
            (pl.col("val_loss_second") - pl.col("val_loss")).alias("difference"),
            (pl.col("parent_run_id") == pl.col("parent_run_id_second")).alias("same_run"),
            pl.col("parent_run_id").alias("training"),
        )
    )
    different = pairs.filter(~pl.col("same_run"))
    if not different.height:
        return Matched(pairs.drop("training"), None, None)
    mean = float(different["difference"].mean())  # type: ignore[arg-type]
    # Horizons of one training err together, so trainings are drawn.
    sums = different.group_by("training", maintain_order=True).agg(
        pl.col("difference").sum(), pl.len()
    )
    interval = None
    if sums.height >= 3 and draws:
        picks = np.random.default_rng(0).integers(sums.height, size=(draws, sums.height))
        totals, counts = sums["difference"].to_numpy()[picks], sums["len"].to_numpy()[picks]
        interval = _interval(totals.sum(axis=1) / counts.sum(axis=1), level)
    return Matched(pairs.drop("training"), mean, interval)


def common_budgets(first: LawFit, second: LawFit) -> tuple[float, ...]:
    """Least, middle and largest training FLOPs that both tables cover; else one between them."""
    assert first.law.support is not None
    assert second.law.support is not None
    low = max(first.law.support.flops[0], second.law.support.flops[0])
    high = min(first.law.support.flops[1], second.law.support.flops[1])
    middle = float(np.sqrt(low * high))
    return (low, middle, high) if low < high else (middle,)


def optimum_band(fit: LawFit, flops: Array, level: float) -> pl.DataFrame:
    """N* over budgets with its interval: flops, n_opt, low, high."""
    rows = []
    for budget in flops:
        n_opt = float(optimal_size(_constants(fit), float(budget))[0][0])
        low = high = n_opt
        if fit.draws:
            low, high = _interval(optimal_size(fit.draws, float(budget))[0], level)
        rows.append({"flops": float(budget), "n_opt": n_opt, "low": low, "high": high})
    return pl.DataFrame(rows)


def _cells(used: pl.DataFrame) -> list[tuple[float, float]]:
    return [(float(N), float(D)) for N, D in used.select("n_params", "tokens").iter_rows()]


def _contrasts(first: LawFit, second: LawFit, level: float, *, sizes_known: bool) -> list[Contrast]:
    """Constants and exponents; at common budgets N*, if known, and the loss in mid-table."""
    found = []
    for name in _CONSTANTS:
        values = getattr(first.law, name), getattr(second.law, name)
        draws = first.draws.get(name), second.draws.get(name)
        kind = "ratio" if name in _RATIOS else "difference"
        found.append(_contrast(name, "", values, draws, kind, level))
    ratio = _common_ratio(first, second)
    for budget in common_budgets(first, second):
        if sizes_known:
            sizes = [float(optimal_size(_constants(fit), budget)[0][0]) for fit in (first, second)]
            drawn = [
                optimal_size(fit.draws, budget)[0] if fit.draws else None for fit in (first, second)
            ]
            values, draws = (sizes[0], sizes[1]), (drawn[0], drawn[1])
            found.append(_contrast("n_opt", f"C = {budget:.3g}", values, draws, "ratio", level))
        N = float(np.sqrt(budget / (6 * ratio)))
        D = ratio * N
        losses = float(first.law.loss(N, D)), float(second.law.loss(N, D))
        clouds = _losses(first.draws, N, D), _losses(second.draws, N, D)
        where = f"N = {N:.3g}, D = {D:.3g}"
        found.append(_contrast("loss", where, losses, clouds, "difference", level))
    return found


def _common_ratio(first: LawFit, second: LawFit) -> float:
    """The middle of the tokens per parameter that both tables cover, or of what lies between."""
    assert first.law.support is not None
    assert second.law.support is not None
    one, two = first.law.support.tokens_per_param, second.law.support.tokens_per_param
    return float(np.sqrt(max(one[0], two[0]) * min(one[1], two[1])))


def _contrast(
    name: str,
    where: str,
    values: tuple[float, float],
    draws: tuple[Array | None, Array | None],
    kind: str,
    level: float,
) -> Contrast:
    first, second = values
    change = second / first if kind == "ratio" else second - first
    interval = intervals = None
    if draws[0] is not None and draws[1] is not None:
        many = min(len(draws[0]), len(draws[1]))
        one, two = draws[0][:many], draws[1][:many]
        interval = _interval(two / one if kind == "ratio" else two - one, level)
        intervals = _interval(draws[0], level), _interval(draws[1], level)
    return Contrast(
        name=name,
        where=where,
        first=first,
        first_interval=intervals[0] if intervals else None,
        second=second,
        second_interval=intervals[1] if intervals else None,
        kind=kind,
        change=change,
        interval=interval,
    )


def _constants(fit: LawFit) -> dict[str, Array]:
    return {name: np.array([getattr(fit.law, name)]) for name in ("A", "B", "alpha", "beta")}


def _losses(draws: Mapping[str, Array], N: float, D: float) -> Array | None:
    if not draws:
        return None
    inner = draws["A"] * N ** -draws["alpha"] + draws["B"] * D ** -draws["beta"]
    return np.asarray(draws["E"] + inner)


def _interval(values: Array, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
