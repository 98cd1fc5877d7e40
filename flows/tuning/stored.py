"""A study as its folder and its runs have it now; nothing here writes or imports Optuna."""

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from analysis.tuning.trials import AXES
from flows.files import read_record
from flows.runs.directory import RunDir
from flows.runs.table import observations
from flows.settings import Home
from sweeps.spec import PlannedRun
from sweeps.tune_spec import TuneSpec

_TYPES = {
    "trial": pl.Int64(),
    "run": pl.String(),
    "n_params": pl.Int64(),
    "tokens": pl.Int64(),
    "val_loss": pl.Float64(),
    "status": pl.String(),
    "excluded_reason": pl.String(),
    "name": pl.String(),
}


def read_study(name: str, home: Home) -> tuple[TuneSpec, pl.DataFrame]:
    """A study's spec, and its trials with every loss that their runs have recorded.

    Raises:
        ValueError: there is no such study, or its spec is damaged.
    """
    folder = home.tunes / name
    spec, trials = read_study_spec(folder), read_trials(folder)
    if spec is None:
        raise ValueError(f"no study {name!r} in {home.root}, or its spec.json is damaged.")
    return spec, trials_now(trials, home)


def read_study_spec(folder: Path) -> TuneSpec | None:
    """The spec in a study's folder; None where there is none, or a damaged one."""
    return read_record(folder / "spec.json", TuneSpec)


def read_trials(folder: Path) -> pl.DataFrame:
    """The trials as they were last written, see `flows.tuning.report.trial_table`; maybe none."""
    path = folder / "trials.csv"
    types = _TYPES | dict.fromkeys(AXES, pl.Float64())
    try:
        names = pl.read_csv(path, n_rows=0).columns
        known = {column: types[column] for column in names if column in types}
        return pl.read_csv(path, schema_overrides=known, glob=False)
    except (OSError, pl.exceptions.PolarsError):
        return pl.DataFrame(schema=_TYPES)


def trials_now(trials: pl.DataFrame, home: Home) -> pl.DataFrame:
    """The trials with the states and losses that their runs have now."""
    unsettled = trials.filter(~pl.col("status").is_in(["finished", "diverged"]))
    runs = begun(unsettled["run"].unique(maintain_order=True), home)
    now = {(row["parent_run_id"], row["tokens"]): row for row in observations(runs, home)}
    rows = []
    for row in trials.iter_rows(named=True):
        newer = now.get((row["run"], row["tokens"]))
        if newer is not None:
            row |= {key: newer[key] for key in ("val_loss", "status", "excluded_reason")}
        rows.append(row)
    return pl.DataFrame(rows, schema=trials.schema)


def begun(ids: Iterable[str], home: Home) -> list[PlannedRun]:
    """The runs of these ids whose folders are there; a proposed trial has none before it starts."""
    runs = []
    for each in ids:
        try:
            runs.append(RunDir(home.runs / each).planned())
        except (OSError, ValueError):
            continue
    return runs
