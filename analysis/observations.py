"""The observations table: its columns, how a foreign file becomes one, and what is refused.

One row is one finished model: parameters, tokens, compute and the loss it reached.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

# What our own tracker writes. A foreign table needs N, D and L, or two of N, D, C, and L.
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

# House name: the field's other spellings, compared without case, spaces and punctuation.
ALIASES: dict[str, tuple[str, ...]] = {
    "n_params": ("params", "N", "parameters", "num_params", "model_size", "n_parameters"),
    "n_params_total": ("params_total", "total_params"),
    "n_params_no_input_embedding": ("params_no_input_embed", "params_no_input_embedding"),
    "n_params_non_embedding": (
        "params_no_embed",
        "params_non_embedding",
        "non_embedding_params",
        "n_params_no_embed",
    ),
    "tokens": ("D", "n_tokens", "num_tokens", "training_tokens", "train_tokens"),
    "train_flops": ("flops", "C", "compute", "training_flops", "flop", "training_flop"),
    "flops_6nd": ("6nd",),
    "flops_budget": ("budget", "compute_budget", "isoflop", "isoflop_budget"),
    "val_loss": ("loss", "L", "validation_loss", "eval_loss", "final_loss"),
    "val_bpb": ("bpb", "bits_per_byte"),
    "unique_tokens": ("U", "n_unique_tokens"),
    "weight": ("weights",),
    "loss_unit": ("unit",),
    "run_id": ("run",),
}
NUMERIC = (
    "n_params",
    "n_params_total",
    "n_params_no_input_embedding",
    "n_params_non_embedding",
    "tokens",
    "train_flops",
    "flops_6nd",
    "flops_budget",
    "val_loss",
    "val_bpb",
    "unique_tokens",
    "weight",
)
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
COUNTS = ("n_params", "n_params_total", "n_params_no_input_embedding", "n_params_non_embedding")
_FINISHED = ("finished", "completed", "complete", "done", "ok", "success", "succeeded")
NEAR = 1e-4  # relative difference below which two rows count as the same run read twice


class TableError(ValueError):
    """A table cannot be used. `rows` are counted from 0, the header not included."""

    def __init__(self, message: str, rows: Iterable[int] = ()) -> None:
        self.rows = tuple(int(row) for row in rows)
        super().__init__(message + (f" {name_rows(self.rows)}." if self.rows else ""))


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Two rows that say the same; `exact` when N, D and loss are equal to the last digit."""

    row: int
    of: int
    exact: bool


def read_table(path: Path, *, mapping: Mapping[str, str] | None = None) -> pl.DataFrame:
    """Read CSV, TSV, Parquet or JSON as an observations table; see `normalise`.

    Args:
        mapping: house name to the file's name for it, before any alias is tried.

    Raises:
        TableError: the file is missing, unreadable, empty, or `normalise` refuses it.
    """
    path = Path(path)
    if not path.is_file():
        raise TableError(f"{path} is not a file.")
    suffix = path.suffix.lower()
    try:
        if suffix in (".parquet", ".pq"):
            frame = pl.read_parquet(path)
        elif suffix == ".json":
            frame = pl.read_json(path, infer_schema_length=None)
        else:
            frame = pl.read_csv(
                path,
                separator=_separator(path),
                infer_schema_length=None,
                null_values=["", "NA", "null", "None"],
            )
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TableError(f"{path} cannot be read as a table: {reason}") from error
    return normalise(frame, mapping=mapping)


def _separator(path: Path) -> str:
    """Comma, semicolon or tab: whichever the header has most of."""
    with path.open(encoding="utf-8", errors="replace") as file:
        header = file.readline()
    return max(",;\t", key=header.count)


def normalise(frame: pl.DataFrame, *, mapping: Mapping[str, str] | None = None) -> pl.DataFrame:
    """Give a frame the house names and the columns a fit needs; other columns stay.

    Adds `row` (position, from 0), `n_counts` and `c_counts` (what N and C count: the house
    column when its house name was used or mapped, else `unknown`), and `derived`, which names
    the one of N, D and C that was computed as C = 6·N·D because the table lacks it.

    Raises:
        TableError: a mapped or needed column is missing, a name is ambiguous, or a number
            column holds text.
    """
    frame = frame.rename({name: name.strip() for name in frame.columns})
    # Blank lines are no rows.
    frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
    if frame.height == 0:
        raise TableError("the table has no rows.")
    theirs_all = frame.columns
    names = _resolve(frame.columns, mapping or {})
    foreign = [house for house, theirs in names.items() if house != theirs]
    told = set(mapping or {}) | {house for house, theirs in names.items() if house == theirs}
    clash = [house for house in foreign if house in frame.columns]
    frame = frame.drop([name for name in clash if name not in names.values()])
    frame = frame.drop([name for name in ("row",) if name in frame.columns])
    frame = frame.with_columns(pl.col(theirs).alias(house) for house, theirs in names.items())
    frame = frame.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    for name in NUMERIC:
        if name in frame.columns:
            frame = frame.with_columns(_numbers(frame, name).alias(name))
    if "n_params" not in frame.columns:
        other = next((name for name in COUNTS if name in frame.columns), None)
        if other is not None:
            frame = frame.with_columns(pl.col(other).alias("n_params"))
            n_counts = other if other != "n_params_no_input_embedding" else "n_params"
        else:
            n_counts = "unknown"
    else:
        n_counts = "n_params" if "n_params" in told else "unknown"
        smaller = "n_params_no_input_embedding"
        if n_counts == "unknown" and smaller in frame.columns:
            # More than the count without the input embedding can only be the total.
            total = (frame["n_params"] > frame[smaller]).all()
            n_counts = "n_params_total" if total else "unknown"
    return _complete(frame, n_counts, told, theirs_all)


