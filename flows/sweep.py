"""The sweep flow: plan, skip what is finished, dispatch, wait, report."""

import logging
from typing import Protocol

from prefect import flow

from flows.dispatch import Dispatcher, WorkPool
from flows.observe import missing
from flows.plan import make_plan, sweep_folder
from flows.report import SweepReport, finish_sweep
from flows.rundir import RunDir, RunResult, write_whole
from flows.settings import Home, Settings, open_home
from flows.tracking import open_tracker
from sweeps.load import load_spec
from sweeps.plan import Plan
from sweeps.spec import PlannedRun

log = logging.getLogger(__name__)


# So many failures in a row from the start are a bug and not bad luck.
_FAILED_ALIKE = 3


class SweepFailedError(RuntimeError):
    """The first trainings all failed; the rest is not tried."""


class Watcher(Protocol):
    """Who looks on while a sweep trains."""

    def begin(self, plan: Plan, todo: list[PlannedRun]) -> None:
        """The runs that are missing are about to be dispatched."""

    def tick(self) -> None:
        """Something may have moved."""

    def finished(self, planned: PlannedRun, result: RunResult) -> None:
        """A run has its result."""


class LogWatcher:
    """Tells the log, which Prefect shows beside the flow run."""

    def begin(self, plan: Plan, todo: list[PlannedRun]) -> None:
        """Say how much there is to do."""
        log.info(
            "sweep %s: %d trainings, %d observations, %.2e FLOPs; %d to train",
            *(plan.spec.name, len(plan.runs), plan.observations, plan.flops_spent, len(todo)),
        )
        for warning in plan.warnings:
            log.warning("%s", warning)

    def tick(self) -> None:
        """Nothing: a log is no place for progress bars."""

    def finished(self, planned: PlannedRun, result: RunResult) -> None:
        """Say how it ended."""
        losses = ", ".join(f"{found.val_loss:.4f}" for found in result.observations)
        log.info("%s %s: %s", planned.name, result.status, result.reason or losses)


@flow(name="sweep", flow_run_name="{spec}", persist_result=False)
def sweep(spec: str = "chinchilla", overrides: tuple[str, ...] = ()) -> str:
    """Train a sweep on the workers of the pool, fit its law and write its report.

    Args:
        spec: a preset's name, or the path of a YAML file on the worker's machine.
        overrides: settings such as `grid.budgets=[1e12, 2e12]`.

    Returns:
        The path of the report.

    Raises:
        sweeps.load.SpecError: the spec cannot be used.
    """
    settings = Settings()
    home = open_home(settings)
    planned, _ = make_plan(load_spec(spec, overrides), home)
    dispatcher = WorkPool(home, planned.spec.placement, "train/run")
    report = run_sweep(planned, home, settings, dispatcher, LogWatcher())
    log.info("%s", report.verdict)
    return str(report.page)


def run_sweep(
    planned: Plan, home: Home, settings: Settings, dispatcher: Dispatcher, watcher: Watcher
) -> SweepReport:
    """Train what is missing of a plan, mirror every run, fit and report.

    Raises:
        SweepFailedError: the first trainings all failed.
    """
    folder = sweep_folder(planned, home)
    write_whole(folder / "plan.json", planned.model_dump_json(indent=1))
    tracker = open_tracker(settings, home)
    todo = missing(planned.runs, home)
    watcher.begin(planned, todo)

    seen: list[RunResult] = []

    def finished(run: PlannedRun, result: RunResult) -> None:
        watcher.finished(run, result)
        tracker.publish(RunDir(home.runs / run.id), run)
        seen.append(result)
        if len(seen) == _FAILED_ALIKE and all(found.status == "failed" for found in seen):
            raise SweepFailedError(
                f"the first {_FAILED_ALIKE} trainings all failed, so the rest is not tried: "
                f"{result.reason}"
            )

    if todo:
        dispatcher.train_all(todo, on_finished=finished, on_tick=watcher.tick)
    return finish_sweep(planned, home, tracker)
