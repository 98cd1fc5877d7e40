"""Commands tune and fit-lr."""

import json as encoder
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from flows.commands.common import Json, busy, failures, open_all, refusals, say
from flows.commands.plan import Corpus, Overrides, Slots
from flows.files import write_whole

if TYPE_CHECKING:
    from flows.runs.directory import RunResult
    from flows.settings import Home, Settings
    from flows.tuning.report import TuneReport
    from sweeps.spec import DataRef, PlannedRun
    from sweeps.tune_spec import TuneSpec


def tune(
    spec: str,
    *,
    set: Overrides = (),
    corpus: Corpus = None,
    trials: Annotated[int | None, Parameter(help="for each width, in all")] = None,
    slots: Slots = None,
    json: Json = None,
) -> None:
    """Search learning rate and batch at small sizes, and fit the laws by which they grow.

    SPEC is a preset's name or a YAML file. Interrupted and called again, it goes on where it was;
    called with more trials, the study grows.
    """
    from flows.commands.output import check_destination, emit
    from flows.training.slots import slot_environments
    from flows.tuning.plan import prepare_tune
    from sweeps.load import load_tune_spec

    with refusals():
        settings, home = open_all()
        if corpus is not None:
            set = (
                f"corpus.sources={encoder.dumps([{'kind': 'files', 'path': corpus}])}",
                *set,
            )
        if trials is not None:
            set = (*set, f"trials={trials}")
        parsed = load_tune_spec(spec, set)
        if slots is not None and slots < 1:
            raise ValueError(f"--slots {slots} is less than one.")
        if json is not None:
            check_destination(json)
        environments = slot_environments(parsed, slots)
        with busy("looking for the corpus") as tell:
            data = prepare_tune(parsed, home, tell)
    report = _tune_here(parsed, data, settings, home, environments)
    if json is not None:
        emit(report.document, json)
    else:
        print(report.verdict)
        print(f"report  {report.page.as_uri()}")
    if report.document is None:
        say("isoflop: no law; see the report")
        raise SystemExit(1)


def fit_lr(
    file: str,
    *,
    mapping: Annotated[list[str] | None, Parameter(name="--map", negative="")] = None,
    level: float = 0.9,
    json: Json = None,
    report: Path | None = None,
) -> None:
    """Fit the laws of learning rate and batch to a table of trials.

    Args:
        file: CSV, TSV, Parquet or JSON with N, D, lr, batch and loss, one row a finished trial.
        mapping: HOUSE=THEIRS names a column, for example --map lr=peak_lr. Repeatable.
        level: of every interval.
        json: write JSON to this file, - for standard output.
        report: write an HTML page with every figure.
    """
    from analysis.tuning.answer import fit_lr as fit
    from analysis.tuning.answer import read_lr_table
    from analysis.tuning.page import fit_lines, study_page
    from flows.commands.common import fail
    from flows.commands.fit import column_mapping
    from flows.commands.output import check_destination, emit

    if not 0 < level < 1:
        fail(f"--level {level} must lie between 0 and 1, for example 0.9.")
    try:
        for destination in (json, str(report) if report is not None else None):
            if destination is not None:
                check_destination(destination)
        found = fit(read_lr_table(Path(file), mapping=column_mapping(mapping or [])), level=level)
    except ValueError as error:
        fail(str(error))
    lines = fit_lines(found)
    if report is not None:
        page = study_page(Path(file).stem, found, "\n".join(lines), found.table, {})
        write_whole(report, page.html())
        say(f"report: {report}")
    if json is not None:
        emit(found.as_json(), json)
    else:
        print("\n".join(lines))


class _LineWatcher:
    """A line for each trial that ends, on standard error."""

    def round(self, trials: int, missing: int) -> None:
        """Say how much there is to do."""
        found = trials - missing
        print(
            f"{trials} trials, {missing} to train" + (f", {found} found finished" if found else ""),
            file=sys.stderr,
        )

    def tick(self) -> None:
        """Nothing moves between lines."""

    def finished(self, planned: "PlannedRun", result: "RunResult") -> None:
        """Say what a trial reached."""
        from flows.tuning.watcher import trial_line

        print(f"  {trial_line(planned, result)}", file=sys.stderr)


def _tune_here(
    spec: "TuneSpec",
    data: "DataRef",
    settings: "Settings",
    home: "Home",
    slots: list[dict[str, str]],
) -> "TuneReport":
    """Run the study as a Prefect flow of this process; the trainings are its tasks."""
    from flows.dispatch.contract import SweepFailedError
    from flows.stack.servers import StackError
    from flows.stack.temporary_server import prefect_here

    with failures(StackError, SweepFailedError), prefect_here(settings, home, say):
        from prefect import flow
        from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

        from flows.dispatch.children import ChildProcesses
        from flows.mirror.publish import Mirror
        from flows.tune import run_tune

        tasks: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=len(slots))
        mirror = Mirror(settings, home)

        @flow(name="tune", flow_run_name=spec.name, task_runner=tasks, persist_result=False)
        def tune_here() -> "TuneReport":
            with ChildProcesses(home, spec.placement, slots) as trainings:
                return run_tune(spec, data, settings, home, mirror, trainings, _LineWatcher())

        try:
            return tune_here()
        except KeyboardInterrupt:
            say("stopped; the same command goes on where it was")
            raise SystemExit(130) from None
