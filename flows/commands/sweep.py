"""Commands plan, sweep, report, runs, sync."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from flows.report import SweepReport
    from flows.settings import Home, Settings
    from sweeps.plan import Plan
    from sweeps.spec import SweepSpec
    from sweeps.tune_spec import TuneSpec

Overrides = Annotated[
    tuple[str, ...],
    Parameter(name="--set", help="override of a setting, as in grid.budgets=[1e12]"),
]
Corpus = Annotated[str | None, Parameter(help="file or folder of text, JSONL or Parquet")]
Json = Annotated[
    str | None,
    Parameter(allow_leading_hyphen=True, help="write JSON to this file; - for standard output"),
]


def plan(
    spec: str,
    *,
    set: Overrides = (),
    corpus: Corpus = None,
    json: Json = None,
) -> None:
    """Show every run of a sweep with N, D, C, learning rate and time; nothing is trained.

    SPEC is a preset's name or a YAML file. The first plan on a corpus prepares it.
    """
    from flows.calibrate import estimate
    from flows.output import emit
    from flows.plan import make_plan
    from flows.plan_table import plan_json, print_plan

    with _refusals():
        _, home = _open()
        parsed = _load(spec, set, corpus)
        with _busy("looking for the corpus") as tell:
            planned, prepared = make_plan(parsed, home, tell)
    slots = len(_slots(parsed, None))
    with _busy("timing every shape on this machine"):
        cost = estimate(planned.runs, parsed.placement, slots)
    if json is not None:
        emit(plan_json(planned, prepared, cost, home), json)
    else:
        print_plan(planned, prepared, home, cost=cost, slots=slots)


def sweep(
    spec: str,
    *,
    set: Overrides = (),
    corpus: Corpus = None,
    slots: Annotated[int | None, Parameter(help="trainings at once")] = None,
    json: Json = None,
) -> None:
    """Plan a sweep, train what is missing in child processes, fit its law and write its report.

    SPEC is a preset's name or a YAML file. Interrupted and called again, it goes on where it was.
    """
    from flows.observe import missing, not_finished
    from flows.output import check_destination, emit
    from flows.plan import make_plan
    from flows.plan_table import print_plan
    from flows.report import finish_sweep
    from flows.tracking import Mirror

    with _refusals():
        settings, home = _open()
        parsed = _load(spec, set, corpus)
        with _busy("looking for the corpus") as tell:
            planned, prepared = make_plan(parsed, home, tell)
        if slots is not None and slots < 1:
            raise ValueError(f"--slots {slots} is less than one.")
        environments = _slots(parsed, slots)
        if json is not None:
            check_destination(json)
    if json is None:
        print_plan(planned, prepared, home, cost=None, slots=len(environments))
    if missing(planned.runs, home):
        report, flow_run = _train_here(planned, settings, home, environments)
    else:
        _say("every run of this sweep is finished")
        with _busy("fitting the law and writing the report"):
            report, flow_run = finish_sweep(planned, home, Mirror(settings, home)), None
    if json is not None:
        emit(report.numbers, json)
    else:
        _print_verdict(planned, report, settings, home, flow_run)
    unfinished = not_finished(planned, home)
    for sentence in unfinished:
        _say(f"isoflop: {sentence}")
    if unfinished:
        raise SystemExit(1)


def report(sweep: str, *, json: Json = None) -> None:
    """Write a sweep's observations, law and report again from its run directories."""
    from flows.output import emit
    from flows.report import finish_sweep
    from flows.tracking import Mirror

    with _refusals():
        settings, home = _open()
        planned = _find_plan(sweep, home)
    with _busy("fitting the law and writing the report"):
        written = finish_sweep(planned, home, Mirror(settings, home))
    if json is not None:
        emit(written.numbers, json)
    else:
        _print_verdict(planned, written, settings, home, None)


def runs(sweep: str | None = None, *, json: Json = None) -> None:
    """List the runs of a sweep, or of all sweeps, with what they reached."""
    from flows.observe import observations
    from flows.output import emit, table
    from flows.plan import read_plans
    from flows.rundir import RunDir
    from flows.status import run_state

    with _refusals():
        _, home = _open()
        plans = [_find_plan(sweep, home)] if sweep is not None else read_plans(home)
    rows = [row for planned in plans for row in observations(planned.runs, home)]
    if json is not None:
        emit(rows, json)
        return
    for row in rows:
        row["state"] = run_state(RunDir(home.runs / row["parent_run_id"]))
    header = ["sweep", "run", "id", "N", "D tokens", "C FLOPs", "loss nats/token", "state"]
    keys = [
        "sweep",
        "name",
        "parent_run_id",
        "n_params",
        "tokens",
        "train_flops",
        "val_loss",
        "state",
    ]
    shown = [[row[key] for key in keys] for row in rows]
    for line in shown:
        line[5] = f"{line[5]:.3g}"
        line[6] = "–" if line[6] is None else f"{line[6]:.4f}"
    table(f"{len(shown)} observations", header, shown)


