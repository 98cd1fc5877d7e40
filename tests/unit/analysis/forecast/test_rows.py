"""Rows of one N and D are averaged, copies count once, and long tables become 500 rows."""

import numpy as np
import polars as pl
import pytest

from analysis.forecast.rows import rows_of
from analysis.table.columns import normalise
from analysis.table.observations import TableError
from tests.simulated import grid, table


def frame(**columns) -> pl.DataFrame:
    return table(*grid()).with_columns(**columns)


def test_runs_of_one_n_and_d_are_averaged_and_tell_the_noise():
    one = frame()
    seeds = [one.with_columns(pl.col("val_loss") * np.exp(s)) for s in (-0.01, 0.0, 0.01)]
    rows = rows_of(normalise(pl.concat(seeds)))
    assert len(rows) == one.height
    assert set(rows.count) == {3.0}
    assert rows.y == pytest.approx(np.log(one["val_loss"].to_numpy()), abs=1e-12)
    assert rows.replicated_sd == pytest.approx(0.01, rel=1e-6)


def test_copies_of_a_row_are_one_run_and_no_replicates():
    rows = rows_of(normalise(pl.concat([frame(), frame()])))
    assert set(rows.count) == {1.0}
    assert rows.replicated_sd is None


@pytest.mark.parametrize("off", [0.0, 0.01])
def test_neither_copies_nor_seeds_make_up_for_pairs_of_n_and_d(off):
    few = frame().head(9)
    seeds = [few.with_columns(pl.col("val_loss") * np.exp(off * k)) for k in range(3)]
    with pytest.raises(TableError, match=r"the table has 9 of \d in 27 rows\. Train"):
        rows_of(normalise(pl.concat(seeds)))


def test_runs_of_another_learning_rate_are_no_replicates():
    low, high = frame(lr=1e-3), frame(lr=2e-3).with_columns(pl.col("val_loss") * 1.02)
    assert rows_of(normalise(pl.concat([low, high]))).replicated_sd is None


def test_a_long_table_becomes_at_most_500_rows_that_stand_for_all():
    rng = np.random.default_rng(0)
    N, D = (np.exp(rng.uniform(np.log(1e7), np.log(1e10), 5000)) for _ in range(2))
    rows = rows_of(normalise(table(N, 100 * D)))
    assert 200 < len(rows) <= 500
    assert rows.count.sum() == 5000


def test_neighbours_are_averaged_by_the_runs_they_stand_for():
    rng = np.random.default_rng(0)
    N, D = (np.exp(rng.uniform(np.log(1e8), np.log(1e9), 600)) for _ in range(2))
    one = table(N, 100 * D)
    runs = pl.concat([one, one.head(300).with_columns(pl.col("val_loss") * 1.01)])
    rows = rows_of(normalise(runs))
    assert rows.count.sum() == 900
    for mine, column in ((rows.n, "n_params"), (rows.d, "tokens")):
        expected = np.log(runs[column].to_numpy()).mean()
        assert np.average(mine, weights=rows.count) == pytest.approx(expected, abs=1e-9)
    expected = np.log(runs["val_loss"].to_numpy()).mean()
    assert np.average(rows.y, weights=rows.count) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("few", "says"),
    [
        (table(*grid()).head(9), "the table has 9 of"),
        (table(np.tile([1e8, 1e9], 6), np.geomspace(1e9, 1e11, 12)), "the table has 12 of 2"),
    ],
)
def test_too_few_runs_are_refused_with_what_would_help(few, says):
    with pytest.raises(TableError, match=f"10 pairs of N and D and 3 sizes.*{says}.*Train more"):
        rows_of(normalise(few))
