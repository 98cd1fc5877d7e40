"""From a table of (N, D, lr, batch, loss) to surfaces and laws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from analysis.table.numbers import near_groups
from analysis.table.observations import Table, TableError
from analysis.table.sources import Source
from analysis.table.states import left_out
from analysis.tuning.law import TunedLaw, TunedPoint, fit_laws
from analysis.tuning.rules import published_exponents
from analysis.tuning.surface import Axis, SurfaceError, Trials, check_trials, fit_surfaces
from analysis.tuning.trials import AXES
from analysis.words import sentence

# Budgets within this factor are one budget, rounded to whole steps of different batches.
SAME_BUDGET = 1.05


@dataclass(frozen=True, slots=True)
class LrFit:
    """The laws of learning rate and batch from a table of trials.

    Attributes:
        table: the rows used, with `budget`, the mean tokens of the budget each belongs to.
        points: a surface for each size and budget that has one.
        lr, batch: the laws of the trials alone.
        recipe_lr, recipe_batch: the laws of the trials and published exponents together, complete
            also where the trials do not identify an exponent. Sweeps train by them.
        refusals: reasons why other sizes and budgets have no surface.
        advice: ranges to widen, and constants that are not identified.
        left_out: reasons for which trials are not used, and how many.
        read: where the columns come from; empty for trials of our own.
        doubts: about the table, in sentences.
    """

    table: pl.DataFrame
    points: tuple[TunedPoint, ...]
    lr: TunedLaw
    batch: TunedLaw
    recipe_lr: TunedLaw
    recipe_batch: TunedLaw
    refusals: tuple[str, ...]
    advice: tuple[str, ...]
    left_out: tuple[tuple[str, int], ...]
    level: float
    read: tuple[Source, ...] = ()
    doubts: tuple[str, ...] = ()


def fit_lr_table(table: Table, *, level: float = 0.9) -> LrFit:
    """The laws of somebody's table of trials; see `fit_lr`.

    Raises:
        TableError: as there; or the table's units cannot be.
    """
    for doubt in table.doubts:
        if doubt.bars_optimum:
            raise TableError(doubt.sentence)
    fit = fit_lr(table.frame, level=level)
    return replace(fit, read=table.read, doubts=tuple(doubt.sentence for doubt in table.doubts))


def fit_lr(
    frame: pl.DataFrame,
    *,
    ranges: Mapping[int, Sequence[Axis]] | None = None,
    level: float = 0.9,
) -> LrFit:
    """Surfaces for every size and budget, and the laws through their minima.

    Args:
        frame: n_params, tokens, val_loss and `AXES` as far as known; rows with an
            `excluded_reason` are skipped.
        ranges: searched ranges by N; None takes the range that the rows span.

    Raises:
        TableError: no size has enough trials for a surface.
    """
    used = frame
    if "excluded_reason" in frame.columns:
        used = frame.filter(pl.col("excluded_reason").is_null())
    used = used.filter(pl.col("val_loss").is_not_null())
    if not used.height:
        raise TableError("the table has no finished trial.")
    used = with_budgets(used)
    points, refusals = _surfaces(used, ranges or {}, level)
    if not points:
        raise TableError("no size can be fitted. " + " ".join(refusals))
    lr, batch = fit_laws(points, level)
    recipe_lr, recipe_batch = fit_laws(points, level, published_exponents())
    advice = [*_widen(points), *_capital(lr.reasons), *_capital(batch.reasons)]
    return LrFit(
        table=used,
        points=tuple(points),
        lr=lr,
        batch=batch,
        recipe_lr=recipe_lr,
        recipe_batch=recipe_batch,
        refusals=tuple(refusals),
        # A doubt that both laws have stands once.
        advice=tuple(dict.fromkeys(advice)),
        left_out=tuple(left_out(frame)) if "excluded_reason" in frame.columns else (),
        level=level,
    )


def _surfaces(
    used: pl.DataFrame, ranges: Mapping[int, Sequence[Axis]], level: float
) -> tuple[list[TunedPoint], list[str]]:
    """The minima by N and D, and why sizes and budgets have none."""
    refusals: list[str] = []
    # Sizes searched alike are fitted together: the same axes, the same number of budgets.
    groups: dict[tuple[tuple[str, ...], int], list[tuple[float, list[pl.DataFrame], Trials]]] = {}
    for (N,), rows in used.group_by("n_params", maintain_order=True):
        axes = _axes(rows, ranges.get(int(N)))
        for budgets in _tried_alike(rows, [axis.name for axis in axes]):
            trials = _trials(budgets, axes)
            try:
                check_trials(trials)
            except SurfaceError as error:
                refusals.append(f"N = {N:,.0f}: {error}")
                continue
            key = tuple(axis.name for axis in axes), len(budgets)
            groups.setdefault(key, []).append((float(N), budgets, trials))
    points: list[TunedPoint] = []
    for number, group in enumerate(groups.values()):
        fitted = fit_surfaces([trials for *_, trials in group], level=level, seed=(0, number))
        for (N, budgets, _), surfaces in zip(group, fitted, strict=True):
            points += [
                TunedPoint(N, float(part["budget"][0]), surface)
                for part, surface in zip(budgets, surfaces, strict=True)
            ]
    return sorted(points, key=lambda point: (point.N, point.D)), refusals


def with_budgets(frame: pl.DataFrame) -> pl.DataFrame:
    """Add `budget`: the mean tokens of rows whose budgets differ by rounding only."""
    frame = frame.sort("n_params", "tokens")
    sizes, tokens = frame["n_params"].to_numpy(), frame["tokens"].to_numpy()
    group = pl.Series("group", near_groups(tokens, SAME_BUDGET, within=sizes))
    return (
        frame.with_columns(group)
        .with_columns(pl.col("tokens").mean().over("group").alias("budget"))
        .drop("group")
    )


def _axes(rows: pl.DataFrame, ranges: Sequence[Axis] | None) -> list[Axis]:
    if ranges is not None:
        return list(ranges)
    axes = []
    for name in AXES:
        if name in rows.columns and rows[name].n_unique() > 1:
            low, high = rows[name].min(), rows[name].max()
            axes.append(Axis(name, float(low), float(high)))  # type: ignore[arg-type]
    return axes


def _tried_alike(rows: pl.DataFrame, names: Sequence[str]) -> list[list[pl.DataFrame]]:
    """Budgets of one size; those tried at the same points in one group, whose noise is shared."""
    budgets = [part.sort(names) for part in rows.partition_by("budget", maintain_order=True)]
    first = budgets[0].select(names)
    if all(part.select(names).equals(first) for part in budgets):
        return [budgets]
    return [[part] for part in budgets]


def _trials(budgets: Sequence[pl.DataFrame], axes: Sequence[Axis]) -> Trials:
    points = budgets[0].select([axis.name for axis in axes]).to_numpy().astype(float)
    losses = np.stack([part["val_loss"].to_numpy().astype(float) for part in budgets], axis=1)
    return Trials(tuple(axes), points, losses)


def _widen(points: Sequence[TunedPoint]) -> list[str]:
    """A sentence for each minimum that lies at the end of the searched range."""
    sentences = []
    for point in points:
        for axis in point.surface.axes:
            edge = point.surface.optima[axis.name].edge
            if edge is None:
                continue
            end = axis.low if edge == "low" else axis.high
            further = end / 4 if edge == "low" else end * 4
            sentences.append(
                f"At N = {point.N:,.0f} and D = {point.D:,.0f} the best {axis.name} lies at the "
                f"{edge} end of the searched range, {end:.3g}: widen it to {further:.2g}."
            )
    return sentences


def _capital(reasons: Sequence[str]) -> list[str]:
    return [f"{sentence(reason)}." for reason in reasons]
