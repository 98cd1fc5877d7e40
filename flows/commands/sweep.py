"""Commands plan, sweep, cancel, report, runs, sync."""

import os
import signal
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from flows.commands.common import Json, busy, failures, find_plan, open_all, refusals, say
from flows.commands.limits import UNLIMITED, Limits, cap_of, refuse_idle, speed_of

if TYPE_CHECKING:
    from flows.ledger import CappedSweep
    from flows.report import SweepReport
    from flows.settings import Home, Settings
    from sweeps.plan import Plan
    from sweeps.spec import SweepSpec

Overrides = Annotated[
    tuple[str, ...],
    Parameter(name="--set", help="override of a setting, as in grid.budgets=[1e12]"),
]
Corpus = Annotated[str | None, Parameter(help="file or folder of text, JSONL or Parquet")]
Slots = Annotated[int | None, Parameter(help="trainings at once")]
MaxFailures = Annotated[
    int | None, Parameter(help="stop when more trainings than this failed or diverged")
]
FailFast = Annotated[bool, Parameter(negative="", help="stop at the first: --max-failures 0")]


def plan(
    spec: str,
    *,
    set: Overrides = (),
    corpus: Corpus = None,
    slots: Slots = None,
    limits: Limits = UNLIMITED,
    json: Json = None,
) -> None:
    """Show every run of a sweep with N, D, C, learning rate, time and cost; nothing is trained.

    SPEC is a preset's name or a YAML file. The first plan on a corpus prepares it.
    """
    from flows.calibrate import CalibrationError
    from flows.output import check_destination, emit
    from flows.plan import make_plan
    from flows.plan_table import plan_json, print_plan
    from flows.quote import quote

    with refusals():
        _, home = open_all()
        parsed = _load(spec, set, corpus, limits)
        environments = _slots(parsed, slots, limits)
        if json is not None:
            check_destination(json)
        with busy("looking for the corpus") as tell:
            planned, prepared = make_plan(parsed, home, tell)
        doing = "timing every shape on this machine" if limits.gpu is None else "adding up"
        with busy(doing), failures(CalibrationError):
            cost = quote(
                planned, home, environments, speed=speed_of(limits), usd_per_hour=limits.price
            )
    if json is not None:
        emit(plan_json(planned, prepared, cost, home), json)
    else:
        print_plan(planned, prepared, home, cost=cost)


def sweep(
    spec: str,
    *,
    set: Overrides = (),
    corpus: Corpus = None,
    slots: Slots = None,
    limits: Limits = UNLIMITED,
    max_failures: MaxFailures = None,
    fail_fast: FailFast = False,
    json: Json = None,
) -> None:
    """Plan a sweep, train what is missing in child processes, fit its law and write its report.

    SPEC is a preset's name or a YAML file. Interrupted and called again, it goes on where it was.
    Under a cap no run is started that would exceed it; with a larger one it goes on.
    """
    from flows.calibrate import CalibrationError
    from flows.ledger import capped
    from flows.mirror import Mirror
    from flows.observe import missing, not_finished
    from flows.output import check_destination, emit
    from flows.plan import make_plan
    from flows.plan_table import print_plan
    from flows.report import finish_sweep

    with refusals():
        refuse_idle(limits)
        settings, home = open_all()
        parsed = _load(spec, set, corpus, limits)
        with busy("looking for the corpus") as tell:
            planned, prepared = make_plan(parsed, home, tell)
        environments = _slots(parsed, slots, UNLIMITED)
        if json is not None:
            check_destination(json)
        most = _most_failures(max_failures, fail_fast)
        with busy("adding up what the sweep may cost"), failures(CalibrationError):
            cap = capped(planned, home, environments)
    if json is None:
        print_plan(planned, prepared, home, cost=None)
    if missing(planned.runs, home):
        report, flow_run = _train_here(
            planned, settings, home, environments, cap=cap, max_failures=most
        )
    else:
        say("every run of this sweep is finished")
        with busy("fitting the law and writing the report"):
            report, flow_run = finish_sweep(planned, home, Mirror(settings, home)), None
    if json is not None:
        emit(report.numbers, json)
    else:
        _print_verdict(planned, report, settings, home, flow_run)
    unfinished = not_finished(planned, home)
    refusal = cap.refusal() if cap is not None else None
    for sentence in unfinished if refusal is None else [*unfinished, refusal]:
        say(f"isoflop: {sentence}")
    if unfinished:
        raise SystemExit(1)


def cancel(sweep: str) -> None:
    """Stop a sweep that runs in another terminal or on workers; called again it goes on.

    Queued runs end first; running ones write a checkpoint.
    """
    from flows.cancel import asked_for
    from flows.cancel import cancel as stop
    from flows.stack import server_answers

    with refusals():
        settings, home = open_all()
        server = server_answers(settings)
        if not (server and asked_for(sweep, settings)):
            find_plan(sweep, home)
    with busy(f"stopping {sweep}"):
        done = stop(sweep, home.sweeps / sweep, settings, server=server)
    if done.left:
        say(f"isoflop: still there after a minute: {', '.join(done.left)}")
        raise SystemExit(1)
    if not done.processes and not done.flow_runs:
        print(f"nothing of {sweep} was running")
    else:
        print(f"stopped {sweep} (processes here: {done.processes}, flow runs: {done.flow_runs})")


