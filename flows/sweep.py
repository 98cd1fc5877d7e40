"""The sweep flow: plan, skip what is finished, dispatch, wait, report."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import NonNegativeInt, PositiveFloat

from analysis.sweep.valleys import valleys_image
from analysis.words import counted
from flows.cost.ledger import CappedSweep, Ledger, capped
from flows.dispatch.contract import Dispatcher, SweepFailedError, full_disk_fails
from flows.dispatch.underway import registered
from flows.dispatch.work_pool import WorkPool
from flows.forecasts.by_sweep import Foreteller
from flows.mirror.publish import Mirror, publishing
from flows.plans.plan import make_plan, sweep_folder
from flows.plans.precision import measured_here
from flows.plans.rounds import plans_in_rounds
from flows.plans.scans import ScanError, plans_with_scans
from flows.plans.stored import write_plan
from flows.results.report import SweepReport, finish_sweep
from flows.runs.directory import RunDir, RunResult
from flows.runs.state import missing
from flows.runs.table import observations_frame
from flows.settings import Home, Settings, open_home, open_settings
from flows.stack.flow_runs import rename
from flows.store.run_store import open_store
from flows.training.slots import slot_environments
from flows.watch.events import EventWatcher, emit
from flows.watch.in_prefect import ArtifactWatcher, LogWatcher, show_result
from flows.watch.page import LivePage
from flows.watch.watcher import Watcher
from sweeps.form import SweepName, SweepSettings
from sweeps.load import design_overrides, load_spec
from sweeps.plan import Plan
from sweeps.spec import PlannedRun

# This many failures in a row at the start mean a bug, not bad luck.
_FAILED_AT_START = 3
# The cap of a plan, with the estimates of its runs.
Capping = Callable[[Plan], CappedSweep | None]


@flow(name="sweep", flow_run_name="{spec}", persist_result=False)
def sweep(
    spec: SweepName = "chinchilla",
    overrides: SweepSettings = (),
    max_failures: NonNegativeInt | None = None,
    design: Literal["next"] | None = None,
    target_flops: PositiveFloat | None = None,
) -> State[Any]:
    """Train a sweep on the workers of the pool, fit its law and write its report.

    Args:
        max_failures: stop when more trainings than this have failed or diverged; 0 is fail-fast.
        design: next: train those cells of the grid that sharpen the forecast, in rounds.
        target_flops: where it is to become sure; ten times the grid's largest 6·N·D unless given.

    Returns:
        Completed with the law's warnings and the path of the report; Failed with the runs that
        did not finish, after the report of the others is written.

    Raises:
        sweeps.load.SpecError: the spec cannot be used.
    """
    settings = open_settings()
    home = open_home(settings)
    changes = (*overrides, *design_overrides(design, target_flops))
    planned, corpus = make_plan(load_spec(spec, changes), home)
    rename(planned.spec.name)
    for note in corpus.notes:
        get_run_logger().warning("%s", note.text)
    if (precision := measured_here(planned, home)) is not None:
        get_run_logger().info("%s", precision)
    dispatcher = WorkPool(home, planned.spec.placement, "train/run", open_store(settings))
    # The workers' speed is unknown here: the cap reckons with one slot of this machine, and with
    # single trainings, as workers train each run alone.
    cap = partial(capped, home=home, slots=slot_environments(planned.spec, 1), stacks=False)
    live = sweep_folder(planned, home) / "live.html"
    get_run_logger().info("live page: %s", live.as_uri())
    report = watched_sweep(
        planned, settings, home, dispatcher, [LogWatcher()], cap=cap, max_failures=max_failures
    )
    get_run_logger().info("%s", report.verdict)
    if report.unfinished:
        return Failed(message="; ".join(report.unfinished))
    return Completed(message=" ".join([*report.warnings, str(report.page)]))


def watched_sweep(
    planned: Plan,
    settings: Settings,
    home: Home,
    dispatcher: Dispatcher,
    watchers: Sequence[Watcher],
    *,
    cap: Capping,
    max_failures: int | None,
) -> SweepReport:
    """`run_sweep` with forecasts, live page and the artifacts in Prefect, mirrored to MLflow."""
    mirror = Mirror(settings, home)
    with LivePage(home) as page, ArtifactWatcher(home) as artifact:
        report = run_sweep(
            planned,
            home,
            mirror,
            dispatcher,
            [*watchers, Foreteller(home), EventWatcher(), page, artifact],
            cap=cap,
            max_failures=max_failures,
        )
    name = planned.spec.name
    report_page = mirror.report_path(name)
    links = {
        "The report, in MLflow": report_page and f"{settings.mlflow_address}{report_page}",
        "Losses, in MLflow": settings.mlflow_address + mirror.chart_path(name),
        "Dashboard": f"{settings.dashboard_address}/sweep/{name}",
    }
    # The sizes of several variants or mixtures are no valley.
    one_law = planned.spec.has_one_law
    image = valleys_image(observations_frame(planned.runs, home)) if one_law else None
    show_result(name, report.verdict, links, image)
    about = {"verdict": report.verdict, "report": report.page.as_uri(), "links": links}
    emit("sweep.finished", name, {**about, "unfinished": list(report.unfinished)})
    return report


@full_disk_fails()
def run_sweep(
    planned: Plan,
    home: Home,
    mirror: Mirror,
    dispatcher: Dispatcher,
    watchers: Sequence[Watcher],
    *,
    cap: Capping = lambda planned: None,
    max_failures: int | None = None,
) -> SweepReport:
    """Train the missing runs of a plan, mirror every run, fit and report.

    Where the spec has a design, the plan is of the whole grid, and runs are chosen in rounds.

    Args:
        dispatcher: `flows.dispatch.children.ChildProcesses` here, `WorkPool` on workers.
        cap: limits what the sweep costs; runs it refuses are not trained, and the report covers
            the others.
        max_failures: stop when more trainings than this did not finish; None for no limit.

    Raises:
        SweepFailedError: the first trainings all failed, too many failed, or the disk is full.
    """
    folder = sweep_folder(planned, home)
    failures = _Failures(max_failures)
    limit: CappedSweep | None = None

    def tick() -> None:
        # MLflow's import takes seconds, and the first runs train meanwhile.
        mirror.load()
        for watcher in watchers:
            watcher.tick()

    def finished(run: PlannedRun, result: RunResult) -> None:
        for watcher in watchers:
            watcher.finished(run, result)
        if limit is not None:
            limit.ended(run, result)
        publish(RunDir(home.runs / run.id), run)
        failures.count(run, result)

    with registered(folder):
        for part in _rounds(planned, home, folder):
            planned = part
            write_plan(planned, home)
            todo = missing(planned.runs, home)
            limit = cap(planned)
            for watcher in watchers:
                watcher.begin(planned, todo)
            failures.expected += len(todo)
            if todo:
                admit = limit.admit if limit is not None else Ledger(planned, home).admit
                with publishing(mirror) as publish:
                    dispatcher.train_all(todo, on_finished=finished, on_tick=tick, admit=admit)
        for watcher in watchers:
            watcher.trained()
        report = finish_sweep(planned, home, mirror)
        refusal = limit.refusal() if limit is not None else None
        return report if refusal is None else report.refused(refusal)


def _rounds(planned: Plan, home: Home, folder: Path) -> Iterator[Plan]:
    """The plans to train one after another; the plan itself where nothing is to be chosen."""
    if planned.spec.variants:
        try:
            yield from plans_with_scans(planned, home)
        except ScanError as error:
            raise SweepFailedError(str(error)) from error
    elif planned.spec.design is None:
        yield planned
    else:
        yield from plans_in_rounds(planned, home, folder)


class _Failures:
    """Stops a sweep whose first trainings all fail, or of which more fail than may.

    Attributes:
        expected: trainings of the rounds so far.
    """

    def __init__(self, most: int | None) -> None:
        self.expected = 0
        self._most = most
        self._results: list[RunResult] = []

    def count(self, run: PlannedRun, result: RunResult) -> None:
        """Count a training that has ended.

        Raises:
            SweepFailedError: no more should be tried.
        """
        results = self._results
        results.append(result)
        at_start = len(results) == min(_FAILED_AT_START, self.expected)
        if at_start and all(each.status in ("failed", "out_of_memory") for each in results):
            raise SweepFailedError(
                f"the first {counted(len(results), 'training')} failed, so no more is tried: "
                f"{result.reason}"
            )
        failed = sum(each.status != "finished" for each in results)
        if self._most is not None and failed > self._most:
            raise SweepFailedError(
                f"{counted(failed, 'training')} did not finish and {self._most} may, so no more "
                f"is tried; the last one, {run.name}, {result.status}: {result.reason}"
            )
