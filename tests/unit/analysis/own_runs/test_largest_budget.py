"""The demo's largest budget is foretold from the other five."""

from dataclasses import replace

import polars as pl
import pytest

from analysis.own_runs.largest_budget import largest_budget, largest_json, largest_sentence
from analysis.own_runs.outcome import Interval
from analysis.table.runs import own_table
from tests.conftest import ROOT

DEMO = pl.read_parquet(ROOT / "isoflop/recorded/sweeps/demo/observations.parquet")
TOP = DEMO.filter(pl.col("flops_budget") == 3e12)


@pytest.fixture(scope="module")
def largest():
    return largest_budget(own_table(DEMO), {})


def test_all_losses_lie_inside_and_within_half_a_per_cent(largest):
    assert (largest.inside, len(largest.cells)) == (5, 5)
    assert largest.error_percent < 0.5
    assert largest_sentence(largest) == (
        "The largest budget, 3.00e+12 FLOPs, was foretold afterwards from the budgets below: "
        f"5 of 5 inside the 90% interval, error {largest.error_percent:.2g} %."
    )


def test_the_losses_of_the_largest_budget_teach_nothing(largest):
    higher = DEMO.with_columns(
        val_loss=pl.when(pl.col("flops_budget") == 3e12)
        .then(pl.col("val_loss") * 1.1)
        .otherwise(pl.col("val_loss"))
    )
    other = largest_budget(own_table(higher), {})
    assert [cell.foretold for cell in other.cells] == [cell.foretold for cell in largest.cells]
    assert other.inside == 0
    names = ", ".join(TOP["name"])
    assert largest_sentence(other).endswith(f" Outside: {names}.")


def test_of_many_losses_outside_the_first_are_named(largest):
    cell = replace(largest.cells[0], loss=9.0)
    many = replace(largest, cells=tuple(replace(cell, name=f"d{k}") for k in range(40)))
    assert largest_sentence(many).endswith(", d10, d11 and 28 more.")


def test_a_registered_interval_stands_as_it_was_written(largest):
    [first, *_] = TOP.to_dicts()
    wrong = Interval(1.0, 0.9, 1.1)
    mixed = largest_budget(own_table(DEMO), {first["run_id"]: wrong})
    assert [cell.before for cell in mixed.cells] == [True, False, False, False, False]
    assert mixed.cells[0].foretold == wrong
    # Fewer points at once are added up in another order.
    expected = [pytest.approx(cell.foretold.loss, rel=1e-12) for cell in largest.cells[1:]]
    assert [cell.foretold.loss for cell in mixed.cells[1:]] == expected
    assert mixed.inside == 4
    assert "4 of 5 inside" in largest_sentence(mixed)
    said = [cell["said"] for cell in largest_json(mixed)["cells"]]
    assert said == ["before", *["afterwards"] * 4]


def test_registered_losses_are_scored_where_the_rest_cannot_be_foretold():
    few = DEMO.filter(pl.col("name").is_in(["d48", "d64"]))
    [row, _] = few.filter(pl.col("flops_budget") == 3e12).to_dicts()
    known = Interval(row["val_loss"], row["val_loss"] - 0.1, row["val_loss"] + 0.1)
    largest = largest_budget(own_table(few), {row["run_id"]: known})
    assert len(largest.cells) == 1
    assert "1 of 1 inside" in largest_sentence(largest)
    assert largest_sentence(largest).endswith(
        "Not foretold are the others: a forecast needs losses at 10 pairs of N and D and 3 sizes "
        "or more, and the budgets below have 9 of 2."
    )


def test_a_loss_that_no_fit_can_use_is_named_and_not_scored():
    for budget, reason in ((1.6e11, "val_loss is not positive"), (3e12, "")):
        bad = DEMO.with_columns(
            val_loss=pl.when((pl.col("flops_budget") == budget) & (pl.col("name") == "d48"))
            .then(0.0)
            .otherwise(pl.col("val_loss"))
        )
        largest = largest_budget(own_table(bad), {})
        assert largest.reason.startswith(reason)
        assert len(largest.cells) == (0 if reason else 4)


def test_cells_without_a_loss_are_left_out():
    open_cells = DEMO.with_columns(
        val_loss=pl.when(pl.col("flops_budget") == 3e12).then(None).otherwise(pl.col("val_loss")),
        excluded_reason=pl.when(pl.col("flops_budget") == 3e12)
        .then(pl.lit("not trained yet"))
        .otherwise(None),
    )
    assert largest_budget(own_table(open_cells), {}) is None
    assert largest_budget(own_table(TOP), {}) is None
