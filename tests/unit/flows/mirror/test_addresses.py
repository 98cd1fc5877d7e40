"""Addresses of MLflow's pages, from the home alone."""

import json
import sqlite3

import pytest

from flows.mirror.addresses import run_address, sweep_address
from flows.mirror.views import view_tags
from flows.settings import Home, Settings


@pytest.fixture
def home(tmp_path):
    database = sqlite3.connect(tmp_path / "mlflow.db")
    database.execute(
        "CREATE TABLE experiments (experiment_id INT, name TEXT, lifecycle_stage TEXT)"
    )
    database.execute("INSERT INTO experiments VALUES (7, 'mine', 'active'), (8, 'gone', 'deleted')")
    database.execute("CREATE TABLE experiment_tags (experiment_id INT, key TEXT, value TEXT)")
    database.commit()
    database.close()
    run = tmp_path / "runs" / "abc"
    run.mkdir(parents=True)
    (run / "mirror-mine.json").write_text(json.dumps({"run": "0f"}))
    return Home(tmp_path)


def test_a_mirrored_sweep_and_run_have_addresses_and_others_none(home):
    settings, run = Settings(home=home.root), home.runs / "abc"
    start = "http://127.0.0.1:5000/#/experiments/7/runs"
    assert sweep_address("mine", settings, home).startswith(
        f"{start}?workflowType=machine_learning"
    )
    assert run_address("mine", run, settings, home) == (f"{start}/0f?workflowType=machine_learning")
    assert sweep_address("gone", settings, home) is None
    assert run_address("mine", home.runs / "other", settings, home) is None


def test_another_database_than_the_homes_is_not_asked(home):
    settings = Settings(home=home.root, mlflow_uri="http://elsewhere:5000")
    assert sweep_address("mine", settings, home) is None


def test_a_damaged_database_has_no_addresses(home):
    (home.root / "mlflow.db").write_bytes(b"torn")
    assert sweep_address("mine", Settings(home=home.root), home) is None


def test_a_sweep_whose_views_are_logged_is_opened_in_one(home):
    settings = Settings(home=home.root)
    assert "viewStateShareKey" not in sweep_address("mine", settings, home)
    with sqlite3.connect(home.root / "mlflow.db") as database:
        database.execute(
            "INSERT INTO experiment_tags VALUES (7, 'mlflow.sharedViewState.scaling', '{}')"
        )
    database.close()
    assert sweep_address("mine", settings, home).endswith("CHART&viewStateShareKey=scaling")


def test_a_sweep_of_mixtures_is_opened_in_the_table_of_its_observations(home):
    with sqlite3.connect(home.root / "mlflow.db") as database:
        for key in view_tags(["share_code"]):
            database.execute("INSERT INTO experiment_tags VALUES (7, ?, '{}')", (key,))
    database.close()
    address = sweep_address("mine", Settings(home=home.root), home)
    assert address.endswith("compareRunsMode=TABLE&viewStateShareKey=observations")
