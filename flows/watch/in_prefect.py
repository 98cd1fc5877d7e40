"""A sweep's progress beside its flow run in Prefect: a bar and a table, kept up to date."""

import logging
import re
import time
from types import TracebackType
from typing import Self
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import ProgressArtifact, TableArtifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.exceptions import PrefectException

from flows.runs.directory import RunResult
from flows.settings import Home
from flows.watch.progress import SweepGauge, SweepProgress, progress_cells
from sweeps.plan import Plan
from sweeps.spec import PlannedRun

log = logging.getLogger(__name__)

_EVERY_S = 10.0


class ArtifactWatcher:
    """Keeps two artifacts of the flow run it is used in: how far, and every run.

    They are changed in place: a version every ten seconds would fill the server's database.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._gauge: SweepGauge | None = None
        self._bar: UUID | None = None
        self._table: UUID | None = None
        self._due = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._gauge is not None:
            self._send()

    def begin(self, plan: Plan, todo: list[PlannedRun]) -> None:
        """Create the artifacts."""
        self._gauge = SweepGauge(plan, self._home, todo)
        self._send()

    def tick(self) -> None:
        """Bring them up to date when it is time."""
        if time.monotonic() >= self._due:
            self._send()

    def finished(self, planned: PlannedRun, result: RunResult) -> None:
        """Nothing: its result is on disk."""

    def _send(self) -> None:
        assert self._gauge is not None
        progress = self._gauge.read()
        try:
            self._bar, self._table = _send(progress, self._bar, self._table)
        except (PrefectException, httpx.HTTPError, OSError) as error:
            # A sweep goes on while its server is away; the next time makes up for this one.
            log.warning("progress is not shown in Prefect: %s", error)
        self._due = time.monotonic() + _EVERY_S


def progress_rows(progress: SweepProgress) -> list[dict[str, str]]:
    """The table of the artifact, a row a run; cells as people read them."""
    names = ("loss, nats/token", "tokens/s", "MFU", "left")
    return [
        {
            "run": run.name,
            "N": f"{run.n_params:,}",
            "state": run.state,
            "step": f"{run.step:,}/{run.steps:,}",
            **dict(zip(names, progress_cells(run), strict=True)),
        }
        for run in progress.runs
    ]


def _send(progress: SweepProgress, bar: UUID | None, table: UUID | None) -> tuple[UUID, UUID]:
    """Create the artifacts, or update those of these ids; their ids."""
    key = re.sub(r"[^a-z0-9]+", "-", progress.name.lower()).strip("-")
    shown = ProgressArtifact(
        key=f"sweep-{key}-progress", progress=100 * progress.share, description=progress.title()
    )
    rows = TableArtifact(
        key=f"sweep-{key}-runs", table=progress_rows(progress), description=progress.title()
    )
    if bar is None or table is None:
        return shown.create().id, rows.create().id  # type: ignore[union-attr]
    with get_client(sync_client=True) as client:
        for known, artifact in ((bar, shown), (table, rows)):
            client.update_artifact(
                known, ArtifactUpdate(data=artifact.format(), description=artifact.description)
            )
    return bar, table


class LogWatcher:
    """Tells the log of the flow run, which Prefect shows beside it."""

    def __init__(self) -> None:
        self._log = get_run_logger()

    def begin(self, plan: Plan, todo: list[PlannedRun]) -> None:
        """Say how much there is to do."""
        self._log.info(
            "sweep %s: %d trainings, %d observations, %.2e FLOPs; %d to train",
            *(plan.spec.name, len(plan.runs), plan.observations, plan.flops_spent, len(todo)),
        )
        for warning in plan.warnings:
            self._log.warning("%s", warning)

    def tick(self) -> None:
        """Nothing: a log is no place for progress bars."""

    def finished(self, planned: PlannedRun, result: RunResult) -> None:
        """Say how it ended."""
        losses = ", ".join(f"{found.val_loss:.4f}" for found in result.observations)
        self._log.info("%s %s: %s", planned.name, result.status, result.reason or losses)
