"""Events of Prefect that automations wait for: a sweep has finished, a run failed, a forecast
missed. Imports Prefect late: a command finds its server first."""

from typing import Literal

from flows.runs.directory import RunResult
from flows.watch.watcher import Watcher
from sweeps.spec import PlannedRun

Event = Literal["sweep.finished", "run.failed", "forecast.missed"]


def emit(event: Event, sweep: str, about: dict[str, object]) -> None:
    """Send the event `isoflop.…` about a sweep; nothing outside a flow run.

    Args:
        about: its payload, for the text of a notification.
    """
    from prefect.events import emit_event
    from prefect.runtime import flow_run

    if flow_run.id is not None:
        emit_event(
            f"isoflop.{event}",
            resource={
                "prefect.resource.id": f"isoflop.sweep.{sweep}",
                "prefect.resource.name": sweep,
            },
            payload=about,
        )


class EventWatcher(Watcher):
    """Sends an event for each run that fails."""

    def finished(self, planned: PlannedRun, result: RunResult) -> None:
        """Send the reason of a run without losses."""
        if result.status != "finished":
            about = {"run": planned.name, "id": planned.id, "reason": result.reason}
            emit("run.failed", planned.sweep, {**about, "status": result.status})
