"""Write a study's table, laws and page from its trials, and mirror them to MLflow."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from optuna.trial import FrozenTrial

from analysis.table.observations import TableError
from analysis.tuning.answer import LrFit, fit_lr
from analysis.tuning.page import fit_lines, study_page
from analysis.tuning.study_law import StudyLaw
from analysis.tuning.trials import AXES
from analysis.words import rate
from flows.files import write_whole
from flows.mirror.publish import Mirror
from flows.runs.directory import RunDir, RunResult
from flows.runs.table import observations
from flows.settings import Home
from flows.tuning.ranges import study_ranges
from flows.tuning.study import Width
from llama_core.counting import count_params
from sweeps.spec import DataRef, PlannedRun
from sweeps.tune_spec import TuneSpec


@dataclass(frozen=True, slots=True)
class TuneReport:
    """Result of a study.

    Attributes:
        page: the HTML file.
        verdict: a few lines for a terminal.
        law: None without a fit.
        refusal: which trials the cap left out; empty if none.
    """

    page: Path
    verdict: str
    law: StudyLaw | None
    refusal: str = ""

    @property
    def document(self) -> dict[str, Any] | None:
        """The laws as `isoflop tune --json` prints them."""
        return self.law.document() if self.law else None


def finish_tune(
    spec: TuneSpec,
    data: DataRef,
    widths: Sequence[Width],
    runs: Sequence[tuple[FrozenTrial, PlannedRun]],
    home: Home,
    mirror: Mirror,
) -> TuneReport:
    """Write trials.csv, law.json and report.html into the study's folder, and mirror them."""
    folder = home.tunes / spec.name
    table = write_trials(runs, home, folder)
    fit: LrFit | None = None
    law: StudyLaw | None = None
    try:
        fit = fit_lr(table, ranges=study_ranges(spec))
        verdict = "\n".join(fit_lines(fit))
        law = StudyLaw.of(fit, study=spec.name, data=data.digest)
        write_whole(folder / "law.json", law.text())
    except TableError as error:
        verdict = f"No law: {error}"
        # A law of an earlier table must not stand beside a report that has none.
        (folder / "law.json").unlink(missing_ok=True)
    importances = {
        f"N = {count_params(width.model).n_params:,}": width.study.importances() for width in widths
    }
    page = study_page(spec.name, fit, verdict, table, importances)
    write_whole(folder / "report.html", page.html())
    planned = {run.id: run for _, run in runs}
    for run in planned.values():
        directory = RunDir(home.runs / run.id)
        if directory.path.exists():
            mirror.publish(directory, run)
    mirror.catch_up()
    mirror.log_study(spec.name, folder / "report.html", law.numbers() if law else {}, list(planned))
    return TuneReport(folder / "report.html", verdict, law)


def write_trials(
    runs: Sequence[tuple[FrozenTrial, PlannedRun]], home: Home, folder: Path
) -> pl.DataFrame:
    """Write `trial_table` into the study's folder as trials.csv."""
    table = trial_table(runs, home)
    write_whole(folder / "trials.csv", table.write_csv())
    return table


def trial_table(runs: Sequence[tuple[FrozenTrial, PlannedRun]], home: Home) -> pl.DataFrame:
    """One row for each trial and budget: parameters, loss, and why it is excluded from the fit.

    `lr` and `batch_tokens` are the trained values, after rounding to whole sequences.
    """
    rows = []
    for trial, run in runs:
        for row in observations([run], home):
            params = {name: trial.params.get(name) for name in AXES}
            params |= {"lr": row["lr"], "batch_tokens": float(row["batch_tokens"])}
            kept = ("n_params", "tokens", "val_loss", "status", "excluded_reason", "name")
            rows.append(
                {"trial": trial.number, "run": run.id, **{key: row[key] for key in kept}, **params}
            )
    columns = dict.fromkeys(AXES, pl.Float64) | {
        "val_loss": pl.Float64,
        "excluded_reason": pl.String,
    }
    table = pl.DataFrame(rows, schema_overrides=columns, infer_schema_length=None)
    return table.drop(name for name in AXES if table[name].is_null().all())


def trial_line(planned: PlannedRun, result: RunResult) -> str:
    """One line with a trial's settings and its losses, or its failure."""
    train = planned.run.train
    losses = ", ".join(f"{end.val_loss:.4f}" for end in result.observations)
    return (
        f"{planned.name}: lr {rate(train.optimizer.lr)}, batch {train.batch_tokens:,}: "
        f"{losses or f'{result.status}, {result.reason}'}"
    )
