"""What the rows of a table are: finished runs, repeats, several experiments."""

import polars as pl
import pytest

from analysis.table.columns import normalise
from analysis.table.observations import check
from analysis.table.runs import Duplicate, duplicates, run_column, runs_of
from tests.others_tables import six_runs


def test_a_failed_run_stays_with_its_reason() -> None:
    table = check(
        normalise(
            six_runs(status=["finished"] * 5 + ["failed"], loss=[3.4, 3.2, 3, 2.9, 2.8, None])
        )
    )
    assert table.used.height == 5
    assert table.frame["excluded_reason"].to_list() == [None] * 5 + ["status is failed"]


def test_duplicates_are_named_and_kept() -> None:
    N = [1e8, 1e8, 4e8, 4e8 * (1 + 1e-6), 16e8, 32e8]
    frame = six_runs(N=N, D=[2e9, 2e9, 8e9, 8e9, 32e9, 64e9], loss=[3.4, 3.4, 3.0, 3.0, 2.8, 2.7])
    assert duplicates(normalise(frame).used) == [Duplicate(1, 0, True), Duplicate(3, 2, False)]


@pytest.mark.parametrize("column", ["N", "D", "loss"])
@pytest.mark.parametrize(("off", "found"), [(0.9e-4, 1), (1.2e-4, 0)])
def test_rows_are_one_run_read_twice_when_n_d_and_loss_agree_to_a_ten_thousandth(
    column: str, off: float, found: int
) -> None:
    frame = six_runs()
    values = {name: frame[name].to_list() for name in frame.columns}
    for name in values:
        values[name][1] = values[name][0] * (1 + off if name == column else 1)
    hits = duplicates(normalise(pl.DataFrame(values)).used)
    assert hits == [Duplicate(1, 0, False)][:found]


def test_a_status_counts_as_finished_in_any_case_and_an_excluded_row_may_hold_anything() -> None:
    table = check(
        normalise(
            six_runs(
                status=["Finished", "DONE", None, "ok", "running", "finished"],
                loss=[3.4, 3.2, 3.0, 2.9, float("nan"), 2.7],
            )
        )
    )
    reasons = table.frame["excluded_reason"].to_list()
    assert reasons == [None, None, None, None, "status is running", None]


def _checkpoints(**columns: object) -> pl.DataFrame:
    """Three runs of four checkpoints."""
    N = [size for size in (1e7, 3e7, 9e7) for _ in range(4)]
    D = [20 * n * step for n, step in zip(N, [1, 2, 3, 4] * 3, strict=True)]
    return pl.DataFrame({"n_params": N, "tokens": D, **columns})


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("run_name", ["a", "b", "c"]),
        ("run", [0, 1, 2]),
        ("Run Name", ["a", "b", "c"]),
        ("runName", ["a", "b", "c"]),
        ("Name", ["lively-sea-1", "dry-sun-2", "odd-moon-3"]),
        ("id", [101, 102, 103]),
        ("run uuid", ["8f", "9e", "aa"]),
        ("exp", ["e1", "e2", "e3"]),
        ("tags.mlflow.runName", ["a", "b", "c"]),
        ("job_id", [7, 8, 9]),
        ("run_name", ["10M", "30M", "90M"]),
    ],
)
def test_a_name_that_repeats_with_one_n_and_several_d_is_a_runs(name: str, runs: list) -> None:
    frame = _checkpoints(**{name: [run for run in runs for _ in range(4)]})
    assert run_column(frame) == name
    labels = runs_of(frame)
    assert labels is not None
    assert labels.to_list() == frame[name].to_list()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("name", [f"run-{k}" for k in range(12)]),
        ("name", ["a"] * 12),
        ("name", ["a", "b", "c", "d"] * 3),  # several N under one name
        ("run", [0, 1, 2, 3] * 3),  # the number of a repeat
        ("name", ["10M"] * 4 + ["llama-30m"] * 4 + ["0.09B"] * 4),  # the size in words
        ("name", [None] * 4 + ["b"] * 4 + ["c"] * 4),
        ("model_name", ["a"] * 4 + ["b"] * 4 + ["c"] * 4),
        ("optimizer", ["a"] * 4 + ["b"] * 4 + ["c"] * 4),
    ],
)
def test_other_columns_name_no_runs(name: str, values: list) -> None:
    assert run_column(_checkpoints(**{name: values})) is None
    assert runs_of(_checkpoints(**{name: values})) is None


def test_repeats_of_one_model_under_one_name_are_not_checkpoints() -> None:
    frame = pl.DataFrame(
        {"n_params": [1e7] * 3 + [3e7] * 3, "tokens": [1e9] * 6, "name": list("aaabbb")}
    )
    assert run_column(frame) is None


def test_a_run_id_of_each_row_goes_before_a_name_that_repeats() -> None:
    names = ["a"] * 4 + ["b"] * 4 + ["c"] * 4
    frame = _checkpoints(name=names, run_id=[f"r{k}" for k in range(12)])
    assert run_column(frame) is None
    assert run_column(frame.drop("run_id")) == "name"
    assert run_column(frame.rename({"run_id": "run uuid"})) is None
