"""The contracts of a publisher of runs and of a tracker."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from flows.mirror.metrics import Point
from flows.runs.directory import RunDir
from sweeps.spec import PlannedRun


class Publisher(Protocol):
    """Where run directories are mirrored. Publishing twice changes nothing."""

    def load(self) -> None:
        """Import the libraries that publishing needs, before a thread publishes.

        Libraries that look for one another in `sys.modules` fail if one is half imported.
        """

    def publish(self, run: RunDir, planned: PlannedRun) -> None:
        """Bring the mirror of one run up to date with its directory."""

    def catch_up(self) -> None:
        """Publish again what failed, now that nothing waits for it."""

    def log_report(self, sweep: str, report: Path, summary: dict[str, float]) -> None:
        """Add a sweep's report and its law's numbers beside its runs."""

    def log_study(
        self, study: str, report: Path, summary: dict[str, float], trials: Sequence[str]
    ) -> None:
        """Make a study the parent of its trials' runs, and add its report and numbers."""


class Tracker(Publisher, Protocol):
    """A mirror that can be read back."""

    def curve(self, sweep: str, run_id: str, metric: str) -> list[Point]:
        """Points of a metric in rising order of step, exactly as published."""

    def params(self, sweep: str, run_id: str) -> dict[str, str]:
        """The parameters of the run, as text."""

    def run_ids(self, sweep: str) -> list[str]:
        """Ids of the runs mirrored for a sweep, and `report` when its report is there."""
