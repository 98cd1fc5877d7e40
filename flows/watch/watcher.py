"""Observers of a running sweep."""

from typing import Protocol

from flows.runs.directory import RunResult
from sweeps.plan import Plan
from sweeps.spec import PlannedRun


class Watcher(Protocol):
    """Who looks on while a sweep trains."""

    def begin(self, plan: Plan, todo: list[PlannedRun]) -> None:
        """The runs that are missing are about to be dispatched."""

    def tick(self) -> None:
        """Something may have moved."""

    def finished(self, planned: PlannedRun, result: RunResult) -> None:
        """A run has its result."""


class Together:
    """Several watchers as one."""

    def __init__(self, *watchers: "Watcher") -> None:
        self._watchers = watchers

    def begin(self, plan: Plan, todo: list[PlannedRun]) -> None:
        """Tell all of them."""
        for watcher in self._watchers:
            watcher.begin(plan, todo)

    def tick(self) -> None:
        """Tell all of them."""
        for watcher in self._watchers:
            watcher.tick()

    def finished(self, planned: PlannedRun, result: RunResult) -> None:
        """Tell all of them."""
        for watcher in self._watchers:
            watcher.finished(planned, result)
