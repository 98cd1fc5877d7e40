"""The rows of one law: filters, parts and mixtures."""

import re

import polars as pl
import pytest

from analysis.table.columns import normalise
from analysis.table.observations import Table, TableError
from analysis.table.selection import refuse_mixtures, split


def _table(**columns: list) -> Table:
    base: dict[str, list] = {
        "n_params": [1e8, 2e8, 4e8, 8e8],
        "tokens": [2e9, 4e9, 8e9, 16e9],
        "val_loss": [3.4, 3.2, 3.0, 2.9],
    }
    return normalise(pl.DataFrame(base | columns))


def test_rows_outside_the_filter_stay_with_it_as_their_reason() -> None:
    [(value, part)] = split(_table(), where="tokens > 3e9", by=None)
    assert value is None
    assert part.frame["excluded_reason"].to_list() == ["not where tokens > 3e9", None, None, None]


def test_a_row_for_which_the_filter_is_unknown_is_left_out() -> None:
    [(_, part)] = split(_table(lr=[1e-3, None, 1e-3, 1e-3]), where="lr > 1e-4", by=None)
    assert part.used["row"].to_list() == [0, 2, 3]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("nonsense >", "does not work"),
        ("tokens + 1", "is not true or false for each row"),
        ("eval/nll < 5", "no column 'eval'. Write 'eval/nll' as \"eval/nll\", in double quotes."),
        ("token > 1", "no column 'token'. Did you mean 'tokens'?"),
    ],
)
def test_a_filter_that_is_none_is_refused(where: str, words: str) -> None:
    with pytest.raises(TableError, match=re.escape(words)):
        split(_table(**{"eval/nll": [3.0] * 4}), where=where, by=None)


def test_each_value_of_a_column_is_a_part_in_order() -> None:
    parts = split(_table(group=["b", "b", "a", "a"]), where=None, by="group")
    assert [(value, part.used.height) for value, part in parts] == [("b", 2), ("a", 2)]


def test_a_column_to_fit_by_must_be_there_and_filled() -> None:
    with pytest.raises(TableError, match="no column 'kind'"):
        split(_table(), where=None, by="kind")
    with pytest.raises(TableError, match="'kind' is empty"):
        split(_table(kind=["a", None, "a", "a"]), where=None, by="kind")
    failed = _table(kind=list("aaaa"), status=["failed"] * 4)
    with pytest.raises(TableError, match="4 because status is failed"):
        split(failed, where=None, by="kind")


def test_a_named_experiment_is_refused_unless_the_parts_were_chosen() -> None:
    table = _table(dataset=["a", "a", "b", "b"])
    with pytest.raises(TableError, match=r"'dataset' holds 2 groups \(a, b\)\. Take one with"):
        refuse_mixtures(table, named=True)
    refuse_mixtures(table, named=False)
    refuse_mixtures(table.filter(pl.col("dataset") == "a"), named=True)


def test_several_settings_are_refused_in_a_part_too() -> None:
    table = _table(n_params=[1e8] * 4, tokens=[2e9] * 4, lr=[1e-3, 2e-3, 1e-3, 2e-3])
    with pytest.raises(TableError, match="--best-of lr"):
        refuse_mixtures(table, named=False)


def test_runs_on_several_mixtures_have_no_law_in_common() -> None:
    shares = {"share_code": [0.2, 0.2, 0.7, 0.7], "share_prose": [0.8, 0.8, 0.3, 0.3]}
    words = r"2 mixtures of 2 sources \(code, prose\), .* run isoflop mix; .*"
    with pytest.raises(
        TableError, match=words + r'--where "share_code = 0\.2", or all with --pool'
    ):
        refuse_mixtures(_table(**shares), named=True)
    named = _table(**shares, mixture=["m0", "m0", "m1", "m1"])
    with pytest.raises(
        TableError, match=words + "mixture = 'm0'.*; fit and forecast also take --by"
    ):
        refuse_mixtures(named, named=False)
    refuse_mixtures(named.filter(pl.col("mixture") == "m1"), named=False)
    # Runs on one mixture, and columns that only begin like shares.
    refuse_mixtures(_table(share_code=[0.2] * 4, share_prose=[0.8] * 4), named=True)
    refuse_mixtures(_table(share_gpu=[0.9, 0.8, 0.7, 0.6], share_idle=[0.3] * 4), named=True)
