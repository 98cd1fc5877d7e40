"""What the rows of a table are: finished or not, checkpoints of a run, the same run twice."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from analysis.table.observations import Table, name_words, words_of
from analysis.table.states import exclude_unfinished

# A column that names runs has one of these words, and else only the other ones.
_RUN_WORDS = words_of(
    "run runs runid runname name id uuid guid exp experiment job trial training trajectory"
)
_OTHER_WORDS = words_of("""
    key number no nr num index idx slug title wandb mlflow neptune comet slurm optuna sys info
    tags tag attributes params config display full unique path dir folder group base parent
    """)
_COUNTS = {"k": 1e3, "m": 1e6, "b": 1e9}
NEAR = 1e-4  # relative difference below which two rows count as the same run read twice


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Two rows of one run; `exact` when N, D and loss are equal to the last digit."""

    row: int
    of: int
    exact: bool


def own_table(frame: pl.DataFrame) -> Table:
    """The table of our own runs, from a frame with the columns of `SCHEMA`."""
    return Table(numbered(frame), "n_params", "train_flops", "nats_per_token")


def numbered(frame: pl.DataFrame, include_status: Sequence[str] = ()) -> pl.DataFrame:
    """The frame with `row` counted from 0, and an `excluded_reason` for every unfinished run.

    Args:
        include_status: states whose rows are used all the same; see `exclude_unfinished`.

    Raises:
        TableError: see `exclude_unfinished`.
    """
    frame = frame.drop("row", strict=False).with_row_index("row").cast({"row": pl.Int64})
    if "excluded_reason" not in frame.columns:
        frame = frame.with_columns(pl.lit(None, pl.String).alias("excluded_reason"))
    return exclude_unfinished(frame, include_status)


def run_column(used: pl.DataFrame) -> str | None:
    """The column by which several rows belong to one run; None when every row is its own run.

    `parent_run_id` and `run_id` are taken at their word. Any other column is taken by its name
    and by its values: they repeat, and the rows of one have one N and different D.
    """
    for name in ("parent_run_id", "run_id"):
        if name in used.columns and used[name].null_count() < used.height:
            return name if _repeats(used[name]) or name == "parent_run_id" else None
    names = [name for name in used.columns if _names_runs(name)]
    # A name that says "run" goes before one that may be a model's or a person's.
    for name in sorted(names, key=lambda name: not _says_run(name)):
        if _says_run(name) and used[name].n_unique() == used.height:
            return None
        if _repeats(used[name]) and _holds_curves(used, name):
            return name
    return None


def runs_of(used: pl.DataFrame) -> pl.Series | None:
    """For each row the run it belongs to; None when every row is a run of its own."""
    name = run_column(used)
    if name is None:
        return None
    names = [name, "run_id"] if name == "parent_run_id" and "run_id" in used.columns else [name]
    runs = used.select(pl.coalesce(names).alias("run"))["run"]
    return runs if _repeats(runs) else None


def clusters_of(used: pl.DataFrame) -> NDArray[np.intp] | None:
    """For each row the number of its training; None when every row is a training of its own."""
    runs = runs_of(used)
    return None if runs is None else runs.rank("dense").to_numpy().astype(np.intp) - 1


def duplicates(used: pl.DataFrame) -> list[Duplicate]:
    """Rows whose N, D and loss repeat an earlier row's, exactly or to within `NEAR`."""
    logs = np.log(used.select("n_params", "tokens", "val_loss").to_numpy().astype(float))
    rows = used["row"].to_list()
    _, firsts, group = np.unique(logs, axis=0, return_index=True, return_inverse=True)
    first = firsts[group.ravel()]
    pairs = {k: Duplicate(rows[k], rows[i], True) for k, i in enumerate(first) if i != k}
    # Equal rows are one point, so that a table of many copies has few pairs.
    for a, b in cKDTree(logs[firsts]).query_pairs(NEAR, p=np.inf):
        early, late = sorted((int(firsts[a]), int(firsts[b])))
        if late not in pairs or rows[early] < pairs[late].of:
            pairs[late] = Duplicate(rows[late], rows[early], False)
    return [pairs[k] for k in sorted(pairs)]


def _names_runs(name: str) -> bool:
    words = set(name_words(name))
    return bool(words & _RUN_WORDS) and words <= _RUN_WORDS | _OTHER_WORDS


def _says_run(name: str) -> bool:
    return bool({"run", "runs", "runid", "runname", "uuid"} & set(name_words(name)))


def _repeats(runs: pl.Series) -> bool:
    return not runs.null_count() and 2 <= runs.n_unique() < len(runs)


def _holds_curves(used: pl.DataFrame, name: str) -> bool:
    """Whether the rows of each value are one model at different D, and the value not its size."""
    runs = used.group_by(name).agg(
        sizes=pl.col("n_params").n_unique(),
        points=pl.col("tokens").n_unique(),
        N=pl.col("n_params").first(),
    )
    if (runs["sizes"] > 1).any() or runs["points"].sum() < 0.9 * used.height:
        return False
    if runs["points"].max() == 1:
        return False
    labels = zip(runs[name].cast(pl.String), runs["N"], strict=True)
    return _says_run(name) or not all(_is_size(label, N) for label, N in labels)


def _is_size(label: str, N: float) -> bool:
    """Whether a label as "150M" or "llama-1.3b" writes the number of parameters."""
    sizes = re.findall(r"(\d+(?:\.\d+)?)\s*([kmb])(?![a-z])", label.lower())
    return any(2 / 3 < float(number) * _COUNTS[unit] / N < 1.5 for number, unit in sizes)
