"""Two sweeps' losses and laws side by side: what differs, and whether the tables can show it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

import numpy as np
import polars as pl

from analysis import words
from analysis.fit.answer import fit_table
from analysis.fit.isoflop import SAME_BUDGET
from analysis.fit.options import FitOptions
from analysis.fit.records import GroupFit
from analysis.law import Array, Constants, LawFit, central
from analysis.table.observations import Table, TableError
from analysis.table.repeats import epochs
from analysis.table.runs import runs_of

_CONSTANTS = ("E", "A", "B", "alpha", "beta", "exponent_N")
# A and B alone say little: they move with alpha and beta by orders of magnitude.
_RATIOS = ("A", "B")


@dataclass(frozen=True, slots=True)
class Contrast:
    """A quantity under both laws, and the second minus (or over) the first.

    Attributes:
        flops: the budget it is taken at; None for a constant.
        where: that budget, or the N and D chosen for it, in words; empty for a constant.
        kind: `difference` or `ratio`.
        interval: of the change, from the bootstrap draws; None without draws.
    """

    name: str
    flops: float | None
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
        """Whether the interval excludes "no change"; None without an interval."""
        if self.interval is None:
            return None
        unchanged = 1.0 if self.kind == "ratio" else 0.0
        return not self.interval[0] <= unchanged <= self.interval[1]


@dataclass(frozen=True, slots=True)
class Matched:
    """Losses of both sweeps at the same N and D.

    Attributes:
        pairs: n_params, tokens, loss_first, loss_second, difference, same_run.
        mean: of the second minus the first, over pairs of different trainings; None without one.
        interval: of the mean, resampling trainings; None with fewer than three.
    """

    pairs: pl.DataFrame
    mean: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two tables side by side.

    Attributes:
        laws: the fits; None where a table is too small.
        refusals: why a table has no law, or no N*.
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

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be read before the answer, for its first lines; empty when nothing must."""
        doubtful = [
            f"{name}: {warning}"
            for name, law in zip(self.names, self.laws, strict=True)
            if law is not None
            for warning in law.fit.law.trust.warnings
        ]
        left_out = [
            f"{name}: {law.repeated.repeating} rows that repeat their tokens are left out."
            for name, law in zip(self.names, self.laws, strict=True)
            if law is not None and law.repeated is not None and epochs(law.used) is None
        ]
        return (*self.refusals, *doubtful, *left_out)


# A table's fit, or why it has no law.
Fitted = GroupFit | str


def fitted(name: str, table: Table, *, bootstrap: int, level: float, seed: int) -> Fitted:
    """The law of a table, or the sentence that it has none."""
    options = FitOptions(bootstrap=bootstrap, seed=seed, level=level)
    try:
        [fit] = fit_table(table, options, source=name)
    except TableError as error:
        return f"no law of {name}: {error}"
    return fit


def compare(
    first: Table,
    second: Table,
    names: tuple[str, str],
    *,
    bootstrap: int = 1000,
    level: float = 0.9,
    first_law: Fitted | None = None,
) -> Comparison:
    """Fit both tables and compare them.

    Where both hold the same N and D their resamples draw the same rows, as for paired data;
    otherwise each is resampled by itself (Efron and Tibshirani 1993, sections 8.3 and 8.4).

    Args:
        level: of every interval.
        first_law: the first table's, `fitted` with seed 0; None: it is fitted here.
    """
    used = [first.used, second.used]
    paired = _cells(used[0]).equals(_cells(used[1]))
    if first_law is None:
        first_law = fitted(names[0], first, bootstrap=bootstrap, level=level, seed=0)
    seed = 0 if paired else 1
    fits = first_law, fitted(names[1], second, bootstrap=bootstrap, level=level, seed=seed)
    laws = [None if isinstance(fit, str) else fit for fit in fits]
    refusals = [fit for fit in fits if isinstance(fit, str)]
    contrasts: list[Contrast] = []
    for name, law in zip(names, laws, strict=True):
        if law is not None and law.fit.law.trust.bars:
            bars = " ".join(law.fit.law.trust.bars)
            refusals.append(f"N* is not compared, for the law of {name} supports none. {bars}")
    if laws[0] is not None and laws[1] is not None:
        contrasts = _contrasts(laws[0].fit, laws[1].fit, level, sizes_known=not refusals)
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
    sides = [_trainings(frame, side) for side, frame in enumerate((first, second))]
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
            # Two tables may number their runs alike; a run that both share has one loss.
            (
                (pl.col("parent_run_id") == pl.col("parent_run_id_second"))
                & (pl.col("val_loss") == pl.col("val_loss_second"))
            ).alias("same_run"),
            pl.col("parent_run_id").alias("training"),
        )
    )
    different = pairs.filter(~pl.col("same_run"))
    if not different.height:
        return Matched(pairs.drop("training"), None, None)
    mean = float(different["difference"].mean())  # type: ignore[arg-type]
    # Horizons of one training share its error, so whole trainings are resampled.
    sums = different.group_by("training", maintain_order=True).agg(
        pl.col("difference").sum(), pl.len()
    )
    interval = None
    if sums.height >= 3 and draws:
        picks = np.random.default_rng(0).integers(sums.height, size=(draws, sums.height))
        totals, counts = sums["difference"].to_numpy()[picks], sums["len"].to_numpy()[picks]
        interval = central(totals.sum(axis=1) / counts.sum(axis=1), level)
    return Matched(pairs.drop("training"), mean, interval)


