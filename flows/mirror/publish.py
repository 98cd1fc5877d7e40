"""MLflow as sweeps and studies use it: beside the training, which never waits for it."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from flows.files import file_lock
from flows.mirror.client import load_mlflow, mirror_error
from flows.mirror.entries import entries, run_colours, share_columns
from flows.mirror.tracker import Mirrored, MlflowTracker, open_tracker
from flows.runs.directory import RunDir
from flows.settings import Home, Settings
from sweeps.plan import Plan
from sweeps.spec import PlannedRun

log = logging.getLogger(__name__)

# How long a mirror that failed is not tried again.
_REST_S = 30.0
_T = TypeVar("_T")


class Mirror:
    """MLflow as a sweep uses it: its failures are logged and skipped.

    Training does not wait for a mirror. The run directories have everything, and the next
    `publish` or `isoflop sync` adds what was missed. Publishing twice changes nothing.
    """

    def __init__(self, settings: Settings, home: Home) -> None:
        self._settings = settings
        self._home = home
        self._tracker: MlflowTracker | None = None
        self._resting_until = 0.0
        self._missed: dict[tuple[str, str], tuple[RunDir, PlannedRun]] = {}

    def load(self) -> None:
        """Import MLflow, before a thread publishes.

        Libraries that look for one another in `sys.modules` fail if one is half imported.
        """
        load_mlflow()

    def publish(self, run: RunDir, planned: PlannedRun, mirrored: Mirrored | None = None) -> None:
        """Bring the mirror of a run up to date with its directory, or log that it is behind."""
        key = (planned.sweep, run.id)
        self._missed[key] = (run, planned)

        def send(tracker: MlflowTracker) -> None:
            tracker.publish(run, planned, mirrored)
            del self._missed[key]

        self._try(f"run {run.id}", send)

    def publish_all(self, sweep: str, runs: Sequence[tuple[RunDir, PlannedRun]]) -> None:
        """Publish runs, asking once which of them the mirror has, or log that it is behind."""
        mirrored = self._try(f"runs of {sweep}", lambda tracker: tracker.mirrored(sweep))
        for run, planned in runs:
            self.publish(run, planned, mirrored)

    def catch_up(self) -> None:
        """Publish the runs that failed or were skipped: a full disk may have room now."""
        if self._missed:
            self._resting_until = 0.0
        for run, planned in list(self._missed.values()):
            self.publish(run, planned)

    def log_observations(self, planned: Plan) -> None:
        """Add a sweep's observations and their curves beside its runs, or log that it is behind."""
        self._try(
            f"observations of {planned.spec.name}",
            lambda tracker: log_observations(tracker, planned, self._home),
        )

    def log_report(self, sweep: str, report: Path, summary: dict[str, float], verdict: str) -> None:
        """Add a sweep's report, its law's numbers and the verdict, or log that it is behind."""
        self._try(
            f"report of {sweep}",
            lambda tracker: tracker.log_report(sweep, report, summary, verdict),
        )

    def log_study(
        self, study: str, report: Path, summary: dict[str, float], trials: Sequence[str]
    ) -> None:
        """Make a study the parent of its trials' runs, with its report, or log the failure."""
        self._try(
            f"study {study}", lambda tracker: tracker.log_study(study, report, summary, trials)
        )

    def chart_path(self, sweep: str) -> str:
        """Path of the page that compares the runs; the front page when MLflow does not answer."""
        return self._try(f"chart of {sweep}", lambda tracker: tracker.chart_path(sweep)) or "/"

    def report_path(self, sweep: str) -> str | None:
        """Path of the page that shows the report; None when MLflow does not answer."""
        return self._try(f"report of {sweep}", lambda tracker: tracker.report_path(sweep))

    def _try(self, what: str, action: Callable[[MlflowTracker], _T]) -> _T | None:
        if time.monotonic() < self._resting_until:
            return None
        try:
            if self._tracker is None:
                self._tracker = open_tracker(self._settings, self._home)
            return action(self._tracker)
        except mirror_error() as error:
            reason = str(error).partition("\n")[0]
            log.warning("MLflow is behind (%s): %s. Later: isoflop sync", what, reason)
            # A server that hangs costs a minute a call, and a sweep's end waits for all of them.
            self._resting_until = time.monotonic() + _REST_S
            return None


def log_observations(tracker: MlflowTracker, planned: Plan, home: Home) -> None:
    """Log the observations of a sweep, and their curves, as far as its trainings have ended."""
    folder = home.sweeps / planned.spec.name
    folder.mkdir(parents=True, exist_ok=True)
    with file_lock(folder / "mirror.lock"):
        tracker.log_entries(
            planned.spec.name,
            entries(planned.runs, home),
            run_colours(planned.runs),
            share_columns(planned.runs),
        )


@contextmanager
def publishing(mirror: Mirror) -> Iterator[Callable[[RunDir, PlannedRun], None]]:
    """Publish runs one after the other beside their training; at the end, wait for all.

    After an exception, runs whose publishing has not begun are left to the next sweep, or to sync.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="mirror")
    publications: list[Future[None]] = []

    def publish(run: RunDir, planned: PlannedRun) -> None:
        mirror.load()
        publications.append(pool.submit(mirror.publish, run, planned))

    try:
        yield publish
        for publication in publications:
            publication.result()
    finally:
        pool.shutdown(cancel_futures=True)
