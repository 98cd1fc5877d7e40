"""The scan of a variant's learning rate: its runs, and the factor that they find."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from llama_core.config import Wsd
from sweeps.coverage import EXPECTED_OPTIMUM
from sweeps.spec import PlannedRun

# How often a scan is extended whose best rate is at an end.
_EXTENSIONS = 2
# Nats of noise of one run at demo sizes (docs/benchmarks/tuning_cpu_202611.md): rates whose losses
# are as near as that cannot be told apart by one run each.
_NOISE = 0.01


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan with the losses it has so far.

    Attributes:
        losses: by factor on the rate, in rising order; None where the training diverged.
        missing: factors to train next; empty once the scan is over.
        factor: the best, to three digits; None before that, and where every run diverged.
        how: how it was found.
    """

    losses: dict[float, float | None]
    missing: tuple[float, ...]
    factor: float | None = None
    how: str = ""


def scan(
    factors: Sequence[float], losses: Mapping[float, float | None], *, extend: bool = True
) -> Scan:
    """The best factor by a parabola in the log of the rate, through the best and its neighbours.

    A best at an end adds a factor beyond it, twice at most. Of more than two factors that differ
    by less than a seed the middle counts, not the luck of the lowest.

    Args:
        extend: False: the factors are all that a scan was extended to.
    """
    tried = sorted({*factors, *losses})
    ordered = {factor: losses[factor] for factor in tried if factor in losses}
    missing = tuple(factor for factor in tried if factor not in losses)
    if missing:
        return Scan(ordered, missing)
    reached = {factor: loss for factor, loss in ordered.items() if loss is not None}
    if not reached:
        return Scan(ordered, (), how="every run diverged")
    best = min(reached, key=lambda factor: reached[factor])
    place = tried.index(best)
    if 0 < place < len(tried) - 1:
        return _inside(ordered, tried[place - 1 : place + 2])
    step = tried[1] / tried[0]
    if extend and len(tried) < len(set(factors)) + _EXTENSIONS:
        return Scan(ordered, (tried[0] / step if place == 0 else tried[-1] * step,))
    return Scan(
        ordered, (), best, "at the end of the scan, extended twice: the best lies further out"
    )


def _inside(ordered: dict[float, float | None], near: list[float]) -> Scan:
    best = near[1]
    if (diverged := [factor for factor in near if ordered[factor] is None]) != []:
        how = f"the best of the factors: x{diverged[0]:g} diverged, so no parabola"
        return Scan(ordered, (), best, how)
    (x0, y0), (x1, y1), (x2, y2) = ((math.log(f), ordered[f] or 0.0) for f in near)
    left, right = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    curvature = (right - left) / (x2 - x0)
    # Two equal losses at the bottom leave a vertex between them; three no curvature at all.
    vertex = x1 if curvature <= 0 else (x0 + x1) / 2 - left / (2 * curvature)
    how = "the vertex of a parabola through the best three"
    flat = [each for each, loss in ordered.items() if loss is not None and loss <= y1 + _NOISE]
    if len(flat) > 2:
        vertex = (math.log(flat[0]) + math.log(flat[-1])) / 2
        how = (
            f"the middle of a flat valley: x{flat[0]:g} to x{flat[-1]:g} differ by less than a seed"
        )
    return Scan(ordered, (), float(f"{math.exp(vertex):.3g}"), how)


def scan_runs(runs: Sequence[PlannedRun], factors: Iterable[float]) -> list[PlannedRun]:
    """The runs of a scan: one cell of a sweep at factors on its rate.

    Of the cells of the smallest budget it is the one nearest in D/N to the expected optimum; of
    seeds the first that is planned.
    """
    target = _target(runs)
    named = target.name.partition("-D")[0]
    return [
        at_factor(target, factor).model_copy(
            update={"name": f"{named}-lr-x{factor:g}", "rate_factor": factor}
        )
        for factor in factors
    ]


def at_factor(run: PlannedRun, factor: float) -> PlannedRun:
    """The run, only to its shortest budget, with a factor on its learning rate."""
    train, cell = run.run.train, run.cells[0]
    schedule = train.schedule
    if isinstance(schedule, Wsd):
        schedule = schedule.model_copy(update={"horizons": (cell.tokens,)})
    optimizer = train.optimizer.model_copy(update={"lr": train.optimizer.lr * factor})
    changed = train.model_copy(update={"optimizer": optimizer, "schedule": schedule})
    return run.model_copy(
        update={
            "name": f"{run.name}-lr-x{factor:g}",
            "run": run.run.model_copy(update={"train": changed}),
            "cells": (cell,),
        }
    )


def _target(runs: Sequence[PlannedRun]) -> PlannedRun:
    def budget(run: PlannedRun) -> float:
        return run.cells[0].flops_budget or float(run.cells[0].tokens)

    smallest = min(map(budget, runs))
    return min(
        (run for run in runs if budget(run) == smallest),
        key=lambda run: abs(math.log(run.cells[0].tokens / run.n_params / EXPECTED_OPTIMUM)),
    )
