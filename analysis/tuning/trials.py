"""A table of trials: learning rate and batch beside N, D and loss, in their units."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from analysis.table.files import Contents
from analysis.table.names import (
    BATCH,
    SEQUENCE_LENGTH,
    STEPS,
    WITHOUT_REPETITION,
    missing,
    numeric_column,
)
from analysis.table.observations import (
    LINE,
    SCHEMA,
    Doubt,
    Table,
    TableError,
    check,
    plain,
)
from analysis.table.read import read_table
from analysis.table.sources import quoted
from analysis.table.states import nothing_left
from analysis.table.units import LEAST_BATCH

# Searched parameters that a table may hold, learning rate and batch first.
AXES = ("lr", "batch_tokens", "warmup_fraction", "beta2_gap", "weight_decay")
_ALIASES = {
    **WITHOUT_REPETITION,
    **dict.fromkeys(AXES, ()),
    "lr": ("learning_rate", "peak_lr", "max_lr", "eta"),
    "batch_tokens": BATCH,
}
# More steps than any training run takes.
_MOST_STEPS = 2e6
# The least batch in a column whose name does not say tokens.
_LEAST_UNNAMED = 512
# Rates that no training survives or notices.
_LR = (1e-8, 1.0)


def read_lr_table(
    source: Path | Contents,
    *,
    mapping: Mapping[str, str] | None = None,
    include_status: Sequence[str] = (),
) -> Table:
    """Read a table of trials from a file as `analysis.table.read.read_table` does.

    Raises:
        TableError: as there; every trial is left out, no column holds the learning rate, or the
            batch may count sequences.
    """
    table = check(
        read_table(source, mapping=mapping, include_status=include_status, aliases=_ALIASES)
    )
    frame, used = table.frame, table.used
    if not used.height:
        raise TableError(nothing_left(frame))
    if "lr" not in frame.columns:
        own = {*SCHEMA, "row", "row_weight", LINE}
        raise TableError(missing("lr", [c for c in frame.columns if c not in own], _ALIASES))
    for name in AXES:
        _refuse_bad_numbers(used, name)
    if "batch_tokens" in frame.columns:
        _refuse_sequences(table, mapping or {})
    return table.with_doubts(_doubts(table))


def _refuse_bad_numbers(used: pl.DataFrame, name: str) -> None:
    if name not in used.columns:
        return
    column = pl.col(name)
    bad = used.filter(~(column > 0) | ~column.is_finite() | column.is_null())
    if bad.height:
        log = " If it is a logarithm: --map 'lr=pow(10,COLUMN)'." if name == "lr" else ""
        raise TableError(f"{name} must be positive.{log}", bad)


def _refuse_sequences(table: Table, mapping: Mapping[str, str]) -> None:
    """Refuse a batch that nobody said is in tokens and that cannot be."""
    source = table.source("batch_tokens")
    named_tokens = "batch_tokens" in mapping or "token" in plain(source.given)
    reason = "" if named_tokens else _sequences(table.used, _LEAST_UNNAMED)
    if "seq" in plain(source.given) and not named_tokens:
        reason = "as its name says"
    if reason:
        raise TableError(
            f"column {source.given!r} seems to count sequences, not tokens: {reason}. Say "
            f"{_remedy(table)}, or --map 'batch_tokens={quoted(source.given)}' if it counts tokens."
        )


def _remedy(table: Table) -> str:
    """The option that reads sequences as tokens."""
    length = numeric_column(table.used, SEQUENCE_LENGTH)
    return table.source("batch_tokens").times(quoted(length) if length else "SEQUENCE_LENGTH")


def _sequences(used: pl.DataFrame, least: float) -> str:
    """Why a batch cannot be in tokens; empty where it can."""
    batch, D = used["batch_tokens"], used["tokens"]
    median = float(np.median(batch.to_numpy()))
    steps = numeric_column(used, STEPS)
    if steps:
        per_step = float(np.median((D / (used[steps] * batch)).to_numpy()))
        if 0.5 < per_step < 2:
            return ""
        if per_step >= 8:
            return f"{steps} times it is 1/{per_step:.4g} of the tokens"
    length = numeric_column(used, SEQUENCE_LENGTH)
    if length and (batch < used[length]).mean() > 0.5:  # type: ignore[operator]
        longest = np.max(used[length].to_numpy())
        return f"its median {median:,.0f} is less than one sequence of {longest:,}"
    if median < least:
        return f"its median is {median:,.0f}"
    most = float(np.median((D / batch).to_numpy()))
    if most > _MOST_STEPS:
        return f"a training would take {most:.2g} steps"
    return ""


def _doubts(table: Table) -> Iterator[Doubt]:
    used = table.used
    if not used.height:
        return
    if "batch_tokens" in used.columns:
        reason = _sequences(used, LEAST_BATCH)
        if reason:
            yield Doubt(
                f"The batch ({table.source('batch_tokens').words()}) seems to count sequences, not "
                f"tokens: {reason}. Then {_remedy(table)}"
            )
    median = float(np.median(used["lr"].to_numpy()))
    if not _LR[0] <= median <= _LR[1]:
        source = table.source("lr")
        yield Doubt(
            f"lr ({source.words()}) is {median:.3g} in the median row. In another unit? Then "
            f"{source.times('1e-3')}, with the factor of your unit."
        )
