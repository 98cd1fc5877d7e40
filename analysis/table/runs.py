"""What the rows of a table are: finished or not, the same run twice, several experiments."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from analysis.table.observations import Table, plain

# Text columns whose several values mean several laws.
GROUPING = (
    "experiment",
    "group",
    "dataset",
    "corpus",
    "data",
    "family",
    "architecture",
    "arch",
    "sweep",
    "series",
    "suite",
    "tokenizer",
)
_FINISHED = ("finished", "completed", "complete", "done", "ok", "success", "succeeded")
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


def numbered(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with `row` counted from 0, and an `excluded_reason` for every unfinished run."""
    frame = frame.drop("row", strict=False).with_row_index("row").cast({"row": pl.Int64})
    if "excluded_reason" not in frame.columns:
        frame = frame.with_columns(pl.lit(None, pl.String).alias("excluded_reason"))
    if frame.schema.get("status") != pl.String:
        return frame
    finished = pl.col("status").str.to_lowercase().is_in(_FINISHED)
    reason = pl.concat_str(pl.lit("status is "), pl.col("status"))
    keep = pl.col("excluded_reason").is_not_null() | pl.col("status").is_null() | finished
    return frame.with_columns(
        pl.when(keep).then(pl.col("excluded_reason")).otherwise(reason).alias("excluded_reason")
    )


def pooled_groups(used: pl.DataFrame) -> list[tuple[str, list[str]]]:
    """Columns by which the rows look like several experiments, with their values."""
    groups = []
    for name in used.columns:
        if plain(name) in GROUPING and used.schema[name] == pl.String:
            values = used[name].drop_nulls().unique().sort().to_list()
            if len(values) > 1:
                groups.append((name, values))
    return groups


def duplicates(used: pl.DataFrame) -> list[Duplicate]:
    """Rows whose N, D and loss repeat an earlier row's, exactly or to within `NEAR`."""
    logs = np.log(used.select("n_params", "tokens", "val_loss").to_numpy().astype(float))
    order = np.lexsort(logs.T)
    rows = used["row"].to_numpy()
    pairs: dict[int, Duplicate] = {}
    for place, i in enumerate(order):
        for j in order[place + 1 :]:
            if logs[j, 2] - logs[i, 2] > NEAR:
                break
            if np.abs(logs[i] - logs[j]).max() <= NEAR:
                late, early = max(rows[i], rows[j]), min(rows[i], rows[j])
                exact = bool((logs[i] == logs[j]).all())
                if late not in pairs or exact:
                    pairs[int(late)] = Duplicate(int(late), int(early), exact)
    return sorted(pairs.values(), key=lambda duplicate: duplicate.row)
