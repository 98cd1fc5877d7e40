"""The views of a sweep's runs and of one run."""

import json
import sqlite3
from io import StringIO

import polars as pl

from flows.dashboard.address import Address
from flows.dashboard.app import shown
from flows.dashboard.screens.at import screen_at
from flows.runs.attempts import recording_attempt
from flows.runs.directory import RunDir
from flows.settings import Home
from tests.dashboards import Never, desk_of, text_of, words
from tests.simulated_home import simulated_sweep


def test_runs_are_filtered_and_sorted_by_their_address(desk):
    address = Address(("sweep", "made", "runs"), {"q": "d64", "sort": "-loss"})
    rows = pl.read_csv(StringIO(screen_at(desk, address).csv("runs")))
    assert set(rows["name"]) == {"d64"}
    assert rows["val_loss"].is_sorted(descending=True)
    everything = screen_at(desk, Address(("sweep", "made", "runs"))).csv("runs")
    assert f"{rows.height} of {everything.count(chr(10)) - 1} observations" in text_of(
        desk, address
    )


def test_a_run_that_mlflow_has_leads_there(root):
    planned = simulated_sweep(root, "made")
    run = RunDir(root / "runs" / planned.runs[0].id)
    with sqlite3.connect(root / "mlflow.db") as database:
        database.execute("CREATE TABLE experiments (experiment_id, name, lifecycle_stage)")
        database.execute("INSERT INTO experiments VALUES (7, 'made', 'active')")
    database.close()
    note = run.path / "mirror-made.json"
    note.write_text(json.dumps({"run": "0f"}))
    body = shown(desk_of(root, Never), Address(("sweep", "made", "runs"), {"sort": "run"}))[2]
    hrefs = [each.href for part in body for each in part._traverse() if hasattr(each, "href")]
    there = "http://127.0.0.1:5000/#/experiments/7/runs/0f?workflowType=machine_learning"
    assert hrefs.count(there) == len(planned.runs[0].cells)
    assert "–" in words(body)
    for path in (note, root / "mlflow.db"):
        path.unlink()
    body = shown(desk_of(root, Never), Address(("sweep", "made", "runs")))[2]
    assert "MLflow" not in words(body)


def test_a_run_has_a_page_with_its_losses_and_its_curve(desk, root):
    run = simulated_sweep(root, "made").runs[0]
    text = text_of(desk, Address(("run", run.id)))
    assert f"Run {run.name}" in text
    assert "isoflop generate" in text
    assert "no run 'none'" in text_of(desk, Address(("run", "none")))


def test_a_run_that_a_worker_trained_leads_to_its_flow_run(root, monkeypatch):
    planned = simulated_sweep(root, "made").runs[0]
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "abc")
    with recording_attempt(RunDir(root / "runs" / planned.id), Home(root)):
        pass
    [links] = shown(desk_of(root, Never), Address(("run", planned.id)))[1]
    assert links.children[-1].href == "http://127.0.0.1:4200/runs/flow-run/abc"


def test_what_came_out_of_a_run_stays_text(tmp_path):
    planned = simulated_sweep(tmp_path, "marked", finished=1)
    run = RunDir(tmp_path / "runs" / planned.runs[0].id)
    result = run.result()
    reason = "<img src=x onerror=alert(1)>"
    failed = result.model_copy(update={"status": "failed", "reason": reason, "observations": ()})
    run.result_path.write_text(failed.model_dump_json())
    assert f"failed: {reason}" in words(
        shown(desk_of(tmp_path), Address(("sweep", "marked", "runs")))[2]
    )
