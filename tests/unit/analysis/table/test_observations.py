"""What the observations table holds, and what no fit can use."""

import polars as pl
import pytest

from analysis.table.columns import normalise
from analysis.table.observations import LINE, SCHEMA, TableError, check, name_rows
from analysis.table.runs import own_table
from tests.others_tables import six_runs


@pytest.mark.parametrize(
    ("value", "words"),
    [(float("nan"), "NaN"), (None, "missing"), (-1.0, "not positive"), (0.0, "not positive")],
)
def test_a_bad_loss_is_named_with_its_row(value: float | None, words: str) -> None:
    with pytest.raises(TableError, match=words) as caught:
        check(normalise(six_runs(loss=[3.4, 3.2, value, 2.9, 2.8, 2.7])))
    assert caught.value.rows == (2,)
    assert "Row 3 (counted from 1)" in str(caught.value)


def test_an_infinite_token_count_is_named() -> None:
    with pytest.raises(TableError, match="infinite"):
        check(normalise(six_runs(D=[1e9, float("inf"), 1e9, 1e9, 1e9, 1e9])))


def test_several_loss_units_are_refused() -> None:
    with pytest.raises(TableError, match="several units"):
        check(normalise(six_runs(loss_unit=["nats", "nats", "bits", "bits", "bits", "bits"])))


def test_the_trackers_table_passes_unchanged() -> None:
    row = {name: None for name in SCHEMA} | {
        "run_id": "r1", "name": "a", "n_params": 2**40 + 1, "n_params_total": 2**41,
        "n_params_non_embedding": 2**39, "tokens": 10**10, "train_flops": 1e21,
        "flops_6nd": 6e21, "val_loss": 3.0, "loss_unit": "nats_per_token", "status": "finished",
    }  # fmt: skip
    frame = pl.DataFrame([row], schema=SCHEMA)
    for table in (own_table(frame), normalise(frame)):
        table = check(table)
        assert int(table.frame["n_params"][0]) == 2**40 + 1
        assert (table.n_counts, table.c_counts) == ("n_params", "train_flops")
        assert table.loss_unit == "nats_per_token"
        assert table.frame["excluded_reason"][0] is None


def test_the_unit_of_a_column_goes_before_the_tables_own() -> None:
    columns = {"bpb": [1.0] * 6, "unit": ["nats per token"] * 6}
    table = normalise(six_runs(**columns).drop("loss"))
    assert table.loss_unit == "bits_per_byte"
    assert check(table).loss_unit == "nats_per_token"


def test_values_are_refused_only_in_used_rows() -> None:
    frame = six_runs(loss=[None, 3.2, 3.0, 2.9, 2.8, 2.7], excluded_reason=["lost"] + [None] * 5)
    assert check(normalise(frame)).used["row"].to_list() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", ["C", "budget", "weight"])
def test_a_number_that_no_fit_can_use_is_refused_in_optional_columns_too(name: str) -> None:
    mapping = {"weight": name} if name == "weight" else {}
    frame = six_runs(**{name: [1e18, 1e18, 0.0, 1e18, 1e18, 1e18]})
    with pytest.raises(TableError, match="not positive") as caught:
        check(normalise(frame, mapping=mapping))
    assert caught.value.rows == (2,)


def test_twelve_rows_are_named_and_the_rest_counted() -> None:
    rows = pl.DataFrame({"row": range(15)})
    assert name_rows(rows[4:5]) == "Row 5 (counted from 1)"
    assert name_rows(rows[:12]).startswith("Rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 (")
    assert name_rows(rows).endswith("11, 12 and 3 more (counted from 1)")


def test_rows_of_a_source_with_lines_are_named_by_their_lines() -> None:
    rows = pl.DataFrame({"row": [0, 3], LINE: [2, 7]})
    assert name_rows(rows) == "Lines 2, 7"
    with pytest.raises(TableError, match=r"bad\. Line 7\.$") as caught:
        raise TableError("bad.", rows[1:])
    assert caught.value.rows == (3,)
