"""Where the trainings under way will end, while a sweep is watched."""

import logging
import math
import time
from collections.abc import Collection
from dataclasses import dataclass, field

import polars as pl

from analysis.own_runs.under_way import End, Learnt, ends, learn
from analysis.table.runs import own_table
from analysis.words import counted
from flows.runs.directory import RunDir
from flows.settings import Home
from flows.watch.curves import CurveReader
from flows.watch.progress import RunProgress, SweepProgress
from sweeps.plan import Plan

log = logging.getLogger(__name__)

# Share of the time that forecasts may take, and seconds that curves are read in one go.
_SHARE = 0.05
_READ_S = 0.2


@dataclass(frozen=True, slots=True)
class EndsShown:
    """The forecast of the last horizon of each training under way, by the run's id.

    Attributes:
        notes: why there are none, or why some are missing or made from other runs alone.
    """

    ends: dict[str, End] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def cell(self, run: RunProgress) -> str:
        """`2.410 ± 0.021`; with an asterisk where the run's own curve has no part in it."""
        end = self.ends.get(run.run_id)
        if end is None or run.state != "training":
            return ""
        half = (end.interval.upper - end.interval.lower) / 2
        return f"{end.interval.loss:.3f} ± {half:.3f}{'' if end.by_curve else '*'}"


class EndForecaster:
    """Foretells the ends of a sweep's trainings from their curves.

    The forecast is learnt anew when a loss was recorded, at a twentieth of the time at most;
    a training's own curve moves it in milliseconds.
    """

    def __init__(self, plan: Plan, home: Home) -> None:
        self.curves = {
            planned.id: CurveReader(planned, RunDir(home.runs / planned.id))
            for planned in plan.runs
        }
        # Each has a law of its own, and a scan's rates and repeated tokens have none.
        self._no_law = any(
            planned.variant or planned.run.data.mixture is not None for planned in plan.runs
        )
        self._read_in: dict[str, str] = {}
        self._losses: frozenset[str] = frozenset()
        self._learnt: Learnt | str = ""
        self._shown = EndsShown()
        self._due = -math.inf

    def read(self, progress: SweepProgress) -> EndsShown:
        """The forecasts now."""
        training = {run.run_id: run.name for run in progress.runs if run.state == "training"}
        if self._no_law:
            self._read(progress, training)
            return EndsShown()
        if not training:
            return EndsShown()
        started = time.monotonic()
        if started >= self._due:
            unread = self._read(progress, training)
            if unread:
                return _none(f"{counted(unread, 'curve')} still to be read")
            try:
                self._shown = self._foretell(training)
            except (ValueError, ArithmeticError) as error:
                # No state of a curve that nobody thought of may stop a sweep.
                log.warning("no ends are foretold: %s", error)
                self._shown = _none(str(error))
            ended = time.monotonic()
            self._due = ended + (ended - started) / _SHARE
        return self._shown

    def _foretell(self, training: dict[str, str]) -> EndsShown:
        rows = [row for curve in self.curves.values() for row in curve.observation_rows()]
        rows = [row for row in rows if math.isfinite(row["val_loss"]) and row["val_loss"] > 0]
        if not rows:
            return _none("no loss is recorded")
        losses = frozenset(row["run_id"] for row in rows)
        if losses != self._losses:
            table = own_table(pl.DataFrame(rows, infer_schema_length=None))
            trunks = [curve.trunk() for curve in self.curves.values()]
            self._learnt, self._losses = learn(table, trunks), losses
        if isinstance(self._learnt, str):
            return _none(self._learnt)
        shown: dict[str, End] = {}
        reasons: dict[str, list[str]] = {}
        for run_id, name in training.items():
            trunk = self.curves[run_id].trunk()
            foretold = ends(self._learnt, trunk)
            last = [end for end in foretold.ends if end.tokens == trunk.horizons[-1].tokens]
            if last:
                shown[run_id] = last[0]
            if foretold.reason:
                reasons.setdefault(foretold.reason, []).append(name)
        return EndsShown(shown, tuple(f"{', '.join(n)}: {r}." for r, n in reasons.items()))

    def _read(self, progress: SweepProgress, training: Collection[str]) -> int:
        """Read what is new; how many curves of ended runs are left for the next time."""
        started, unread = time.monotonic(), 0
        for run in progress.runs:
            under_way = run.run_id in training
            if (
                run.run_id not in self.curves
                or run.state == "planned"
                or (not under_way and self._read_in.get(run.run_id) == run.state)
            ):
                continue
            if not under_way and time.monotonic() > started + _READ_S:
                unread += 1
                continue
            self.curves[run.run_id].read()
            self._read_in[run.run_id] = run.state
        return unread


def _none(reason: str) -> EndsShown:
    return EndsShown(notes=(f"No ends are foretold yet: {reason}.",))
