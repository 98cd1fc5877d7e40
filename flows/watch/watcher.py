"""Observers of a running sweep."""

import time
from typing import Self

from flows.runs.directory import RunResult
from flows.settings import Home
from flows.watch.curves import CurveReader
from flows.watch.progress import SweepGauge, SweepProgress
from flows.watch.under_way import EndForecaster, EndsShown
from sweeps.plan import Plan
from sweeps.spec import PlannedRun


class Watcher:
    """Observes a sweep while it trains; does nothing until a subclass says what."""

    def begin(self, plan: Plan, todo: list[PlannedRun]) -> None:
        """The missing runs are about to be dispatched."""

    def tick(self) -> None:
        """Something may have changed."""

    def finished(self, planned: PlannedRun, result: RunResult) -> None:
        """A run has its result."""

    def trained(self) -> None:
        """No run is left to train; law and report are next."""


class Periodic(Watcher):
    """A watcher that shows a sweep's progress at its start, every few seconds, and at its end.

    A context; leaving it is the end.

    Attributes:
        ends: where the trainings under way will end, as of the last time.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._gauge: SweepGauge | None = None
        self._forecaster: EndForecaster | None = None
        self.ends = EndsShown()
        self._due = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._gauge is not None:
            self.show(self._progress(), ended="ended" if kind is None else "stopped")

    def begin(self, plan: Plan, todo: list[PlannedRun]) -> None:
        """Show the progress for the first time."""
        self._gauge = SweepGauge(plan, self._home, todo)
        self._forecaster = EndForecaster(plan, self._home)
        self.tick()

    def tick(self) -> None:
        """Show the progress when it is due."""
        if self._gauge is not None and time.monotonic() >= self._due:
            pause_s = self.show(self._progress())
            self._due = time.monotonic() + pause_s

    @property
    def curves(self) -> list[CurveReader]:
        """The curves of the sweep's runs."""
        return [] if self._forecaster is None else list(self._forecaster.curves.values())

    def _progress(self) -> SweepProgress:
        assert self._gauge is not None
        assert self._forecaster is not None
        progress = self._gauge.read()
        self.ends = self._forecaster.read(progress)
        return progress

    def show(self, progress: SweepProgress, *, ended: str | None = None) -> float:
        """Show the progress.

        Args:
            ended: how the sweep ended, `ended` or `stopped`; None while it trains.

        Returns:
            Seconds until it is due again.
        """
        raise NotImplementedError
