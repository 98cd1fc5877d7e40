"""The observations table: its columns, what they count, and what no fit can use.

A row is a finished model: parameters, tokens, compute and the loss it reached.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from analysis.law import CCounts, LossUnit, NCounts

# The columns of our own runs.
SCHEMA: dict[str, pl.DataType] = {
    "run_id": pl.String(),
    "parent_run_id": pl.String(),
    "sweep": pl.String(),
    "name": pl.String(),
    "n_params": pl.Int64(),
    "n_params_total": pl.Int64(),
    "n_params_non_embedding": pl.Int64(),
    "tokens": pl.Int64(),
    "horizon": pl.Int64(),
    "train_flops": pl.Float64(),
    "flops_6nd": pl.Float64(),
    "flops_budget": pl.Float64(),
    "val_loss": pl.Float64(),
    "val_bpb": pl.Float64(),
    "loss_unit": pl.String(),
    "lr": pl.Float64(),
    "batch_tokens": pl.Int64(),
    "status": pl.String(),
    "excluded_reason": pl.String(),
}

# Columns that count N, and what each counts.
COUNTS: dict[str, NCounts] = {
    "n_params": "n_params",
    "n_params_total": "n_params_total",
    "n_params_no_input_embedding": "n_params",
    "n_params_non_embedding": "n_params_non_embedding",
}
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


class TableError(ValueError):
    """A table cannot be used. `rows` are counted from 0, the header not included."""

    def __init__(self, message: str, rows: Iterable[int] = ()) -> None:
        self.rows = tuple(int(row) for row in rows)
        super().__init__(message + (f" {name_rows(self.rows)}." if self.rows else ""))


@dataclass(frozen=True, slots=True)
class Table:
    """Finished models, one a row, with what their columns hold.

    Attributes:
        frame: `row` (position in the source, from 0), n_params, tokens, val_loss, flops_6nd and
            `excluded_reason` (null where the row is used); every other column of the source.
        n_counts: what n_params counts.
        c_counts: `train_flops` where the source gives counted FLOPs under that name.
        loss_unit: of val_loss; a column of that name goes before it.
        derived: how a missing column was computed; empty when none was.
    """

    frame: pl.DataFrame
    n_counts: NCounts
    c_counts: CCounts
    loss_unit: LossUnit
    derived: str = ""

    @property
    def used(self) -> pl.DataFrame:
        """The rows without an `excluded_reason`."""
        return self.frame.filter(pl.col("excluded_reason").is_null())

    def filter(self, rows: pl.Expr) -> "Table":
        """The table with only the rows for which the expression is true."""
        return replace(self, frame=self.frame.filter(rows))


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


def check(table: Table) -> Table:
    """Refuse used rows that no fit can use; the table with their loss unit.

    Raises:
        TableError: NaN, infinite or non-positive values, mixed loss units.
    """
    used = table.used
    for name in ("n_params", "tokens", "val_loss", "weight", "unique_tokens"):
        _refuse_bad_numbers(used, name, nullable=False)
    for name in ("train_flops", "flops_budget"):
        _refuse_bad_numbers(used, name, nullable=True)
    if "loss_unit" not in used.columns:
        return table
    units = used["loss_unit"].drop_nulls().unique().sort().to_list()
    if len(units) > 1:
        raise TableError(
            f"losses in several units are pooled: {', '.join(map(str, units))}. "
            "Fit them apart with --by loss_unit, or pick one with --where."
        )
    return replace(table, loss_unit=_loss_unit(units[0])) if units else table


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


def name_rows(rows: Iterable[int], most: int = 12) -> str:
    """Rows for a message: "Rows 3, 7 and 9"."""
    rows = list(rows)
    shown = ", ".join(str(row) for row in rows[:most])
    more = f" and {len(rows) - most} more" if len(rows) > most else ""
    return f"{'Row' if len(rows) == 1 else 'Rows'} {shown}{more} (counted from 0)"


def plain(name: str) -> str:
    """A column's name without case, spaces and punctuation."""
    return re.sub(r"[\s.\-/]+", "_", name.strip()).lower()


def _refuse_bad_numbers(used: pl.DataFrame, name: str, *, nullable: bool) -> None:
    if name not in used.columns:
        return
    column = pl.col(name).cast(pl.Float64)
    missing = column.is_nan() if nullable else column.is_null() | column.is_nan()
    for bad, what in (
        (used.filter(missing), "is missing or NaN"),
        (used.filter(column.is_infinite()), "is infinite"),
        (used.filter(column <= 0), "is not positive"),
    ):
        if bad.height:
            raise TableError(
                f"{name} {what}; a fit needs positive numbers. Correct the table, or leave the "
                "rows out with --where.",
                bad["row"],
            )


def _loss_unit(name: object) -> LossUnit:
    unit = str(name).lower().replace(" ", "_").replace("/", "_per_")
    if unit in ("nats", "nats_per_token", "nat_per_token"):
        return "nats_per_token"
    return "bits_per_byte" if unit in ("bits_per_byte", "bpb") else "unknown"
