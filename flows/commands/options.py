"""Arguments and options that commands share, their sections of `--help`, and their completion.

A shell asks for names at each TAB: what they come from is read here without the libraries that
the commands need.
"""

import json
import os
from collections.abc import Iterator
from glob import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from analysis.published_names import published_names

if TYPE_CHECKING:
    from cyclopts.completion import CompletionContext

GOAL = Group.create_ordered("One goal")
DEMAND = Group.create_ordered("Tokens served over its life")
ROWS = Group.create_ordered("Which rows")
FIT = Group.create_ordered("The law and its intervals")
RECORDS = Group.create_ordered("Forecasts that are kept")
SERVING = Group.create_ordered("Serving")
COST = Group.create_ordered("Cost")
OUTPUT = Group.create_ordered("Output")

_TABLES = ("*.csv", "*.tsv", "*.json", "*.jsonl", "*.parquet", "*.xlsx", "*.md")


def sweep_names(_: "CompletionContext") -> list[str]:
    """Sweeps of the home."""
    return sorted(path.parent.name for path in _home().glob("sweeps/*/plan.json"))


def study_names(_: "CompletionContext") -> list[str]:
    """Studies of the home."""
    return sorted(path.parent.name for path in _home().glob("tunes/*/spec.json"))


def forecast_names(_: "CompletionContext") -> list[str]:
    """Registered forecasts of the home."""
    return sorted(path.stem for path in _home().glob("forecasts/*.json"))


def run_names(context: "CompletionContext") -> Iterator[str]:
    """SWEEP/NAME of a sweep that is named or stands alone, else its sweeps; ids once one begins."""
    typed = context.incomplete
    sweeps = [name for name in sweep_names(context) if f"{name}/".startswith(typed.split("/")[0])]
    if len(sweeps) == 1 or "/" in typed:
        for sweep in sweeps:
            plan = json.loads((_home() / "sweeps" / sweep / "plan.json").read_bytes())
            yield from sorted({f"{sweep}/{run['name']}" for run in plan["runs"]})
    else:
        yield from (f"{name}/" for name in sweeps)
    if typed and "/" not in typed:
        yield from sorted(path.name for path in (_home() / "runs").glob(f"{escape(typed)}*"))


def spec_names(context: "CompletionContext") -> list[str]:
    """Presets of sweeps, and YAML files."""
    return [*_presets(), *_files(context, "*.yaml", "*.yml")]


def tune_names(context: "CompletionContext") -> list[str]:
    """Presets of studies, and YAML files."""
    return [*_presets("tune"), *_files(context, "*.yaml", "*.yml")]


def table_names(context: "CompletionContext") -> list[str]:
    """Sweeps of the home, and files that may hold a table."""
    return [*sweep_names(context), *_files(context, *_TABLES)]


def law_names(context: "CompletionContext") -> list[str]:
    """Published laws, sweeps of the home, and files that may hold a table or a law."""
    return [*published_names("laws"), *table_names(context)]


def gpu_names(_: "CompletionContext") -> list[str]:
    """GPUs whose figures are listed."""
    return published_names("devices", "aliases")


def _home() -> Path:
    """ISOFLOP_HOME, as the settings read it."""
    return Path(os.environ.get("ISOFLOP_HOME", ".isoflop")).expanduser()


def _presets(*kind: str) -> list[str]:
    folder = files("sweeps").joinpath("presets", *kind)
    names = (entry.name for entry in folder.iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def _files(context: "CompletionContext", *patterns: str) -> list[str]:
    """Files of these names, and folders, that begin as what is typed."""
    folder, _, start = context.incomplete.rpartition("/")
    root = Path(folder or ("/" if context.incomplete.startswith("/") else "."))
    lead = context.incomplete.removesuffix(start)
    names = {path.name for pattern in patterns for path in root.expanduser().glob(pattern)}
    names |= {f"{path.name}/" for path in root.expanduser().glob("*/")}
    return sorted(f"{lead}{name}" for name in names if name.startswith(start))


Spec = Annotated[
    str, Parameter(help="a preset, such as chinchilla, or a YAML file", completer=spec_names)
]
AnySpec = Annotated[
    str,
    Parameter(
        help="a preset, such as chinchilla or lr-batch, or a YAML file",
        completer=lambda context: [*_presets("tune"), *spec_names(context)],
    ),
]
TuneSpec = Annotated[
    str, Parameter(help="a preset, such as lr-batch, or a YAML file", completer=tune_names)
]
TableName = Annotated[
    str,
    Parameter(
        help="CSV, TSV, JSON, Parquet or Excel, one row a finished run; the name of a sweep; "
        "mlflow:EXPERIMENT; optuna:STUDY@STORAGE; or a folder of TensorBoard",
        completer=table_names,
    ),
]
SweepName = Annotated[str, Parameter(help="its name", completer=sweep_names)]
RunName = Annotated[
    str,
    Parameter(
        help="id of a run, the beginning of one, its name, or SWEEP/NAME", completer=run_names
    ),
]
Overrides = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set",
        help="override a setting, for example 'grid.budgets=[1e12]'; repeatable",
    ),
]
Corpus = Annotated[str | None, Parameter(help="file or folder of text, JSON or Parquet")]
Slots = Annotated[int | None, Parameter(help="trainings that run at the same time")]

Where = Annotated[
    list[str] | None,
    Parameter(
        group=ROWS,
        help="polars SQL filter, for example 'tokens > 1e9 AND lr < 0.01'; repeatable, and a row "
        "must meet all",
    ),
]
By = Annotated[str | None, Parameter(group=ROWS, help="column: one law for each of its values")]
Mapping = Annotated[
    list[str] | None,
    Parameter(
        name="--map",
        group=ROWS,
        help="NAME=COLUMN, isoflop's name for the column and the file's, or arithmetic of columns: "
        "--map val_loss=eval_nll, --map 'tokens=steps*batch*2048'; repeatable",
    ),
]
Statuses = Annotated[
    list[str] | None,
    Parameter(
        group=ROWS,
        help="take rows of this status too: --include-status crashed; repeatable",
    ),
]
BestOf = Annotated[
    str | None,
    Parameter(
        group=ROWS,
        help="columns: of models with one N and D use only those with the best value: "
        "--best-of lr,batch",
    ),
]
Pool = Annotated[
    bool,
    Parameter(
        group=ROWS,
        help="take rows of several experiments, or of several settings for one N and D, together",
    ),
]
Bootstrap = Annotated[int, Parameter(group=FIT, help="resamples behind every interval")]