def _trainings(used: pl.DataFrame, side: int) -> pl.DataFrame:
    """Counts, loss and training of each row, and its turn among rows of one N and D."""
    rows = pl.format("row {} of {}", pl.col("row"), pl.lit(side))
    frame = used
    if "parent_run_id" not in used.columns:
        runs = runs_of(used)
        frame = used.with_columns(parent_run_id=rows if runs is None else runs.cast(pl.String))
    frame = frame.sort("run_id") if "run_id" in used.columns else frame
    columns = ("n_params", "tokens", "val_loss", "parent_run_id")
    turn = pl.int_range(pl.len()).over("n_params", "tokens").alias("turn")
    return frame.select(pl.col(columns)).with_columns(turn)


def common_budgets(first: LawFit, second: LawFit) -> tuple[float, ...]:
    """Least, middle and largest training FLOPs that both tables cover; else one budget between."""
    low, high = _shared(first, second, "flops")
    middle = float(np.sqrt(low * high))
    return (low, middle, high) if high > SAME_BUDGET * low else (middle,)


def optimum_band(fit: LawFit, flops: Array, level: float) -> pl.DataFrame:
    """N* over budgets with its interval: flops, n_opt, low, high."""
    rows = []
    for budget in flops:
        n_opt = float(_size(Constants.of(fit.law), budget))
        low, high = central(_size(fit.draws, budget), level) if fit.draws else (n_opt, n_opt)
        rows.append({"flops": float(budget), "n_opt": n_opt, "low": low, "high": high})
    return pl.DataFrame(rows)


def _cells(used: pl.DataFrame) -> pl.DataFrame:
    return used.select(pl.col("n_params", "tokens").cast(pl.Float64))


def _contrasts(first: LawFit, second: LawFit, level: float, *, sizes_known: bool) -> list[Contrast]:
    """Constants and exponents; at common budgets N*, if known, and the loss in mid-table."""
    laws = (first, second)
    contrasts = []
    for name in _CONSTANTS:
        kind = "ratio" if name in _RATIOS else "difference"
        contrasts.append(_contrast(name, laws, attrgetter(name), level, kind=kind))
    # The middle of the tokens per parameter that both tables cover, or of what lies between.
    ratio = float(np.sqrt(np.prod(_shared(first, second, "tokens_per_param"))))
    for budget in common_budgets(first, second):
        if sizes_known:
            size = partial(_size, flops=budget)
            where = f"C = {words.flops(budget)}"
            contrasts.append(
                _contrast("n_opt", laws, size, level, kind="ratio", flops=budget, where=where)
            )
        N = float(np.sqrt(budget / (6 * ratio)))
        D = ratio * N
        loss = partial(Constants.loss, N=N, D=D)
        where = f"N = {words.short(N)}, D = {words.short(D)}"
        contrasts.append(_contrast("loss", laws, loss, level, flops=budget, where=where))
    return contrasts


def _size(constants: Constants, flops: float) -> Array:
    return constants.compute_optimal(flops)[0]


def _shared(first: LawFit, second: LawFit, name: str) -> tuple[float, float]:
    """The range of `flops` or `tokens_per_param` both tables cover; low above high for none."""
    (first_low, first_high), (second_low, second_high) = (
        getattr(fit.law.support, name) for fit in (first, second)
    )
    return max(first_low, second_low), min(first_high, second_high)


def _contrast(
    name: str,
    laws: tuple[LawFit, LawFit],
    quantity: Callable[[Constants], Array],
    level: float,
    *,
    kind: str = "difference",
    flops: float | None = None,
    where: str = "",
) -> Contrast:
    """A quantity of both laws' constants, its change, and their intervals where both have draws."""

    def change(before: Array, after: Array) -> Array:
        return np.asarray(after / before if kind == "ratio" else after - before)

    first, second = (quantity(Constants.of(fit.law)) for fit in laws)
    intervals: tuple[tuple[float, float] | None, ...] = (None, None, None)
    if laws[0].draws is not None and laws[1].draws is not None:
        before, after = (quantity(draws) for draws in (laws[0].draws, laws[1].draws))
        count = min(len(before), len(after))
        changes = change(before[:count], after[:count])
        intervals = tuple(central(values, level) for values in (before, after, changes))
    return Contrast(
        name=name,
        flops=flops,
        where=where,
        first=float(first),
        first_interval=intervals[0],
        second=float(second),
        second_interval=intervals[1],
        kind=kind,
        change=float(change(first, second)),
        interval=intervals[2],
    )
