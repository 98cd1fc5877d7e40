"""Somebody else's columns as isoflop's: aliases, and columns the table lacks."""

import difflib
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from analysis.law import LossUnit, NCounts
from analysis.table.observations import COUNTS, SCHEMA, Table, TableError, plain
from analysis.table.runs import numbered

# isoflop's name for a column: the field's other spellings, compared without case, spaces
# and punctuation.
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
    "run_id": (),
}
_TEXT = ("loss_unit", "run_id")


def normalise(
    frame: pl.DataFrame,
    *,
    mapping: Mapping[str, str] | None = None,
    include_status: Sequence[str] = (),
) -> Table:
    """Rename columns to isoflop's names and add those a fit needs; other columns stay.

    N and C count what isoflop's name of their column says, in the file or by `mapping`; an alias
    leaves N's count unknown. A missing one of N and D is computed from C = 6·N·D.

    Args:
        include_status: states of runs whose rows are used, besides finished ones.

    Raises:
        TableError: a mapped or needed column is missing, a name is ambiguous, a number
            column holds text, or a run's state is unknown.
    """
    frame = frame.rename({name: name.strip() for name in frame.columns})
    frame = frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
    # Blank lines are not rows.
    frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
    if frame.height == 0:
        raise TableError("the table has no rows.")
    columns = frame.columns
    names = _resolve(columns, mapping or {})
    exact = set(mapping or {}) | {name for name, column in names.items() if name == column}
    frame = numbered(
        frame.with_columns(pl.col(column).alias(name) for name, column in names.items()),
        include_status,
    )
    for name in ALIASES:
        if name in frame.columns and name not in _TEXT:
            frame = frame.with_columns(_numbers(frame, name).alias(name))
    n_column = next((name for name in COUNTS if name in frame.columns), "")
    n_counts = _n_counts(frame, n_column, exact)
    if n_column:
        frame = frame.with_columns(pl.col(n_column).alias("n_params"))
    unit: LossUnit = "unknown"
    if "val_loss" not in frame.columns and "val_bpb" in frame.columns:
        frame, unit = frame.with_columns(pl.col("val_bpb").alias("val_loss")), "bits_per_byte"
    if "val_loss" not in frame.columns:
        raise TableError(_missing("val_loss", columns))
    frame, derived = _with_n_and_d(frame, columns)
    if "flops_6nd" not in frame.columns or n_counts != "n_params":
        six = 6.0 * pl.col("n_params") * pl.col("tokens")
        frame = frame.with_columns(six.alias("flops_6nd"))
    return Table(
        frame, n_counts, "train_flops" if "train_flops" in exact else "flops_6nd", unit, derived
    )


def _n_counts(frame: pl.DataFrame, n_column: str, exact: set[str]) -> NCounts:
    """What the column taken for N counts; `exact` are names that needed no alias."""
    if n_column != "n_params" or n_column in exact:
        return COUNTS.get(n_column, "unknown")
    smaller = "n_params_no_input_embedding"
    # More than the count without the input embedding can only be the total.
    total = smaller in frame.columns and (frame["n_params"] > frame[smaller]).all()
    return "n_params_total" if total else "unknown"


def _with_n_and_d(frame: pl.DataFrame, columns: list[str]) -> tuple[pl.DataFrame, str]:
    """The frame with the missing one of N and D, and how it was computed."""
    flops = next(
        (c for c in ("train_flops", "flops_6nd", "flops_budget") if c in frame.columns), ""
    )
    for name, other in (("tokens", "n_params"), ("n_params", "tokens")):
        if name not in frame.columns:
            if other not in frame.columns or not flops:
                raise TableError(_missing(name, columns))
            frame = frame.with_columns((pl.col(flops) / (6 * pl.col(other))).alias(name))
            return frame, f"{name} = {flops}/(6·{other})"
    return frame, ""


def _resolve(columns: list[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """The file's column for each of isoflop's names."""
    known = {*SCHEMA, *ALIASES}
    names: dict[str, str] = {}
    for name, column in mapping.items():
        if name not in known:
            raise TableError(
                f"{name!r} is not one of isoflop's column names.{_nearest(name, known)}"
            )
        if column not in columns:
            raise TableError(f"there is no column {column!r} to map.{_nearest(column, columns)}")
        names[name] = column
    for name in ALIASES:
        if name in names or name in columns:
            names.setdefault(name, name)
            continue
        spellings = {plain(alias) for alias in (name, *ALIASES[name])}
        # One-letter symbols keep their case: N, D, L and C, never n, d, l or c.
        candidates = [
            column
            for column in columns
            if (plain(column) in spellings and len(column) > 1) or column in ALIASES[name]
        ]
        candidates = [column for column in candidates if column not in names.values()]
        if len(candidates) > 1:
            raise TableError(
                f"columns {', '.join(map(repr, candidates))} could all be {name}; "
                f"choose one with --map {name}={candidates[0]}."
            )
        if candidates:
            names[name] = candidates[0]
    return names


def _numbers(frame: pl.DataFrame, name: str) -> pl.Series:
    """The column as floats; text that is not a number is refused with its rows."""
    column = frame[name]
    if column.dtype.is_numeric():
        return column.cast(pl.Float64)
    if column.dtype != pl.String:
        raise TableError(f"column {name!r} holds {column.dtype}, not numbers.")
    numbers = column.str.strip_chars().cast(pl.Float64, strict=False)
    bad = frame.filter(column.is_not_null() & numbers.is_null())
    if bad.height:
        raise TableError(
            f"column {name!r} should hold plain numbers, not {bad[name][0]!r}.", bad["row"]
        )
    return numbers


def _missing(name: str, columns: Iterable[str]) -> str:
    """The message about a needed column that is not there."""
    spellings = (name, *ALIASES.get(name, ()))
    close = [m for s in spellings for m in difflib.get_close_matches(s, columns, 1, 0.7)]
    hint = (
        f" Did you mean {close[0]!r}? Then --map {name}={close[0]}."
        if close
        else f" Name it with --map {name}=COLUMN."
    )
    return (
        f"no column for {name} (also accepted: {', '.join(spellings[1:])}); "
        f"the table has {', '.join(columns)}.{hint}"
    )


def _nearest(name: str, among: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(among), 1, 0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
