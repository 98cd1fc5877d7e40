"""The tune flow: propose trials, train them, record their losses, then fit the laws."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from analysis.tuning.surface import least_trials
from analysis.words import counted
from flows.cost.ledger import CappedSweep, Ledger, capped
from flows.dispatch.contract import Dispatcher, SweepFailedError, full_disk_fails
from flows.dispatch.underway import registered
from flows.dispatch.work_pool import WorkPool
from flows.files import file_lock, write_whole
from flows.mirror.publish import Mirror, Publisher, publishing
from flows.plans.stored import write_round
from flows.runs.directory import RunDir, RunResult
from flows.runs.state import missing
from flows.settings import Home, Settings, open_home, open_settings
from flows.stack.flow_runs import rename
from flows.store.run_store import open_store
from flows.training.slots import slot_environments
from flows.tuning.plan import prepare_tune, with_dtype
from flows.tuning.ranges import search_box
from flows.tuning.report import TuneReport, finish_tune, trial_line, write_trials
from flows.tuning.study import Width, WidthStudy, open_storage, study_name
from sweeps.form import StudyName, StudySettings
from sweeps.load import load_tune_spec
from sweeps.shapes import shape
from sweeps.spec import DataRef, PlannedRun
from sweeps.tune_plan import StudyPlan, trial_run
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
    mirror: Publisher,
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
        while refusal is None and (open_trials := _open_trials(spec, data, widths)):
            trials = _runs(spec, data, widths)
            # Who looks on finds the runs of the trials there, and their losses in the runs.
            write_trials(trials, home, folder)
            planned = StudyPlan(spec=spec, data=data, runs=tuple(run for _, run in trials))
            limit = capped(planned, home, slot_environments(spec, None))
            ledger = limit if limit is not None else Ledger(planned, home)
            _round(open_trials, home, mirror, dispatcher, ledger, say)
            refusal = limit.refusal() if limit is not None else None
        report = finish_tune(spec, data, widths, _runs(spec, data, widths), home, mirror)
        return replace(report, refusal=refusal or "")


def _open_trials(
    spec: TuneSpec, data: DataRef, widths: Sequence[Width]
) -> list[tuple[Width, FrozenTrial, PlannedRun]]:
    """The trials of the next round, those of a stopped one first."""
    return [
        (width, trial, trial_run(spec, width.model, data, trial.number, trial.params))
        for width in widths
        for trial in width.study.open_trials(spec.trials)
    ]


def _runs(
    spec: TuneSpec, data: DataRef, widths: Sequence[Width]
) -> list[tuple[FrozenTrial, PlannedRun]]:
    """Every trial that was proposed, and its training."""
    return [
        (trial, trial_run(spec, width.model, data, trial.number, trial.params))
        for width in widths
        for trial in width.study.trials()
    ]


def _round(
    open_trials: Sequence[tuple[Width, FrozenTrial, PlannedRun]],
    home: Home,
    mirror: Publisher,
    dispatcher: Dispatcher,
    ledger: CappedSweep | Ledger,
    say: Callable[[str], None],
) -> None:
    """Train the open trials that are not finished, then record all of them in order of number.

    A trial that the cap refuses stays open.
    """
    runs = [run for _, _, run in open_trials]
    # Two trials may round to the same batch and be one run.
    todo = missing({run.id: run for run in runs}.values(), home)
    known = f", {len(runs) - len(todo)} found finished" if len(todo) < len(runs) else ""
    say(f"{counted(len(runs), 'trial')}, {len(todo)} to train{known}")

    def finished(run: PlannedRun, result: RunResult) -> None:
        say(f"  {trial_line(run, result)}")
        ledger.ended(run, result)
        publish(RunDir(home.runs / run.id), run)

    if todo:
        # Runs of one shape share what it takes to compile it.
        write_round(runs[0].sweep, runs, home)
        with publishing(mirror) as publish:
            # MLflow's import takes seconds, and the first runs train meanwhile.
            dispatcher.train_all(
                todo, on_finished=finished, on_tick=mirror.load, admit=ledger.admit
            )
    results = [RunDir(home.runs / run.id).result() for run in runs]
    ended = [result for result in results if result is not None]
    if ended and not any(RunDir(home.runs / run.id).settled() for run in runs):
        reason = ended[0].reason
        raise SweepFailedError(
            f"all of {counted(len(todo), 'training')} failed, so no more is tried: {reason}"
        )
    for (width, trial, run), result in zip(open_trials, results, strict=True):
        if result is not None:
            width.study.tell(trial.number, objective(run, result))


def objective(run: PlannedRun, result: RunResult | None) -> float | None:
    """What the search minimises: the loss, averaged over the budgets.

    A diverged training gets the loss of a uniform guess; one that failed otherwise gets None.
    """
    if result is not None and result.status == "finished":
        return sum(end.val_loss for end in result.observations) / len(result.observations)
    if result is not None and result.status == "diverged":
        return math.log(run.run.model.vocab_size)
    return None


def _width(spec: TuneSpec, width: int, data: DataRef, storage: BaseStorage) -> Width:
    model = shape(spec.ladder, width, spec.make)
    searched = tuple(search_box(spec, model))
    name = study_name(spec, data.digest, width, searched)
    return Width(model, searched, WidthStudy(name, spec, searched, storage))
