"""Somebody else's columns as isoflop's: numbers, counts, units, and columns the table lacks."""

from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from analysis.law import LossUnit, NCounts
from analysis.table.expressions import evaluate
from analysis.table.names import ALIASES, TEXT, WEIGHT, missing, resolve
from analysis.table.numbers import Kind, read_numbers
from analysis.table.observations import (
    COUNTS,
    LINE,
    SCHEMA,
    Doubt,
    Table,
    TableError,
    nearest,
    plain,
)
from analysis.table.runs import numbered
from analysis.table.sources import Source, option
from analysis.table.states import ending_doubts
from analysis.table.units import unit_doubts

# Columns of our own runs that only other answers read; a fit names them nowhere.
_UNREAD = ("flops_6nd", "val_bpb", "loss_unit")


def normalise(
    frame: pl.DataFrame,
    *,
    mapping: Mapping[str, str] | None = None,
    include_status: Sequence[str] = (),
    aliases: Mapping[str, tuple[str, ...]] = ALIASES,
) -> Table:
    """Give columns isoflop's names and add those a fit needs; other columns stay.

    N and C count what isoflop's name of their column says, in the file or by `mapping`; an alias
    leaves N's count unknown. A missing one of N and D is computed from C = 6·N·D.

    Args:
        mapping: isoflop's name for a column to the file's, or to arithmetic of the file's.
        include_status: states of runs whose rows are used, besides finished ones.

    Raises:
        TableError: a mapped or needed column is missing, a name is ambiguous, a number
            column holds text, or a run's state is unknown.
    """
    frame = frame.rename({name: name.strip() for name in frame.columns})
    frame = frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
    # Blank lines are not rows.
    frame = frame.filter(~pl.all_horizontal(pl.all().exclude(LINE).is_null()))
    if frame.height == 0:
        raise TableError("the table has no rows.")
    columns, mapping = [name for name in frame.columns if name != LINE], mapping or {}
    names = resolve(columns, mapping, aliases)
    frame, sources = _with_names(frame, names)
    frame = numbered(frame, include_status)
    counts = [name for name in COUNTS if name in frame.columns]
    if "n_params" not in counts:
        # A stable sort: mapped counts go before those known by their names.
        counts.sort(key=lambda name: name not in mapping)
    n_column = counts[0] if counts else ""
    n_counts = _n_counts(frame, n_column, names, mapping)
    if n_column:
        frame = frame.with_columns(pl.col(n_column).alias("n_params"))
        sources = {n_column: sources[n_column], **sources}
    unit: LossUnit = "unknown"
    if "val_loss" not in frame.columns:
        if "val_bpb" not in frame.columns:
            also = [name for name in ("n_params", "tokens") if name not in frame.columns]
            raise TableError(missing("val_loss", columns, also=also))
        frame, unit = frame.with_columns(pl.col("val_bpb").alias("val_loss")), "bits_per_byte"
        sources["val_loss"] = Source("val_loss", sources["val_bpb"].given)
    frame, computed = _with_n_and_d(frame, columns)
    if computed is not None:
        sources[computed.name] = computed
    if "flops_6nd" not in frame.columns or n_counts != "n_params":
        six = 6.0 * pl.col("n_params") * pl.col("tokens")
        frame = frame.with_columns(six.alias("flops_6nd"))
    counted = "train_flops" in mapping or names.get("train_flops") == "train_flops"
    read = tuple(
        source
        for name, source in sources.items()
        if name not in _UNREAD or (computed is not None and computed.given.startswith(name))
    )
    table = Table(
        frame,
        n_counts,
        "train_flops" if counted else "flops_6nd",
        unit,
        f"{computed.name} = {computed.given}" if computed else "",
        read,
    )
    return table.with_doubts(
        (*unit_doubts(table), *_unused_weights(columns, mapping), *ending_doubts(table.used))
    )


def _with_names(
    frame: pl.DataFrame, names: Mapping[str, str]
) -> tuple[pl.DataFrame, dict[str, Source]]:
    """The frame with the columns of `names`, and their sources."""
    columns = [name for name in frame.columns if name != LINE]
    rows = frame.select(pl.int_range(pl.len()).alias("row"), *({LINE} & {*frame.columns}))
    sources, read = {}, []
    for name, text in names.items():
        written, arithmetic = "", text not in columns
        number = name not in TEXT and SCHEMA.get(name) != pl.String
        if arithmetic and not number:
            raise TableError(
                f"{option(name, text)}: there is no column {text!r}.{nearest(text, columns)}"
            )
        if arithmetic:
            column = evaluate(option(name, text), text, frame, rows=rows, kind=_kind(name))
        elif number:
            column, written = read_numbers(frame[text], rows, kind=_kind(name))
        else:
            column = frame[text]
        sources[name] = Source(name, text, arithmetic, written)
        read.append(column.alias("row_weight" if name == WEIGHT else name))
    # A column of that name is somebody else's.
    return frame.drop("row_weight", strict=False).with_columns(read), sources


def _unused_weights(columns: list[str], mapping: Mapping[str, str]) -> Iterator[Doubt]:
    """A sentence about weights that nobody asked for."""
    for column in columns:
        if (
            plain(column) in (WEIGHT, "weights", plain("row_weight"))
            and column not in mapping.values()
        ):
            yield Doubt(
                f"Every row counts alike; {column!r} is not read. To weigh rows by it: "
                f"--map {WEIGHT}={column}"
            )


def _kind(name: str) -> Kind:
    if "flops" in name:
        return "flops"
    return "count" if name in COUNTS or "tokens" in name else "plain"


def _n_counts(
    frame: pl.DataFrame, n_column: str, names: Mapping[str, str], mapping: Mapping[str, str]
) -> NCounts:
    """What the column taken for N counts: what its name says, in the file or by --map.

    `--map n_params=COLUMN` only finds N; COLUMN's own name may say what it counts.
    """
    if n_column != "n_params":
        return COUNTS.get(n_column, "unknown")
    given = names["n_params"]
    if given == "n_params":
        return "n_params"
    for name, counts in COUNTS.items():
        if name != "n_params" and plain(given) in map(plain, (name, *ALIASES[name])):
            return counts
    smaller = "n_params_no_input_embedding"
    # More than the count without the input embedding can only be the total.
    total = smaller in frame.columns and (frame["n_params"] > frame[smaller]).all()
    return "n_params_total" if total else "unknown"


def _with_n_and_d(frame: pl.DataFrame, columns: list[str]) -> tuple[pl.DataFrame, Source | None]:
    """The frame with the missing one of N and D, and how it was computed."""
    flops = next(
        (c for c in ("train_flops", "flops_6nd", "flops_budget") if c in frame.columns), ""
    )
    for name, other in (("tokens", "n_params"), ("n_params", "tokens")):
        if name not in frame.columns:
            if other not in frame.columns or not flops:
                also = () if other in frame.columns else (other,)
                raise TableError(missing(name, columns, also=also))
            frame = frame.with_columns((pl.col(flops) / (6 * pl.col(other))).alias(name))
            return frame, Source(name, f"{flops}/(6·{other})", arithmetic=True)
    return frame, None
