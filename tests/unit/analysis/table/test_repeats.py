"""Which rows read their tokens again, and when they leave a law of fresh ones."""

import polars as pl

from analysis.table.columns import normalise
from analysis.table.observations import Table
from analysis.table.repeats import (
    REPEATS,
    epochs,
    leave_out_repeats,
    unread_epochs,
    with_repeats,
)
from tests.others_tables import BASE


def _table(**columns: list) -> Table:
    frame = pl.DataFrame(list(BASE), schema=["N", "D", "loss"], orient="row")
    return normalise(frame.with_columns(pl.Series(k, v) for k, v in columns.items()))


def _unique(*times: float) -> list[float]:
    """Unique tokens of rows that read theirs so often; the others once."""
    return [D / t for (_, D, _), t in zip(BASE, [*times, *[1.0] * len(BASE)], strict=False)]


def test_rounding_is_no_repetition() -> None:
    times = epochs(_table(U=_unique(1.015, 4.0, 0.5)).used)
    assert times is not None
    assert times[:4].to_list() == [1, 4, 1, 1]
    assert epochs(_table(U=_unique(1.015)).used) is None


def test_repeating_rows_leave_and_come_back() -> None:
    left = leave_out_repeats(_table(U=_unique(2.0, 4.0)))
    assert left.used.height == len(BASE) - 2
    assert left.frame["excluded_reason"].to_list()[:3] == [REPEATS, REPEATS, None]
    assert with_repeats(left).used.height == len(BASE)


def test_repeating_rows_stay_with_a_doubt_where_too_few_others_are_left() -> None:
    stayed = leave_out_repeats(_table(U=_unique(*[4.0] * 8)))
    assert stayed.used.height == len(BASE)
    assert "8 of 15 rows repeat their tokens" in stayed.doubts[-1].sentence
    # Asked twice, it says so once.
    assert leave_out_repeats(stayed).doubts == stayed.doubts
    assert leave_out_repeats(_table(U=_unique(*[4.0] * 7))).used.height == 8


def test_epochs_without_unique_tokens_are_a_doubt_with_the_map_that_reads_them() -> None:
    times = [1.0, 2.0, 4.0, *[1.0] * 12]
    [doubt] = unread_epochs(_table(epochs=times))
    assert "runs read theirs up to 4 times" in doubt.sentence
    assert doubt.sentence.endswith("--map 'unique_tokens=D/epochs'.")
    assert not list(unread_epochs(_table(epochs=[1.0] * 15)))
