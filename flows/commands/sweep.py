"""Commands sweep and cancel."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from flows.commands.common import (
    Json,
    busy,
    failures,
    open_all,
    progress_shown,
    refusals,
    say,
)
from flows.commands.limits import UNLIMITED, Limits, refuse_idle
from flows.commands.options import (
    Corpus,
    Overrides,
    Slots,
    Spec,
    study_names,
    sweep_names,
)
from flows.commands.plan import chosen_slots, load, needs_a_gpu
from flows.commands.results import print_verdict

if TYPE_CHECKING:
    from flows.dispatch.children import ChildProcesses
    from flows.results.report import SweepReport
    from flows.settings import Home, Settings
    from sweeps.plan import Plan


Started = Annotated[
    str,
    Parameter(
        help="of the sweep or study",
        completer=lambda context: [*sweep_names(context), *study_names(context)],
    ),
]
MaxFailures = Annotated[
    int | None, Parameter(help="stop when more trainings than this failed or diverged")
]
FailFast = Annotated[bool, Parameter(help="stop at the first: --max-failures 0")]
Design = Annotated[
    Literal["next"] | None,
    Parameter(help="next: of the grid only the cells that sharpen the forecast, in rounds"),
]
TargetFlops = Annotated[
    float | None,
    Parameter(help="of --design: 6·N·D at which N* is to be sure; ten times the grid's largest"),
]


def sweep(
    spec: Spec,
    /,
    *,
    set: Overrides = (),
    corpus: Corpus = None,
    slots: Slots = None,
    limits: Limits = UNLIMITED,
    design: Design = None,
    target_flops: TargetFlops = None,
    max_failures: MaxFailures = None,
    fail_fast: FailFast = False,
    json: Json = None,
) -> None:
    """Plan a sweep, train what is missing in child processes, fit its law and write its report.

    The same command resumes an interrupted sweep.
    No run starts that would exceed the cap; the same command with a larger cap trains the rest.
    """
    from sweeps.load import design_overrides

    with refusals():
        # Before torch and scipy are imported, so that what cannot be done is refused at once.
        refuse_idle(limits)
        most = most_failures(max_failures, fail_fast)
        parsed = load(spec, (*set, *design_overrides(design, target_flops)), corpus, limits)
        environments = chosen_slots(parsed, slots)
        settings, home = open_all()

    from flows.commands.output import emit
    from flows.commands.planned.text import print_plan
    from flows.cost.calibrate import CalibrationError
    from flows.cost.ledger import capped
    from flows.mirror.publish import Mirror
    from flows.plans.plan import make_plan
    from flows.plans.stored import write_plan
    from flows.results.report import finish_sweep
    from flows.runs.state import missing
    from llama_core.corpus.documents import CorpusError

    with refusals():
        if needs_a_gpu(parsed):
            raise ValueError(
                f"placement.device={parsed.placement.device}, and this machine has no GPU. Train "
                f"on workers that have: prefect deployment run sweep/chinchilla -p spec={spec}"
            )
        with progress_shown("looking for the corpus") as report_progress:
            planned, prepared = make_plan(parsed, home, report_progress)
        with progress_shown("adding up what the sweep may cost"), failures(CalibrationError):
            # Times every shape, so that the sweep itself only reads the timings.
            capped(planned, home, environments)
    if json is None:
        print_plan(planned, prepared, home, cost=None)
    if parsed.design is not None:
        say("these are the candidates: cells are chosen among them round by round")
    if missing(planned.runs, home):
        report, flow_run = _train_here(planned, settings, home, environments, max_failures=most)
    else:
        say("every run of this sweep is finished")
        write_plan(planned, home)
        with progress_shown("fitting the law and writing the report"), failures(CorpusError):
            report, flow_run = finish_sweep(planned, home, Mirror(settings, home)), None
    if json is not None:
        emit(report.document, json)
    else:
        print_verdict(planned, report, settings, home, flow_run)
    for sentence in report.unfinished:
        say(f"isoflop: {sentence}")
    if report.no_law:
        say("isoflop: no law; see the report")
    if report.unfinished or report.no_law:
        raise SystemExit(1)


def cancel(name: Started, /) -> None:
    """Stop a sweep or study that runs in another terminal or on workers.

    Queued runs end first; running ones write a checkpoint. The command that started it
    resumes it.
    """
    from flows.plans.find import sweeps_there
    from flows.stack.servers import server_answers

    with refusals():
        settings, home = open_all()
        server = server_answers(settings)
        sweeps = sorted(path.parent.name for path in home.sweeps.glob("*/plan.json"))
        studies = sorted(path.parent.name for path in home.tunes.glob("*/spec.json"))
        known = name in (*sweeps, *studies)
        if not known and server:
            # Only here: Prefect's import takes seconds.
            from flows.dispatch.cancel import is_requested

            known = is_requested(name, settings)
        if not known:
            raise ValueError(
                f"no sweep {name!r} and no study of that name in {home.root}. "
                f"{sweeps_there(name, sweeps)} Studies: {', '.join(studies) or 'none yet'}."
            )
    from flows.dispatch.cancel import cancel as stop

    with busy(f"stopping {name}"):
        folders = (home.sweeps / name, home.tunes / name)
        stopped = stop(name, folders, settings, server=server)
    if stopped.left:
        say(f"isoflop: still running: {', '.join(stopped.left)}")
        raise SystemExit(1)
    if not stopped.processes and not stopped.flow_runs:
        print(f"nothing of {name} was running")
    else:
        counts = f"processes here: {stopped.processes}, flow runs: {stopped.flow_runs}"
        print(f"stopped {name} ({counts})")


def _train_here(
    planned: "Plan",
    settings: "Settings",
    home: "Home",
    slots: list[dict[str, str]],
    *,
    max_failures: int | None,
) -> "tuple[SweepReport, str]":
    from flows.cost.calibrate import CalibrationError
    from flows.cost.ledger import capped
    from flows.dispatch.contract import SweepFailedError
    from flows.dispatch.in_this_process import run_in_this_process
    from flows.runs.state import missing
    from flows.stack.servers import StackError

    def prepare() -> "Callable[[ChildProcesses], SweepReport]":
        from rich.console import Console

        from flows.sweep import watched_sweep
        from flows.watch.terminal import TableWatcher

        def body(trainings: "ChildProcesses") -> "SweepReport":
            with TableWatcher(Console(stderr=True), home) as table:
                cap = partial(capped, home=home, slots=slots)
                return watched_sweep(
                    planned, settings, home, trainings, [table], cap=cap, max_failures=max_failures
                )

        return body

    say(f"live     {(home.sweeps / planned.spec.name / 'live.html').as_uri()}")
    with failures(StackError, SweepFailedError, CalibrationError):
        return run_in_this_process(
            *("sweep", planned.spec, slots, prepare),
            trainings=len(missing(planned.runs, home)),
            settings=settings,
            home=home,
            say=say,
        )


def most_failures(max_failures: int | None, fail_fast: bool) -> int | None:
    """How many trainings may fail; refuses options that contradict each other."""
    if max_failures is not None and max_failures < 0:
        raise ValueError(f"--max-failures {max_failures} is less than zero.")
    if fail_fast and max_failures:
        raise ValueError(
            f"--fail-fast allows no failure, --max-failures {max_failures} does; give one."
        )
    return 0 if fail_fast else max_failures
