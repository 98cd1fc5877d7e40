"""Commands tune and fit-lr."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.commands.common import (
    Json,
    Level,
    Report,
    failures,
    open_all,
    progress_shown,
    refusals,
    say,
    write_report,
)
from flows.commands.limits import UNLIMITED, Limits, refuse_idle
from flows.commands.options import Corpus, Mapping, Overrides, Slots, Statuses, TuneSpec
from flows.commands.plan import chosen_slots, load_study
from flows.commands.tables import column_mapping

if TYPE_CHECKING:
    from flows.dispatch.children import ChildProcesses
    from flows.tuning.report import TuneReport


def tune(
    spec: TuneSpec,
    /,
    *,
    set: Overrides = (),
    corpus: Corpus = None,
    trials: Annotated[int | None, Parameter(help="of each width, in total")] = None,
    slots: Slots = None,
    limits: Limits = UNLIMITED,
    json: Json = None,
) -> None:
    """Search learning rate and batch at small sizes, and fit their growth laws.

    The same command resumes an interrupted study; with
    more trials, the study grows. No trial starts that would exceed the cap.
    """
    with refusals():
        # Before torch and scipy are imported, so that a misspelt name is refused at once.
        refuse_idle(limits)
        of_trials = () if trials is None else (f"trials={trials}",)
        parsed = load_study(spec, (*set, *of_trials), corpus, limits)
        environments = chosen_slots(parsed, slots)
        parsed = parsed.model_copy(update={"slots": slots or parsed.slots})
        settings, home = open_all()

    from flows.commands.output import emit, print_wrapped
    from flows.cost.calibrate import CalibrationError
    from flows.dispatch.contract import SweepFailedError
    from flows.dispatch.in_this_process import run_in_this_process
    from flows.mirror.publish import Mirror
    from flows.stack.servers import StackError
    from flows.tuning.plan import prepare_tune, with_dtype
    from sweeps.spec import DataRef

    def prepare() -> "Callable[[ChildProcesses], TuneReport]":
        from flows.tune import run_tune

        with refusals(), progress_shown("looking for the corpus") as report_progress:
            resolved = with_dtype(parsed, home)
            data = DataRef(digest=prepare_tune(resolved, home, report_progress).digest)
        mirror = Mirror(settings, home)
        return lambda trainings: run_tune(resolved, data, settings, home, mirror, trainings, say)

    trainings = parsed.trials * len(parsed.ladder.widths)
    with failures(StackError, SweepFailedError, CalibrationError):
        report, _ = run_in_this_process(
            *("tune", parsed, environments, prepare),
            trainings=trainings,
            settings=settings,
            home=home,
            say=say,
        )
    if json is not None:
        emit(report.document, json)
    else:
        print_wrapped(report.verdict)
        print(f"report  {report.page.as_uri()}")
    if report.refusal:
        say(f"isoflop: {report.refusal} The whole study: isoflop plan {spec}")
    if report.document is None:
        say("isoflop: no law; see the report")
    if report.refusal or report.document is None:
        raise SystemExit(1)


def fit_lr(
    file: Annotated[
        str,
        Parameter(
            help="CSV, TSV, JSON, Parquet or Excel with N, D, lr, batch and loss, one row a "
            "finished trial; optuna:STUDY@STORAGE; mlflow:EXPERIMENT; or a folder of "
            "TensorBoard"
        ),
    ],
    /,
    *,
    mapping: Mapping = None,
    include_status: Statuses = None,
    level: Level = 0.9,
    json: Json = None,
    report: Report = None,
) -> None:
    """Fit the laws of learning rate and batch to a table of trials."""
    from flows.answers.source import open_table

    with refusals():
        table = open_table(file)

    from analysis.tuning.answer import fit_lr_table
    from analysis.tuning.page import fit_lines, study_page
    from analysis.tuning.study_law import FittedLaws
    from analysis.tuning.trials import read_lr_table
    from flows.commands.output import emit, print_wrapped

    with refusals():
        trials = read_lr_table(
            table,
            mapping=column_mapping(mapping or []),
            include_status=include_status or [],
        )
        laws = fit_lr_table(trials, level=level)
    lines = fit_lines(laws)
    if report is not None:
        write_report(study_page(Path(file).stem, laws, "\n".join(lines), laws.table, {}), report)
    if json is not None:
        emit(FittedLaws.of(laws).document(), json)
    else:
        print_wrapped("\n".join(lines))
