"""The runs of an MLflow experiment are the rows of a table."""

from pathlib import Path

import pytest

from analysis.table.observations import TableError
from analysis.table.read import read_table
from flows.mirror.client import client
from flows.tables.mlflow_experiment import read_experiment

LOSSES = [3.4, 3.2, 3.0]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of three finished runs, a failed one, and their parent."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    # The store of folders is made in a tenth of the time of a database.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = f"file://{tmp_path}/mlruns"
    tracking = client(uri)
    experiment = tracking.create_experiment("scaling")
    tracking.create_run(experiment, run_name="parent")
    for k, loss in enumerate([*LOSSES, 5.0]):
        run = tracking.create_run(experiment, run_name=f"run {k}").info.run_id
        params = {"n_params": 10**8 * (k + 1), "tokens": 2e9, "lr": 3e-4, "note": "a, b\nc"}
        for name, value in params.items():
            tracking.log_param(run, name, value)
        for step, value in enumerate((loss + 1, loss)):
            tracking.log_metric(run, "val/loss", value, step=step)
        tracking.log_metric(run, "lr", 1e-5)
        tracking.set_tag(run, "team", "x")
        tracking.set_terminated(run, "FAILED" if loss == 5.0 else "FINISHED")
    return uri


def test_runs_have_numbers_for_parameters_and_their_last_metrics(store: str) -> None:
    frame = read_experiment("scaling", lambda: store).frame.filter(name="run 1")
    assert frame.select("n_params", "tokens", "val/loss", "note", "team").row(0) == (
        2 * 10**8, 2e9, 3.2, "a, b\nc", "x"
    )  # fmt: skip
    # One name of two kinds says which.
    assert frame.select("params.lr", "metrics.lr").row(0) == (3e-4, 1e-5)


def test_failed_runs_and_parents_are_left_out_with_a_reason(store: str) -> None:
    table = read_table(read_experiment("scaling", lambda: store))
    assert table.used["val_loss"].sort(descending=True).to_list() == LOSSES
    reasons = table.frame["excluded_reason"].drop_nulls().sort().to_list()
    assert reasons[0] == "no metrics or params"
    assert "FAILED" in reasons[1]


def test_the_environment_says_where_the_experiment_is(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    assert read_experiment("scaling", lambda: "sqlite:///none.db").frame.height == 5


def test_an_unknown_experiment_is_refused_with_those_there_are(store: str) -> None:
    with pytest.raises(TableError, match=r"no experiment 'scalin'\. It has scaling"):
        read_experiment("scalin", lambda: store)
    client(store).create_experiment("empty")
    with pytest.raises(TableError, match="has no runs"):
        read_experiment("empty", lambda: store)


@pytest.mark.parametrize("scheme", ["sqlite:///", "file://", ""])
def test_a_store_that_does_not_exist_is_refused_and_not_made(
    tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TableError, match=r"no MLflow store .*MLFLOW_TRACKING_URI"):
        read_experiment("scaling", lambda: f"{scheme}{tmp_path}/none")
    assert not (tmp_path / "none").exists()
