"""Two tables in the terms of their common fit: rows, pairs, common budgets, free constants."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis import words
from analysis.compare import pair_fit
from analysis.compare.comparable import Named, refuse_incomparable
from analysis.compare.pair_fit import Design, Rows
from analysis.compare.pairing import Paired, pair_rows
from analysis.fit.isoflop import SAME_BUDGET, budgets
from analysis.law import Array
from analysis.table.numbers import near_groups
from analysis.table.observations import TableError, check
from analysis.table.selection import one_law

_MOST_BUDGETS = 12
# Sizes scatter this much around one size for each compute before a table has valleys.
_VALLEY = 0.2
_BEYOND = 10.0  # the projection's default, over the largest common budget


class NoSpeedup(TableError):
    """Tables whose losses compare and cannot show what a change is worth; the message says why."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Both tables in the fit's terms.

    Attributes:
        frames: the rows of the baseline and of the variant.
        centre: log of C0.
        budgets: the common ones, C.
        target: C of the projection.
    """

    names: tuple[str, str]
    frames: tuple[pl.DataFrame, pl.DataFrame]
    rows: Rows
    paired: Paired
    centre: float
    budgets: tuple[float, ...]
    target: float
    draws: int
    level: float


def make_problem(
    baseline: Named, variant: Named, *, at: float | None, draws: int, level: float
) -> Problem:
    """The problem of two tables.

    Args:
        at: budget of the projection.

    Raises:
        TableError: the losses do not compare, or no budget is common.
        NoSpeedup: a table has no runs to compare, or a mixture.
    """
    refuse_incomparable(baseline, variant)
    names = baseline[0], variant[0]
    frames = _runs(baseline), _runs(variant)
    log_c = _log_compute((baseline, variant), frames)
    common = _common_budgets(names, frames, log_c)
    centre = float(np.mean(np.log(common)))
    rows = Rows(
        np.concatenate([np.log(frame["n_params"].to_numpy().astype(float)) for frame in frames]),
        np.concatenate(log_c) - centre,
        np.concatenate([frame["val_loss"].to_numpy().astype(float) for frame in frames]),
        np.repeat([False, True], [frame.height for frame in frames]),
    )
    paired = pair_rows(frames[0], frames[1], log_c)
    target = at or _BEYOND * common[-1]
    return Problem(names, frames, rows, paired, centre, common, target, draws, level)


def free_constants(problem: Problem, *, given: float | None, shared: bool) -> Design:
    """The free constants that the rows can show.

    Raises:
        NoSpeedup: not even the fewest.
    """
    rows = problem.rows
    sides = [rows.log_c[~rows.of_variant], rows.log_c[rows.of_variant]]
    levels = [int(near_groups(np.exp(side), SAME_BUDGET).max()) + 1 for side in sides]
    scatters = [_scatter(rows, mine) for mine in (~rows.of_variant, rows.of_variant)]
    needed = 2 if given is not None else 3
    for name, count in list(zip(problem.names, levels, strict=True))[: 1 if shared else 2]:
        if count >= needed:
            continue
        raise NoSpeedup(
            f"the {count} budget{'s' if count > 1 else ''} of {name} cannot show how its loss "
            "falls with compute. "
            + ("Train more budgets." if given is not None else "Train more, or give --asymptote E.")
        )
    own_slope = levels[1] >= 2
    while True:
        design = pair_fit.design(
            asymptote=given,
            shared=shared,
            valley=max(scatters) > _VALLEY,
            own_slope=own_slope,
            # A table of one size for each compute does not show its best size.
            own_size=min(scatters) > _VALLEY,
        )
        if design.free <= len(rows.loss):
            return design
        if not own_slope:
            raise NoSpeedup(f"{words.counted(len(rows.loss), 'run')} in both, too few: train more.")
        own_slope = False


def _scatter(rows: Rows, mine: NDArray[np.bool_]) -> float:
    """The spread of a table's log N around one size for each compute."""
    z, n = rows.log_c[mine], rows.log_n[mine]
    degree = 1 if np.ptp(z) > 0.1 else 0
    return float(np.std(n - np.polyval(np.polyfit(z, n, degree), z)))


def _runs(named: Named) -> pl.DataFrame:
    """The rows that a comparison takes.

    Raises:
        NoSpeedup: there are none, or they are a mixture; the table is named.
    """
    name, table = named
    try:
        used = one_law(check(table), best_of=(), pool=False, named=False).used
    except TableError as error:
        raise NoSpeedup(f"{name}: {error}") from error
    if not used.height:
        raise NoSpeedup(f"{name} has no finished run with a loss.")
    if "row_weight" in used.columns:
        raise NoSpeedup(f"{name}: a comparison takes no weights. Leave out --map weight=….")
    return used


def _log_compute(
    sides: tuple[Named, Named], frames: tuple[pl.DataFrame, pl.DataFrame]
) -> tuple[Array, Array]:
    """Logs of counted FLOPs where both tables have them, else of 6·N·D.

    Raises:
        TableError: 6·N·D of two different N.
    """
    counted = all(
        "train_flops" in frame.columns and not frame["train_flops"].null_count() for frame in frames
    )
    counts = [table.n_counts for _, table in sides]
    if not counted and counts[0] != counts[1]:
        by_name = " and ".join(
            f"{words.COUNTS[count]} in {name}"
            for (name, _), count in zip(sides, counts, strict=True)
        )
        raise TableError(
            f"N counts {by_name}, so C = 6·N·D does not compare. Give both a column train_flops."
        )
    column = "train_flops" if counted else "flops_6nd"
    first, second = (np.log(frame[column].to_numpy().astype(float)) for frame in frames)
    return first, second


def _common_budgets(
    names: tuple[str, str], frames: tuple[pl.DataFrame, pl.DataFrame], log_c: tuple[Array, Array]
) -> tuple[float, ...]:
    """Budgets at which both tables have runs, else three inside the compute that both cover.

    Raises:
        TableError: there is none.
    """
    levels = [_levels(frame, logs) for frame, logs in zip(frames, log_c, strict=True)]
    if all(levels):
        near = [
            (c, other)
            for c in levels[0]
            for other in levels[1]
            if abs(np.log(c / other)) <= np.log(SAME_BUDGET)
        ]
        if near:
            return tuple(float(np.sqrt(c * other)) for c, other in near)
        by_name = " and ".join(
            f"{name} at {', '.join(map(words.flops, own))}"
            for name, own in zip(names, levels, strict=True)
        )
        raise TableError(
            f"no common budget: {by_name} FLOPs. Train one of them at a budget of the other."
        )
    low, high = max(logs.min() for logs in log_c), min(logs.max() for logs in log_c)
    if low >= high:
        by_name = " and ".join(
            f"{name} {words.flops(np.exp(logs.min()))} to {words.flops(np.exp(logs.max()))}"
            for name, logs in zip(names, log_c, strict=True)
        )
        raise TableError(
            f"no common budget: {by_name} FLOPs. Train one of them inside the other's range."
        )
    return tuple(np.exp(np.linspace(low, high, 3)).tolist())


def _levels(frame: pl.DataFrame, log_c: Array) -> list[float]:
    """The budgets of a table; empty where its compute takes too many values to be budgets."""
    named = [flops for flops, _ in budgets(frame)]
    if named:
        return named
    groups = near_groups(np.exp(log_c), SAME_BUDGET)
    medians = [float(np.exp(np.median(log_c[groups == k]))) for k in range(groups.max() + 1)]
    return medians if len(medians) <= _MOST_BUDGETS else []
