"""Commands plan, sweep, cancel, report, runs, sync."""

import os
import signal
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from flows.commands.common import Json, busy, failures, find_plan, open_all, refusals, say
from flows.commands.limits import UNLIMITED, Limits, refuse_idle
from flows.commands.plan import Corpus, Overrides, Slots, chosen_slots, load
from flows.commands.results import print_verdict

if TYPE_CHECKING:
    from flows.cost.ledger import CappedSweep
    from flows.results.report import SweepReport
    from flows.settings import Home, Settings
    from sweeps.plan import Plan


MaxFailures = Annotated[
    int | None, Parameter(help="stop when more trainings than this failed or diverged")
]
FailFast = Annotated[bool, Parameter(negative="", help="stop at the first: --max-failures 0")]


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
    from flows.commands.output import check_destination, emit
    from flows.commands.plan_text import print_plan
    from flows.cost.calibrate import CalibrationError
    from flows.cost.ledger import capped
    from flows.mirror.publish import Mirror
    from flows.plans.plan import make_plan
    from flows.results.report import finish_sweep
    from flows.runs.state import missing, not_finished

    with refusals():
        refuse_idle(limits)
        settings, home = open_all()
        parsed = load(spec, set, corpus, limits)
        with busy("looking for the corpus") as tell:
            planned, prepared = make_plan(parsed, home, tell)
        environments = chosen_slots(parsed, slots, UNLIMITED)
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
        print_verdict(planned, report, settings, home, flow_run)
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
    from flows.dispatch.cancel import asked_for
    from flows.dispatch.cancel import cancel as stop
    from flows.stack.servers import server_answers

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
    from flows.dispatch.contract import SweepFailedError
    from flows.stack.servers import StackError
    from flows.stack.temporary_server import prefect_here, process_tag
    from flows.watch.terminal import TableWatcher
    from flows.watch.watcher import Together

    say(f"live     {(home.sweeps / planned.spec.name / 'live.html').as_uri()}")
    with failures(StackError, SweepFailedError), prefect_here(settings, home, say):
        from prefect import flow, tags
        from prefect.runtime import flow_run
        from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
        from rich.console import Console

        from flows.dispatch.children import ChildProcesses
        from flows.mirror.publish import Mirror
        from flows.sweep import run_sweep
        from flows.watch.in_prefect import ArtifactWatcher
        from flows.watch.page import LivePage

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


def _most_failures(most: int | None, fail_fast: bool) -> int | None:
    if most is not None and most < 0:
        raise ValueError(f"--max-failures {most} is less than zero.")
    if fail_fast and most:
        raise ValueError(f"--fail-fast allows no failure, --max-failures {most} does; give one.")
    return 0 if fail_fast else most
