"""What the rows of a table are: finished runs, repeats, several experiments."""

import polars as pl
import pytest

from analysis.table.columns import normalise
from analysis.table.observations import check
from analysis.table.runs import Duplicate, duplicates, pooled_groups


def _frame(**columns: object) -> pl.DataFrame:
    base: dict[str, object] = {
        "N": [1e8, 2e8, 4e8, 8e8, 16e8, 32e8],
        "D": [2e9, 4e9, 8e9, 16e9, 32e9, 64e9],
        "loss": [3.4, 3.2, 3.0, 2.9, 2.8, 2.7],
    }
    return pl.DataFrame({**base, **columns})


def test_a_failed_run_stays_with_its_reason() -> None:
    table = check(
        normalise(_frame(status=["finished"] * 5 + ["failed"], loss=[3.4, 3.2, 3, 2.9, 2.8, None]))
    )
    assert table.used.height == 5
    assert table.frame["excluded_reason"].to_list() == [None] * 5 + ["status is failed"]


def test_experiments_are_seen_as_groups_and_run_names_are_not() -> None:
    frame = _frame(experiment=["a", "a", "a", "b", "b", "b"], name=list("uvwxyz"))
    assert pooled_groups(normalise(frame).used) == [("experiment", ["a", "b"])]


def test_duplicates_are_named_and_kept() -> None:
    N = [1e8, 1e8, 4e8, 4e8 * (1 + 1e-6), 16e8, 32e8]
    frame = _frame(N=N, D=[2e9, 2e9, 8e9, 8e9, 32e9, 64e9], loss=[3.4, 3.4, 3.0, 3.0, 2.8, 2.7])
    assert duplicates(normalise(frame).used) == [Duplicate(1, 0, True), Duplicate(3, 2, False)]


@pytest.mark.parametrize("column", ["N", "D", "loss"])
@pytest.mark.parametrize(("off", "found"), [(0.9e-4, 1), (1.2e-4, 0)])
def test_rows_are_one_run_read_twice_when_n_d_and_loss_agree_to_a_ten_thousandth(
    column: str, off: float, found: int
) -> None:
    frame = _frame()
    values = {name: frame[name].to_list() for name in frame.columns}
    for name in values:
        values[name][1] = values[name][0] * (1 + off if name == column else 1)
    hits = duplicates(normalise(pl.DataFrame(values)).used)
    assert hits == [Duplicate(1, 0, False)][:found]


def test_a_status_counts_as_finished_in_any_case_and_an_excluded_row_may_hold_anything() -> None:
    table = check(
        normalise(
            _frame(
                status=["Finished", "DONE", None, "ok", "running", "finished"],
                loss=[3.4, 3.2, 3.0, 2.9, float("nan"), 2.7],
            )
        )
    )
    reasons = table.frame["excluded_reason"].to_list()
    assert reasons == [None, None, None, None, "status is running", None]