def sync() -> None:
    """Write to MLflow whatever its mirror lacks; writing twice changes nothing."""
    from flows.plan import read_plans
    from flows.rundir import RunDir
    from flows.tracking import open_tracker

    with _refusals():
        settings, home = _open()
    tracker = open_tracker(settings, home)
    count = 0
    for planned in read_plans(home):
        for run in planned.runs:
            directory = RunDir(home.runs / run.id)
            if directory.path.exists():
                tracker.publish(directory, run)
                count += 1
    print(f"{count} runs are up to date in {settings.tracking_uri(home)}")


def _train_here(
    planned: "Plan", settings: "Settings", home: "Home", slots: list[dict[str, str]]
) -> "tuple[SweepReport, str]":
    """Run the sweep as a Prefect flow of this process; the trainings are its tasks."""
    from flows.here import prefect_here
    from flows.watch import TableWatcher

    with _failures(), prefect_here(settings, home, _say):
        from prefect import flow
        from prefect.runtime import flow_run
        from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
        from rich.console import Console

        from flows.dispatch import ChildProcesses
        from flows.sweep import run_sweep
        from flows.tracking import Mirror

        # A thread waits for each training, so as many train at once as there are threads.
        tasks: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=len(slots))
        mirror = Mirror(settings, home)
        dispatcher = ChildProcesses(home, planned.spec.placement, slots)

        @flow(
            name="sweep",
            flow_run_name=planned.spec.name,
            task_runner=tasks,
            persist_result=False,
        )
        def sweep_here() -> "tuple[SweepReport, str]":
            with TableWatcher(Console(stderr=True), home) as watcher:
                report = run_sweep(planned, home, mirror, dispatcher, watcher)
            return report, str(flow_run.id)

        try:
            return sweep_here()
        except KeyboardInterrupt:
            _say("stopped; the same command goes on where it was")
            raise SystemExit(130) from None


def _print_verdict(
    planned: "Plan",
    report: "SweepReport",
    settings: "Settings",
    home: "Home",
    flow_run: str | None,
) -> None:
    from flows.stack import server_answers
    from flows.tracking import Mirror

    chart = Mirror(settings, home).chart_path(planned.spec.name)
    print()
    print(report.verdict)
    print()
    print(f"report   {report.page.as_uri()}")
    print(f"MLflow   {settings.mlflow_address}{chart}")
    run_page = f"/runs/flow-run/{flow_run}" if flow_run else "/runs"
    print(f"Prefect  {settings.prefect_address}{run_page}")
    if not server_answers(settings):
        print("         (both pages are there after: isoflop up)")


def _open() -> "tuple[Settings, Home]":
    from flows.settings import Settings, open_home

    settings = Settings()
    return settings, open_home(settings)


def _load(spec: str, overrides: tuple[str, ...], corpus: str | None) -> "SweepSpec":
    import json as encoder

    from sweeps.load import load_spec

    if corpus is not None:
        source = {"kind": "files", "path": corpus}
        overrides = (f"corpus.sources={encoder.dumps([source])}", *overrides)
    return load_spec(spec, overrides)


def _find_plan(name: str, home: "Home") -> "Plan":
    from flows.plan import read_plans

    plans = {planned.spec.name: planned for planned in read_plans(home)}
    if name not in plans:
        known = ", ".join(plans) or "none yet"
        raise ValueError(f"no sweep {name!r} in {home.root}. Sweeps there: {known}.")
    return plans[name]


def _slots(spec: "SweepSpec | TuneSpec", asked: int | None) -> list[dict[str, str]]:
    """The environment of each slot: as many as asked or specified, else one a CPU or GPU."""
    from flows.settings import cpu_slots

    gpus = 0
    if spec.placement.device != "cpu":
        import torch

        gpus = torch.cuda.device_count()
    count = asked or spec.slots or gpus or cpu_slots()
    if gpus:
        return [{"CUDA_VISIBLE_DEVICES": str(number % gpus)} for number in range(count)]
    return [{"OMP_NUM_THREADS": str(spec.placement.threads or 1)}] * count


@contextmanager
def _failures() -> Iterator[None]:
    """A server that does not start, or a sweep that fails from the start, in one line; exit 1."""
    from flows.rundir import SweepFailedError
    from flows.servers import StackError

    try:
        yield
    except (StackError, SweepFailedError) as error:
        _say(f"isoflop: {error}")
        raise SystemExit(1) from None


@contextmanager
def _refusals() -> Iterator[None]:
    """Unusable input is told in one line; a bug keeps its traceback."""
    from flows.cli import fail

    try:
        yield
    except (ValueError, FileNotFoundError, PermissionError) as error:
        fail(" ".join(str(error).split()))


@contextmanager
def _busy(doing: str) -> Iterator[Callable[[str], None]]:
    """A turning line on standard error for what takes seconds; what it yields renames it."""
    from rich.console import Console

    with Console(stderr=True).status(doing) as status:
        yield status.update


def _say(line: str) -> None:
    print(line, file=sys.stderr)