def report(sweep: str, *, json: Json = None) -> None:
    """Write a sweep's observations, law and report again from its run directories."""
    from flows.mirror import Mirror
    from flows.output import emit
    from flows.report import finish_sweep

    with refusals():
        settings, home = open_all()
        planned = find_plan(sweep, home)
    with busy("fitting the law and writing the report"):
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

    with refusals():
        _, home = open_all()
        plans = [find_plan(sweep, home)] if sweep is not None else read_plans(home)
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
    from flows.settings import masked
    from flows.sync import sync_all
    from flows.tracking import mirror_error

    with refusals():
        settings, home = open_all()
    where = masked(settings.tracking_uri(home))
    try:
        count = sync_all(settings, home)
    except mirror_error() as error:
        reason = str(error).partition("\n")[0][:200]
        say(f"isoflop: MLflow at {where} cannot be written ({reason}). Try: isoflop doctor")
        raise SystemExit(1) from None
    print(f"{count} runs are up to date in {where}")


def _train_here(
    planned: "Plan",
    settings: "Settings",
    home: "Home",
    slots: list[dict[str, str]],
    *,
    cap: "CappedSweep | None",
    max_failures: int | None,
) -> "tuple[SweepReport, str]":
    """Run the sweep as a Prefect flow of this process; the trainings are its tasks."""
    from flows.here import prefect_here, process_tag
    from flows.rundir import SweepFailedError
    from flows.servers import StackError
    from flows.watch import TableWatcher, Together

    say(f"live     {(home.sweeps / planned.spec.name / 'live.html').as_uri()}")
    with failures(StackError, SweepFailedError), prefect_here(settings, home, say):
        from prefect import flow, tags
        from prefect.runtime import flow_run
        from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
        from rich.console import Console

        from flows.artifact import ArtifactWatcher
        from flows.dispatch import ChildProcesses
        from flows.live import LivePage
        from flows.mirror import Mirror
        from flows.sweep import run_sweep

        # A thread waits for each training, so as many train at once as there are threads.
        tasks: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=len(slots))
        mirror = Mirror(settings, home)

        @flow(
            name="sweep",
            flow_run_name=planned.spec.name,
            task_runner=tasks,
            persist_result=False,
        )
        def sweep_here() -> "tuple[SweepReport, str]":
            table = TableWatcher(Console(stderr=True), home)
            trainings = ChildProcesses(home, planned.spec.placement, slots)
            with table, LivePage(home) as page, ArtifactWatcher(home) as artifact, trainings:
                watcher = Together(table, page, artifact)
                report = run_sweep(
                    planned,
                    home,
                    mirror,
                    trainings,
                    watcher,
                    cap=cap,
                    max_failures=max_failures,
                )
            return report, str(flow_run.id)

        # A node that is taken away says so by SIGTERM; it stops a sweep as Ctrl-C does.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            with tags(process_tag(os.getpid())):
                return sweep_here()
        except KeyboardInterrupt:
            say("stopped; the same command goes on where it was")
            raise SystemExit(130) from None


def _print_verdict(
    planned: "Plan",
    report: "SweepReport",
    settings: "Settings",
    home: "Home",
    flow_run: str | None,
) -> None:
    from flows.mirror import Mirror
    from flows.stack import server_answers

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


def _load(spec: str, overrides: tuple[str, ...], corpus: str | None, limits: Limits) -> "SweepSpec":
    import json as encoder

    from sweeps.load import load_spec

    if corpus is not None:
        source = {"kind": "files", "path": corpus}
        overrides = (f"corpus.sources={encoder.dumps([source])}", *overrides)
    parsed = load_spec(spec, overrides)
    cap = cap_of(limits)
    return parsed if cap is None else parsed.model_copy(update={"cap": cap})


def _slots(spec: "SweepSpec", asked: int | None, limits: Limits) -> list[dict[str, str]]:
    """The environment of each slot; one, unless asked for more, of a GPU that is not here."""
    from flows.slots import slot_environments

    if asked is not None and asked < 1:
        raise ValueError(f"--slots {asked} is less than one.")
    if limits.gpu is not None:
        return [{}] * (asked or spec.slots or 1)
    return slot_environments(spec, asked)


def _most_failures(most: int | None, fail_fast: bool) -> int | None:
    if most is not None and most < 0:
        raise ValueError(f"--max-failures {most} is less than zero.")
    if fail_fast and most:
        raise ValueError(f"--fail-fast allows no failure, --max-failures {most} does; give one.")
    return 0 if fail_fast else most