def _complete(
    frame: pl.DataFrame, n_counts: str, told: set[str], columns: list[str]
) -> pl.DataFrame:
    """Fill in the loss and the third of N, D and C, and say so."""
    unit = "unknown"
    if "val_loss" not in frame.columns and "val_bpb" in frame.columns:
        frame, unit = frame.with_columns(pl.col("val_bpb").alias("val_loss")), "bits_per_byte"
    if "val_loss" not in frame.columns:
        raise TableError(_missing("val_loss", columns))
    if "loss_unit" not in frame.columns:
        frame = frame.with_columns(pl.lit(unit).alias("loss_unit"))

    flops = next(
        (c for c in ("train_flops", "flops_6nd", "flops_budget") if c in frame.columns), ""
    )
    derived = ""
    if "tokens" not in frame.columns:
        if "n_params" not in frame.columns or not flops:
            raise TableError(_missing("tokens", columns))
        frame = frame.with_columns((pl.col(flops) / (6 * pl.col("n_params"))).alias("tokens"))
        derived = f"tokens = {flops}/(6·n_params)"
    elif "n_params" not in frame.columns:
        if not flops:
            raise TableError(_missing("n_params", columns))
        frame = frame.with_columns((pl.col(flops) / (6 * pl.col("tokens"))).alias("n_params"))
        derived = f"n_params = {flops}/(6·tokens)"
    six = 6.0 * pl.col("n_params") * pl.col("tokens")
    if "flops_6nd" not in frame.columns or n_counts != "n_params":
        frame = frame.with_columns(six.alias("flops_6nd"))
    c_counts = "train_flops" if "train_flops" in told else "unknown"
    if "train_flops" not in frame.columns:
        c_counts = "flops_6nd"
    return frame.with_columns(
        pl.lit(n_counts).alias("n_counts"),
        pl.lit(c_counts).alias("c_counts"),
        pl.lit(derived).alias("derived"),
    )


def check(frame: pl.DataFrame) -> pl.DataFrame:
    """Mark rows a fit must leave out, and refuse values no fit can use.

    A frame `normalise` has not seen goes through it. Rows that carry an `excluded_reason`, or a
    `status` other than finished, stay in the table with that reason; all others need finite,
    positive N, D and loss.

    Returns:
        the frame with `excluded_reason` filled; null means the row is used.

    Raises:
        TableError: missing columns, NaN, infinite or non-positive values, mixed loss units.
    """
    if "row" not in frame.columns or "n_counts" not in frame.columns:
        frame = normalise(frame)
    for name in ("n_params", "tokens", "val_loss"):
        if name not in frame.columns:
            raise TableError(_missing(name, frame.columns))
    if "excluded_reason" not in frame.columns:
        frame = frame.with_columns(pl.lit(None, pl.String).alias("excluded_reason"))
    if "status" in frame.columns and frame.schema["status"] == pl.String:
        finished = pl.col("status").str.to_lowercase().is_in(_FINISHED)
        reason = pl.concat_str(pl.lit("status is "), pl.col("status"))
        keep = pl.col("excluded_reason").is_not_null() | pl.col("status").is_null() | finished
        frame = frame.with_columns(
            pl.when(keep).then(pl.col("excluded_reason")).otherwise(reason).alias("excluded_reason")
        )
    used = frame.filter(pl.col("excluded_reason").is_null())
    needed = ("n_params", "tokens", "val_loss", "weight", "unique_tokens")
    for name in (*needed, "train_flops", "flops_budget"):
        if name in used.columns:
            nullable = name not in needed
            _refuse_bad_numbers(used, name, nullable=nullable)
    units = used["loss_unit"].drop_nulls().unique().sort().to_list()
    if len(units) > 1:
        raise TableError(
            f"losses in several units are pooled: {', '.join(map(str, units))}. "
            "Fit them apart with --by loss_unit, or pick one with --where."
        )
    return frame


