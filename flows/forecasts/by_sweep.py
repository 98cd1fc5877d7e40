"""A sweep foretells its largest budget from the budgets below, and scores itself.

A run of the largest budget is foretold once nothing but its end at that budget is left to reach:
when the horizon before has its loss, or from the beginning where there is none. The forecast
learns from every loss of the smaller budgets that is recorded by then, of the same run too; it is
written at the first moment at which these are enough, at the latest before the run records its end.
"""

import logging
import math
import time
from collections.abc import Sequence

import polars as pl

from analysis.own_runs.largest_budget import forecast_from_below
from analysis.own_runs.outcome import Interval
from analysis.table.observations import Table
from analysis.table.runs import own_table
from flows.forecasts.ends import ends, score_own
from flows.forecasts.registered import (
    new_forecast,
    own_forecasts,
    read_scores,
    write_forecast,
)
from flows.runs.directory import RunDir, RunResult
from flows.settings import Home
from flows.watch.curves import CurveReader
from flows.watch.events import emit
from flows.watch.watcher import Watcher
from sweeps.grid import Cell
from sweeps.plan import Plan
from sweeps.spec import PlannedRun

log = logging.getLogger(__name__)

_EVERY_S = 1.0


class Foreteller(Watcher):
    """Registers a sweep's forecasts while it trains, here or on workers."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._sweep = ""
        self._largest = math.inf
        self._waiting: list[PlannedRun] = []
        self._curves: dict[str, CurveReader] = {}
        self._due = 0.0

    def begin(self, plan: Plan, todo: list[PlannedRun]) -> None:
        """Foretell what can be foretold before any run starts."""
        self._sweep = plan.spec.name
        unforetold = {planned.id for planned in todo} - own_forecasts(self._home).keys()
        self._waiting = [planned for planned in _at_largest(plan) if planned.id in unforetold]
        if not self._waiting:
            return
        self._largest = _budget(self._waiting[0].cells[-1])
        self._curves = {
            planned.id: CurveReader(planned, RunDir(self._home.runs / planned.id))
            for planned in plan.runs
            if planned.unique_tokens is None
        }
        self._foretell()

    def tick(self) -> None:
        """Foretell the runs that have come to their last horizon."""
        if self._waiting and time.monotonic() >= self._due:
            self._foretell()
            self._due = time.monotonic() + _EVERY_S

    def finished(self, planned: PlannedRun, result: RunResult) -> None:
        """Score the forecast of a run."""
        self._waiting = [run for run in self._waiting if run.id != planned.id]
        forecast = own_forecasts(self._home).get(planned.id)
        if forecast is not None:
            for scored in score_own(forecast, self._home):
                if not scored.inside:
                    about = {"run": planned.name, "loss": scored.loss, "forecast": forecast.name}
                    emit("forecast.missed", planned.sweep, about)

    def _foretell(self) -> None:
        rows = []
        for curve in self._curves.values():
            curve.read()
            rows += curve.observation_rows()
        reached = {row["run_id"] for row in rows}
        self._waiting = [run for run in self._waiting if _row_id(run, -1) not in reached]
        ready = [run for run in self._waiting if len(run.cells) == 1 or _row_id(run, -2) in reached]
        below = [
            row
            for row in rows
            if row["flops_budget"] < self._largest and math.isfinite(row["val_loss"])
        ]
        if ready and below and self._register(ready, own_table(pl.DataFrame(below))):
            self._waiting = [run for run in self._waiting if run not in ready]

    def _register(self, ready: Sequence[PlannedRun], table: Table) -> bool:
        """Write a forecast for each of these runs; False if there are too few rows as yet."""
        points = tuple((float(run.n_params), float(run.cells[-1].tokens)) for run in ready)
        answer = forecast_from_below(table, points)
        if isinstance(answer, str):
            return False
        source = f"sweep {self._sweep}"
        for run, point in zip(ready, answer.points, strict=True):
            try:
                write_forecast(
                    new_forecast(_name(run), answer, (point,), table, source, run.id), self._home
                )
            except ValueError as error:
                # The sweep trains on, and its report foretells this loss afterwards.
                log.warning("%s of %s is not foretold: %s", run.name, source, error)
        return True


def said_before(plan: Plan, home: Home) -> dict[str, Interval]:
    """Intervals that were written before the loss they foretell, by the `run_id` of the loss."""
    intervals = {}
    forecasts = own_forecasts(home)
    for planned in _at_largest(plan):
        forecast = forecasts.get(planned.id)
        if forecast is None:
            continue
        last = planned.cells[-1].tokens
        for end in ends(planned, RunDir(home.runs / planned.id)):
            if end.tokens == last and end.at > forecast.written_at:
                intervals[_row_id(planned, -1)] = forecast.points[0].interval
    return intervals


def score_sweep(plan: Plan, home: Home) -> None:
    """Score the forecasts of finished runs that have no score yet, as after a crash."""
    forecasts = own_forecasts(home)
    for planned in _at_largest(plan):
        forecast = forecasts.get(planned.id)
        if forecast is not None and not read_scores(forecast.name, home):
            score_own(forecast, home)


def _at_largest(plan: Plan) -> list[PlannedRun]:
    """The runs whose last cell is of the largest budget; none with fewer than two budgets.

    None in a sweep of variants or of mixtures, which have no law for all runs.
    """
    if not plan.spec.has_one_law:
        return []
    budgets = {_budget(cell) for run in plan.runs for cell in run.cells} - {0.0}
    if len(budgets) < 2:
        return []
    return [run for run in plan.runs if _budget(run.cells[-1]) == max(budgets)]


def _budget(cell: Cell) -> float:
    return cell.flops_budget or 0.0


def _name(planned: PlannedRun) -> str:
    # Another corpus makes another run, under the same names.
    return f"{planned.sweep}-{planned.name}-{planned.id[:8]}"


def _row_id(planned: PlannedRun, cell: int) -> str:
    return f"{planned.id}@{planned.cells[cell].tokens}"
