"""Several settings at one N and D, and the best of them."""

import polars as pl
import pytest

from analysis.table.cells import Tried, best_of, refuse_tried_settings, tried_settings
from analysis.table.columns import normalise
from analysis.table.observations import Table, TableError


def _table(N: list, D: list, loss: list, **columns: list) -> Table:
    return normalise(
        pl.DataFrame({"n_params": N, "tokens": D, "val_loss": loss, **columns}, strict=False)
    )


def _cells(name: str = "lr", values: tuple = (1e-3, 2e-3, 4e-3)) -> Table:
    """Two pairs of N and D; the second value is best at the first, the third at the second."""
    return _table(
        [1e7] * 3 + [2e7] * 3, [1e9] * 6, [3.0, 2.9, 3.1, 2.8, 2.7, 2.6], **{name: [*values] * 2}
    )


@pytest.mark.parametrize(
    "name",
    [
        *("lr", "learning_rate", "Peak LR", "config.lr", "batch", "bs", "global_batch_size"),
        *("beta2", "warmup_steps", "weight_decay", "wd", "optimizer.lr", "grad_clip", "batchSize"),
    ],
)
def test_settings_are_told_by_their_names(name: str) -> None:
    table = _cells(name, (1, 2, 4))
    assert tried_settings(table.used) == [Tried(name, 2, 3)]
    with pytest.raises(TableError, match=r"2 pairs of N and D have up to 3 values .*--best-of"):
        refuse_tried_settings(table)


def test_settings_of_words_count_too() -> None:
    assert tried_settings(_cells("schedule", ("cosine", "wsd", "linear")).used)


@pytest.mark.parametrize("name", ["seed", "final_lr_loss", "batch_time", "host", "name", "steps"])
def test_seeds_and_measurements_are_not_settings(name: str) -> None:
    assert tried_settings(_cells(name, (1, 2, 4)).used) == []


def test_one_setting_for_each_size_or_budget_is_no_choice() -> None:
    N, D = [1e7, 1e7, 2e7, 2e7], [1e9, 2e9, 1e9, 2e9]
    assert tried_settings(_table(N, D, [3.0] * 4, lr=[1e-3, 1e-3, 5e-4, 5e-4]).used) == []
    assert tried_settings(_table(N, D, [3.0] * 4, batch=[32, 64, 32, 64]).used) == []
    refuse_tried_settings(_table(N, D, [3.0] * 4, batch=[32, 64, 32, 64]))


def test_rounding_makes_neither_cells_nor_settings() -> None:
    # Tokens in whole batches differ by less than a hundredth; so do these rates.
    apart = _table([1e7, 1e7], [1e9, 1.004e9], [3.0, 2.9], bs=[32, 64])
    assert tried_settings(apart.used) == [Tried("bs", 1, 2)]
    alike = _table([1e7, 1e7], [1e9, 1e9], [3.0, 2.9], lr=[1e-3, 1.0000001e-3])
    assert tried_settings(alike.used) == []
    other = _table([1e7, 1e7], [1e9, 1.1e9], [3.0, 2.9], bs=[32, 64])
    assert tried_settings(other.used) == []


def test_a_rate_that_decays_along_a_run_is_not_tried() -> None:
    D = [1e9 * 1.005**k for k in range(6)]
    run = {"run_name": list("aaabbb")}
    rates = [1e-3, 8e-4, 6e-4] * 2
    assert tried_settings(_table([1e7] * 3 + [2e7] * 3, D, [3.0] * 6, lr=rates, **run).used) == []


def test_the_best_of_each_cell_is_used_and_the_rest_has_a_reason() -> None:
    best = best_of(_cells(), ["lr"])
    assert best.used["val_loss"].to_list() == [2.9, 2.6]
    assert best.frame.height == 6
    reasons = best.frame["excluded_reason"].drop_nulls().to_list()
    assert reasons == ["not the best lr of its N and D"] * 4
    [doubt] = best.doubts
    assert doubt.sentence.startswith("At 1 of 2 pairs of N and D the best lr is the greatest")


def test_a_best_setting_inside_the_tried_ones_leaves_no_doubt() -> None:
    table = _table([1e7] * 3, [1e9] * 3, [3.0, 2.9, 3.1], lr=[1e-3, 2e-3, 4e-3])
    assert best_of(table, ["lr"]).doubts == ()


def test_repeats_are_averaged_before_the_best_is_taken_and_kept_after() -> None:
    # The luckiest single run has the worse rate.
    lr, seed = [1e-3, 1e-3, 2e-3, 2e-3], [0, 1, 0, 1]
    table = _table([1e7] * 4, [1e9] * 4, [2.8, 3.2, 2.9, 2.9], lr=lr, seed=seed)
    assert best_of(table, ["lr"]).used["lr"].to_list() == [2e-3, 2e-3]


def test_the_best_of_several_columns_is_one_combination() -> None:
    lr, bs = [1e-3, 1e-3, 2e-3, 2e-3], [32, 64, 32, 64]
    table = _table([1e7] * 4, [1e9] * 4, [3.0, 2.9, 2.8, 3.1], lr=lr, bs=bs)
    assert best_of(table, ["lr", "bs"]).used.select("lr", "bs").rows() == [(2e-3, 32)]
    with pytest.raises(TableError, match="--best-of lr,bs"):
        best_of(table, ["lr"])
    with pytest.raises(TableError, match="--best-of lr,bs"):
        refuse_tried_settings(table)


def test_the_best_of_a_missing_column_is_refused() -> None:
    with pytest.raises(TableError, match="--best-of rate: there is no such column"):
        best_of(_cells(), ["rate"])


def test_a_cell_of_one_row_and_a_missing_setting_are_kept() -> None:
    table = _table([1e7, 1e7, 2e7], [1e9] * 3, [3.0, 2.9, 2.8], lr=[1e-3, 2e-3, None])
    assert best_of(table, ["lr"]).used["val_loss"].to_list() == [2.9, 2.8]