def pooled_groups(frame: pl.DataFrame) -> list[tuple[str, list[str]]]:
    """Columns by which the used rows look like several experiments, with their values."""
    used = frame.filter(pl.col("excluded_reason").is_null())
    found = []
    for name in used.columns:
        if _plain(name) in GROUPING and used.schema[name] == pl.String:
            values = used[name].drop_nulls().unique().sort().to_list()
            if len(values) > 1:
                found.append((name, values))
    return found


def duplicates(frame: pl.DataFrame) -> list[Duplicate]:
    """Rows whose N, D and loss repeat an earlier row's, exactly or to within `NEAR`."""
    logs = np.log(frame.select("n_params", "tokens", "val_loss").to_numpy().astype(float))
    order = np.lexsort(logs.T)
    rows = frame["row"].to_numpy()
    found: dict[int, Duplicate] = {}
    for place, i in enumerate(order):
        for j in order[place + 1 :]:
            if logs[j, 2] - logs[i, 2] > NEAR:
                break
            if np.abs(logs[i] - logs[j]).max() <= NEAR:
                late, early = max(rows[i], rows[j]), min(rows[i], rows[j])
                exact = bool((logs[i] == logs[j]).all())
                if late not in found or exact:
                    found[int(late)] = Duplicate(int(late), int(early), exact)
    return sorted(found.values(), key=lambda duplicate: duplicate.row)


def name_rows(rows: Iterable[int], most: int = 12) -> str:
    """Rows for a message: "Rows 3, 7 and 9"."""
    rows = list(rows)
    shown = ", ".join(str(row) for row in rows[:most])
    more = f" and {len(rows) - most} more" if len(rows) > most else ""
    return f"{'Row' if len(rows) == 1 else 'Rows'} {shown}{more} (counted from 0)"


def _resolve(columns: list[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """House name to the file's column for it."""
    known = {*SCHEMA, *ALIASES}
    names: dict[str, str] = {}
    for house, theirs in mapping.items():
        if house not in known:
            raise TableError(f"{house!r} is no house name to map to.{_nearest(house, known)}")
        if theirs not in columns:
            raise TableError(f"there is no column {theirs!r} to map.{_nearest(theirs, columns)}")
        names[house] = theirs
    for house in ALIASES:
        if house in names or house in columns:
            names.setdefault(house, house)
            continue
        spellings = {_plain(alias) for alias in (house, *ALIASES[house])}
        # One-letter symbols keep their case: N, D, L and C, never n, d, l or c.
        hits = [
            c for c in columns if (_plain(c) in spellings and len(c) > 1) or c in ALIASES[house]
        ]
        hits = [c for c in hits if c not in names.values()]
        if len(hits) > 1:
            raise TableError(
                f"columns {', '.join(map(repr, hits))} could all be {house}; "
                f"say which with --map {house}={hits[0]}."
            )
        if hits:
            names[house] = hits[0]
    return names


def _numbers(frame: pl.DataFrame, name: str) -> pl.Series:
    """The column as floats; text that is no number is refused with its rows."""
    column = frame[name]
    if column.dtype.is_numeric():
        return column.cast(pl.Float64)
    if column.dtype != pl.String:
        raise TableError(f"column {name!r} holds {column.dtype}, not numbers.")
    numbers = column.str.strip_chars().cast(pl.Float64, strict=False)
    bad = frame.filter(column.is_not_null() & numbers.is_null())
    if bad.height:
        raise TableError(
            f"column {name!r} should hold plain numbers, found {bad[name][0]!r}.", bad["row"]
        )
    return numbers


def _refuse_bad_numbers(used: pl.DataFrame, name: str, *, nullable: bool) -> None:
    column = pl.col(name)
    missing = column.is_nan() if nullable else column.is_null() | column.is_nan()
    for bad, what in (
        (used.filter(missing), "is missing or NaN"),
        (used.filter(column.is_infinite()), "is infinite"),
        (used.filter(column <= 0), "is not positive"),
    ):
        if bad.height:
            raise TableError(
                f"{name} {what}; a fit needs positive numbers. Mend the table, or leave the rows "
                "out with --where.",
                bad["row"],
            )


def _missing(house: str, columns: Iterable[str]) -> str:
    """What to say about a needed column that is not there."""
    columns = [c for c in columns if c not in ("row", "n_counts", "c_counts", "derived")]
    spellings = (house, *ALIASES.get(house, ()))
    close = [m for s in spellings for m in difflib.get_close_matches(s, columns, 1, 0.7)]
    hint = (
        f" Did you mean {close[0]!r}? Then --map {house}={close[0]}."
        if close
        else (f" Name it with --map {house}=COLUMN.")
    )
    return (
        f"no column for {house} (also accepted: {', '.join(spellings[1:])}); "
        f"the table has {', '.join(columns)}.{hint}"
    )


def _nearest(name: str, among: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(among), 1, 0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def _plain(name: str) -> str:
    return re.sub(r"[\s.\-/]+", "_", name.strip()).lower()
