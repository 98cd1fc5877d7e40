"""A sweep's progress beside its flow run in Prefect: a progress bar, a table and log lines."""

import logging
import re
from collections.abc import Mapping
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import MarkdownArtifact, ProgressArtifact, TableArtifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.exceptions import PrefectException

from flows.runs.directory import RunResult
from flows.settings import Home
from flows.watch.progress import SweepProgress, progress_cells
from flows.watch.under_way import EndsShown
from flows.watch.watcher import Periodic, Watcher
from sweeps.plan import Plan
from sweeps.spec import PlannedRun

log = logging.getLogger(__name__)

_EVERY_S = 10.0


class ArtifactWatcher(Periodic):
    """Keeps two artifacts of the flow run it is used in: a progress bar and a table of the runs.

    They are updated in place: a version every ten seconds would fill the server's database.
    """

    def __init__(self, home: Home) -> None:
        super().__init__(home)
        self._bar: UUID | None = None
        self._table: UUID | None = None

    def show(self, progress: SweepProgress, *, ended: str | None = None) -> float:
        """Create or update the artifacts."""
        try:
            self._bar, self._table = _send(progress, self.ends, self._bar, self._table)
        except (PrefectException, httpx.HTTPError, OSError) as error:
            # A sweep continues while its server is down; the next update replaces this one.
            log.warning("progress is not shown in Prefect: %s", error)
        return _EVERY_S


def progress_rows(progress: SweepProgress, ends: EndsShown) -> list[dict[str, str]]:
    """Rows of the table artifact, one for each run, as text."""
    names = ("loss, nats/token", "tokens/s", "MFU", "left")
    return [
        {
            "run": run.name,
            "N": f"{run.n_params:,}",
            "state": run.state,
            "step": f"{run.step:,}/{run.steps:,}",
            **dict(zip(names, progress_cells(run), strict=True)),
            "ends at, 90%": ends.cell(run),
        }
        for run in progress.runs
    ]


def show_result(
    name: str, verdict: str, links: Mapping[str, str | None], image: str | None
) -> None:
    """Make an artifact of a finished sweep: verdict, links, and a picture of its valleys.

    Args:
        image: address of the picture, itself its data.
    """
    parts = [
        "\n\n".join(verdict.replace("*", "\\*").splitlines()),
        "\n".join(f"- [{text}]({address})" for text, address in links.items() if address),
        "" if image is None else f"![Loss against parameters at each budget]({image})",
    ]
    try:
        MarkdownArtifact(
            key=f"sweep-{_key(name)}-result",
            markdown="\n\n".join(parts),
            description=f"What {name} found",
        ).create()
    except (PrefectException, httpx.HTTPError, OSError) as error:
        log.warning("the result is not shown in Prefect: %s", error)


def _key(name: str) -> str:
    """A sweep's name as Prefect's keys have it."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _send(
    progress: SweepProgress, ends: EndsShown, bar: UUID | None, table: UUID | None
) -> tuple[UUID, UUID]:
    """Create the artifacts, or update those with these ids; returns their ids."""
    key = _key(progress.name)
    shown = ProgressArtifact(
        key=f"sweep-{key}-progress", progress=100 * progress.share, description=progress.title()
    )
    rows = TableArtifact(
        key=f"sweep-{key}-runs",
        table=progress_rows(progress, ends),
        description="\n\n".join([progress.title(), *ends.notes]),
    )
    if bar is None or table is None:
        return shown.create().id, rows.create().id  # type: ignore[union-attr]
    with get_client(sync_client=True) as client:
        for artifact_id, artifact in ((bar, shown), (table, rows)):
            client.update_artifact(
                artifact_id,
                ArtifactUpdate(data=artifact.format(), description=artifact.description),
            )
    return bar, table


class LogWatcher(Watcher):
    """Writes to the flow run's log, which Prefect shows beside it."""

    def __init__(self) -> None:
        self._log = get_run_logger()

    def begin(self, plan: Plan, todo: list[PlannedRun]) -> None:
        """Log how much there is to train."""
        self._log.info(
            "sweep %s: %d trainings, %d observations, %.2e FLOPs; %d to train",
            *(plan.spec.name, len(plan.runs), plan.observations, plan.flops_spent, len(todo)),
        )
        for warning in plan.warnings:
            self._log.warning("%s", warning)

    def finished(self, planned: PlannedRun, result: RunResult) -> None:
        """Log the run's losses or its failure."""
        losses = ", ".join(f"{end.val_loss:.4f}" for end in result.observations)
        self._log.info("%s %s: %s", planned.name, result.status, result.reason or losses)
