"""Whether two tables' losses can be held against each other, and in which unit."""

from dataclasses import replace

import polars as pl

from analysis.table.observations import Table, TableError, check

# Columns that say what a token is, the surest first.
_TOKENIZERS = ("tokenizer", "vocab_size")
_UNITS = {
    "nats_per_token": "nats per token",
    "bits_per_byte": "bits per byte",
    "unknown": "in no named unit",
}

Named = tuple[str, Table]


def refuse_incomparable(first: Named, second: Named) -> None:
    """Refuse tables whose losses differ in unit, or are of different tokens.

    Raises:
        TableError: they do; it offers bits per byte where both tables have them.
    """
    names, tables = (first[0], second[0]), (first[1], second[1])
    units = [check(table).loss_unit for table in tables]
    # A loss without a unit is taken for nats.
    if units[0] != units[1] and "bits_per_byte" in units:
        units_in = " and ".join(
            f"{_UNITS[unit]} in {name}" for name, unit in zip(names, units, strict=True)
        )
        raise TableError(
            f"the losses are {units_in}: no compute for the same loss. {_offer(tables)}"
        )
    if units[0] == "bits_per_byte":
        return
    for column in _TOKENIZERS:
        values = [_values(table, column) for table in tables]
        if all(values) and values[0] != values[1]:
            names_in = " and ".join(
                f"{', '.join(own)} in {name}" for name, own in zip(names, values, strict=True)
            )
            raise TableError(
                f"the tokenizers differ ({column} {names_in}), so losses per token do not compare. "
                f"{_offer(tables)}"
            )
        if all(values):
            return


def in_bits_per_byte(name: str, table: Table) -> Table:
    """The table with its bits per byte as the loss.

    Raises:
        TableError: a used row has none.
    """
    used = table.used
    if not _has_bits(table):
        rows = used.filter(pl.col("val_bpb").is_null()) if "val_bpb" in used.columns else None
        raise TableError(f"{name} has no bits per byte (val_bpb) for every run.", rows)
    frame = table.frame.with_columns(val_loss=pl.col("val_bpb").cast(pl.Float64))
    frame = frame.with_columns(loss_unit=pl.lit("bits_per_byte"))
    return replace(table, frame=frame, loss_unit="bits_per_byte")


def _offer(tables: tuple[Table, ...]) -> str:
    if all(_has_bits(table) for table in tables):
        return "Both have bits per byte, which do compare: --bpb."
    return "Bits per byte would compare: give both a column val_bpb, then --bpb."


def _has_bits(table: Table) -> bool:
    used = table.used
    return "val_bpb" in used.columns and used.height > 0 and not used["val_bpb"].null_count()


def _values(table: Table, column: str) -> list[str]:
    used = table.used
    if column not in used.columns:
        return []
    return sorted(used[column].drop_nulls().unique().cast(pl.String).to_list())
