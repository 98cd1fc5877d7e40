"""The largest budget of a sweep, foretold from the budgets below it: a test of the sweep's law.

A forecast that was registered before its run's loss was recorded stands as it was written. The
other losses are foretold afterwards, from the finished losses of the budgets below.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl

from analysis.forecast.answer import Answer, Question, forecast
from analysis.forecast.rows import NEEDS, too_few
from analysis.own_runs.outcome import Interval, Outcome, outcome
from analysis.table.observations import Table, TableError
from analysis.words import flops

LEVEL = 0.9
_NAMED = 12  # runs in a sentence


@dataclass(frozen=True, slots=True)
class ForetoldCell:
    """A loss of the largest budget and its forecast; `before` the loss, or afterwards."""

    run_id: str
    name: str
    n_params: int
    tokens: int
    loss: float
    foretold: Interval
    before: bool

    @property
    def outcome(self) -> Outcome:
        """How the forecast did."""
        return outcome(self.loss, self.foretold, LEVEL)


@dataclass(frozen=True, slots=True)
class LargestBudget:
    """The losses of the largest budget and their forecasts.

    Attributes:
        reason: why no loss, or none but those in `cells`, could be foretold; else empty.
    """

    flops: float
    cells: tuple[ForetoldCell, ...]
    reason: str

    @property
    def inside(self) -> int:
        """How many losses lie inside their intervals."""
        return sum(cell.outcome.inside for cell in self.cells)

    @property
    def error_percent(self) -> float:
        """Mean distance of the losses from their forecasts."""
        return float(np.mean([abs(cell.outcome.error_percent) for cell in self.cells]))

    @property
    def winkler(self) -> float:
        """Mean of the intervals' scores."""
        return float(np.mean([cell.outcome.winkler for cell in self.cells]))


def forecast_from_below(table: Table, points: tuple[tuple[float, float], ...]) -> Answer | str:
    """Forecast points N, D from a table of the budgets below; else why it cannot be done."""
    if few := too_few(table.used):
        return f"{NEEDS}, and the budgets below have {few}"
    try:
        return forecast(table, Question(points=points, level=LEVEL))
    except TableError as error:
        return str(error).removesuffix(".")


def largest_budget(table: Table, registered: Mapping[str, Interval]) -> LargestBudget | None:
    """The largest budget's losses and forecasts; None without budgets, or without a loss there.

    Args:
        registered: forecasts that were written before the loss was recorded, by `run_id`.
    """
    frame = table.frame
    if "flops_budget" not in frame.columns or frame["flops_budget"].drop_nulls().n_unique() < 2:
        return None
    largest = frame["flops_budget"].max()
    assert isinstance(largest, float)
    # A loss of 0 or NaN is named by the fit.
    usable = (pl.col("val_loss") > 0) & pl.col("val_loss").is_finite()
    rows = table.used.filter((pl.col("flops_budget") == largest) & usable).to_dicts()
    if not rows:
        return None
    late = [row for row in rows if row["run_id"] not in registered]
    foretold, reason = dict(registered), ""
    if late:
        below = table.filter(pl.col("flops_budget") < largest)
        points = tuple((float(row["n_params"]), float(row["tokens"])) for row in late)
        answer = forecast_from_below(below, points)
        if isinstance(answer, str):
            reason = answer
        else:
            for row, point in zip(late, answer.points, strict=True):
                foretold[row["run_id"]] = Interval(point.loss, point.lower, point.upper)
    cells = tuple(
        ForetoldCell(
            row["run_id"], row["name"], row["n_params"], row["tokens"], row["val_loss"],
            foretold[row["run_id"]], row["run_id"] in registered,
        )
        for row in rows if row["run_id"] in foretold
    )  # fmt: skip
    return LargestBudget(largest, cells, reason)


def largest_sentence(largest: LargestBudget) -> str:
    """How the largest budget was foretold, in a sentence for a terminal."""
    budget = f"The largest budget, {flops(largest.flops)} FLOPs,"
    if not largest.cells:
        return f"{budget} was not foretold: {largest.reason}."
    count = len(largest.cells)
    score = (
        f"{largest.inside} of {count} inside the {LEVEL:.0%} interval, "
        f"error {largest.error_percent:.2g} %"
    )
    before = sum(cell.before for cell in largest.cells)
    if not before:
        text = f"{budget} was foretold afterwards from the budgets below: {score}."
    elif before == count:
        text = f"{budget} was foretold from those below before its losses were there: {score}."
    else:
        late = _listed([cell.name for cell in largest.cells if not cell.before])
        text = (
            f"{budget} was foretold from those below: {score}; {before} before their losses were "
            f"there, {late} afterwards."
        )
    missed = [cell.name for cell in largest.cells if not cell.outcome.inside]
    if missed:
        text += f" Outside: {_listed(missed)}."
    return f"{text} Not foretold are the others: {largest.reason}." if largest.reason else text


def _listed(names: Sequence[str]) -> str:
    """The names, of many the first."""
    shown, more = ", ".join(names[:_NAMED]), len(names) - _NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def largest_json(largest: LargestBudget) -> dict[str, object]:
    """As `--json` prints it; `said` is before the loss was recorded, or afterwards."""
    return {
        "flops": largest.flops,
        "level": LEVEL,
        "inside": largest.inside,
        "error_percent": largest.error_percent if largest.cells else None,
        "winkler": largest.winkler if largest.cells else None,
        "reason": largest.reason,
        "cells": [
            {
                "run": cell.name,
                "run_id": cell.run_id,
                "n_params": cell.n_params,
                "tokens": cell.tokens,
                "foretold": cell.foretold.loss,
                "lower": cell.foretold.lower,
                "upper": cell.foretold.upper,
                "loss": cell.loss,
                **asdict(cell.outcome),
                "said": "before" if cell.before else "afterwards",
            }
            for cell in largest.cells
        ],
    }
