"""Rows whose runs read their data more than once: no law of fresh tokens is fitted to them."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl

from analysis.table.names import numeric_column
from analysis.table.observations import Doubt, Table
from analysis.table.sources import quoted

REPEATS = "tokens repeat"
# Fewer fresh rows than this carry no law.
FEWEST_FRESH = 8
# A part of the tokens that is rounding: windows at the ends of files, counts in whole millions.
_ROUNDING = 1.02
# More epochs than this are another unit, or a column of another meaning.
_PLAUSIBLE = 1e5
_EPOCHS = ("epoch", "epochs", "n_epochs", "num_epochs", "max_epochs", "train_epochs")


def epochs(used: pl.DataFrame) -> pl.Series | None:
    """How often each row's run reads its unique tokens, 1 at least; None where none repeats.

    Rows without a number of unique tokens have null.
    """
    name = "unique_tokens"
    if name not in used.columns or not used.schema[name].is_numeric():
        return None
    times = used["tokens"] / used[name]
    most = times.max()
    if not isinstance(most, float) or not _ROUNDING < most < _PLAUSIBLE:
        return None
    return times.set(times < _ROUNDING, 1.0)


def unread_epochs(table: Table) -> Iterator[Doubt]:
    """A sentence about a column of epochs in a table without a column of unique tokens."""
    name = numeric_column(table.used, _EPOCHS)
    if not name:
        return
    read = table.used[name].to_numpy().astype(float)
    most = float(max(read[np.isfinite(read)], default=0.0))
    if _ROUNDING < most < _PLAUSIBLE:
        tokens = table.source("tokens").argument
        unique = "COLUMN" if table.derived else f"{tokens}/{quoted(name)}"
        yield Doubt(
            f"Every token counts as fresh, but {name!r} says that runs read theirs up to "
            f"{most:.3g} times. If D counts each reading: --map 'unique_tokens={unique}'."
        )


def leave_out_repeats(table: Table) -> Table:
    """The table with repeating rows left out; with a doubt where too few others are left."""
    times = epochs(table.used)
    if times is None:
        return table
    repeating = table.used.filter(times > 1)
    if table.used.height - repeating.height < FEWEST_FRESH:
        doubt = Doubt(
            f"{repeating.height} of {table.used.height} rows repeat their tokens, and the "
            f"law counts all as fresh: it takes {FEWEST_FRESH} rows that do not repeat."
        )
        return table if doubt in table.doubts else table.with_doubts([doubt])
    return table.leave_out(pl.col("row").is_in(repeating["row"].implode()), REPEATS)


def with_repeats(table: Table) -> Table:
    """The table with the rows that `leave_out_repeats` left out."""
    reason = pl.col("excluded_reason")
    kept = pl.when(reason != REPEATS).then(reason).otherwise(None)
    return replace(table, frame=table.frame.with_columns(kept.alias("excluded_reason")))
