"""Observers of a running study."""

from typing import Protocol

from prefect import get_run_logger

from flows.runs.directory import RunResult
from sweeps.spec import PlannedRun


class TrialWatcher(Protocol):
    """Who looks on while trials train."""

    def round(self, trials: int, missing: int) -> None:
        """So many trials are open, of which so many are about to be trained."""

    def tick(self) -> None:
        """Something may have moved."""

    def finished(self, planned: PlannedRun, result: RunResult) -> None:
        """A trial has its result."""


class LogTrials:
    """Tells the log of the flow run."""

    def __init__(self) -> None:
        self._log = get_run_logger()

    def round(self, trials: int, missing: int) -> None:
        """Say how much there is to do."""
        self._log.info("%d trials, %d to train", trials, missing)

    def tick(self) -> None:
        """Nothing: a log is no place for progress."""

    def finished(self, planned: PlannedRun, result: RunResult) -> None:
        """Say how it ended."""
        self._log.info("%s", trial_line(planned, result))


def trial_line(planned: PlannedRun, result: RunResult) -> str:
    """A trial and what it reached, for a log or a terminal."""
    train = planned.run.train
    losses = ", ".join(f"{found.val_loss:.4f}" for found in result.observations)
    return (
        f"{planned.name}: lr {train.optimizer.lr:.2e}, batch {train.batch_tokens:,}: "
        f"{losses or f'{result.status}, {result.reason}'}"
    )
