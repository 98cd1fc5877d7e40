"""The tune flow: propose trials, train them, record their losses, then fit the laws."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from optuna.storages import BaseStorage
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from analysis.tuning.surface import least_trials
from analysis.words import counted
from flows.cost.ledger import CappedSweep, Ledger, capped
from flows.dispatch.contract import Dispatcher, More, SweepFailedError, full_disk_fails, no_more
from flows.dispatch.underway import registered
from flows.dispatch.work_pool import WorkPool
from flows.files import file_lock, write_whole
from flows.mirror.publish import Mirror, publishing
from flows.runs.directory import RunDir, RunResult
from flows.settings import Home, Settings, open_home, open_settings
from flows.stack.flow_runs import rename
from flows.store.run_store import open_store
from flows.training.slots import slot_environments
from flows.tuning.plan import prepare_tune, with_dtype
from flows.tuning.ranges import search_box
from flows.tuning.report import TuneReport, finish_tune, trial_line
from flows.tuning.search import Search
from flows.tuning.study import Width, WidthStudy, open_storage, study_name
from sweeps.form import StudyName, StudySettings
from sweeps.load import load_tune_spec
from sweeps.shapes import shape
from sweeps.spec import DataRef, PlannedRun
from sweeps.tune_plan import StudyPlan
from sweeps.tune_spec import TuneSpec


@flow(name="tune", flow_run_name="{spec}", persist_result=False)
def tune(spec: StudyName = "lr-batch", overrides: StudySettings = ()) -> State[Any]:
    """Tune on the workers of the pool and write the laws of learning rate and batch.

    Raises:
        sweeps.load.SpecError: the spec cannot be used.
    """
    settings = open_settings()
    home = open_home(settings)
    parsed = with_dtype(load_tune_spec(spec, overrides), home)
    rename(parsed.name)
    data = DataRef(digest=prepare_tune(parsed, home).digest)
    dispatcher = WorkPool(home, parsed.placement, "train/run", open_store(settings))
    mirror = Mirror(settings, home)
    report = run_tune(parsed, data, settings, home, mirror, dispatcher, get_run_logger().info)
    get_run_logger().info("%s", report.verdict)
    if report.refusal:
        return Failed(message=report.refusal)
    return Completed(message=str(report.page))


@full_disk_fails()
def run_tune(
    spec: TuneSpec,
    data: DataRef,
    settings: Settings,
    home: Home,
    mirror: Mirror,
    dispatcher: Dispatcher,
    say: Callable[[str], None],
) -> TuneReport:
    """Bring every width to its number of trials, then fit and report.

    Waits for another process that runs the same study.

    Args:
        say: gets a line for each round and each trial that ends.

    Raises:
        SweepFailedError: every training of a round failed, or the disk is full.
    """
    folder = home.tunes / spec.name
    folder.mkdir(parents=True, exist_ok=True)

    def on_wait() -> None:
        say(f"study {spec.name} runs in another process; waiting until that ends")

    with registered(folder), file_lock(folder / "lock", on_wait):
        write_whole(folder / "spec.json", spec.model_dump_json(indent=1))
        storage = open_storage(settings.optuna_uri, folder)
        widths = [_width(spec, width, data, storage) for width in spec.ladder.widths]
        least = least_trials(len(widths[0].box))
        if spec.trials < least:
            names = ", ".join(dimension.name for dimension in widths[0].box)
            say(
                f"no law of {counted(spec.trials, 'trial')} of a width: a surface over {names} "
                f"needs {least} or more (--trials {least})"
            )
        refusal: str | None = None
        search = Search(spec, data, widths, home, say)
        while refusal is None and (todo := search.begin()) is not None:
            planned = StudyPlan(spec=spec, data=data, runs=tuple(search.runs()))
            limit = capped(planned, home, slot_environments(spec, None))
            ledger = limit if limit is not None else Ledger(planned, home)
            if todo:
                # A cap is on the trials of a round, which were estimated.
                more = no_more if limit is not None else search.more
                _train(search, todo, mirror, dispatcher, ledger, more)
            if (failure := search.failure()) is not None:
                raise SweepFailedError(failure)
            search.end()
            refusal = limit.refusal() if limit is not None else None
        report = finish_tune(spec, data, widths, search.trials(), home, mirror)
        return replace(report, refusal=refusal or "")


def _train(
    search: Search,
    todo: Sequence[PlannedRun],
    mirror: Mirror,
    dispatcher: Dispatcher,
    ledger: CappedSweep | Ledger,
    more: More,
) -> None:
    """Train runs, and those that follow them."""

    def finished(run: PlannedRun, result: RunResult) -> None:
        search.say(f"  {trial_line(run, result)}")
        search.ended(run)
        ledger.ended(run, result)
        publish(RunDir(search.home.runs / run.id), run)

    with publishing(mirror) as publish:
        # MLflow's import takes seconds, and the first runs train meanwhile.
        dispatcher.train_all(
            todo, on_finished=finished, on_tick=mirror.load, admit=ledger.admit, more=more
        )


def _width(spec: TuneSpec, width: int, data: DataRef, storage: BaseStorage) -> Width:
    model = shape(spec.ladder, width, spec.make)
    searched = tuple(search_box(spec, model))
    name = study_name(spec, data.digest, width, searched)
    return Width(model, searched, WidthStudy(name, spec, searched, storage))
