"""From spec to report through the real command, and again without training."""

import json

import polars as pl

from analysis.law import LossLaw
from flows.plans.stored import read_plans
from flows.settings import Home
from tests.fakes import ReadableTracker


def test_smoke_goes_from_spec_to_report_and_is_not_trained_twice(isoflop, in_process, home):
    first = isoflop("sweep", "smoke")
    assert first.returncode == 0, first.stderr
    folder = home / "sweeps" / "smoke"
    report = (folder / "report.html").read_text()
    assert f"report   {(folder / 'report.html').as_uri()}" in first.stdout
    assert "IsoFLOP valleys" in report
    assert "<script src" not in report

    [plan] = [plan for plan in read_plans(Home(home)) if plan.spec.name == "smoke"]
    table = pl.read_parquet(folder / "observations.parquet")
    assert table.height == plan.observations == 10
    assert table["excluded_reason"].null_count() == 10
    # Each of these models beats a uniform guess among 512 pieces (6.24 nats).
    assert table["val_loss"].max() < 6.0
    assert table["val_loss"].min() > 1.0
    assert LossLaw.load(folder / "law.json").n_counts == "n_params"

    # The mirror holds every run, whole.
    tracker = ReadableTracker(f"sqlite:///{home / 'mlflow.db'}", home / "artifacts")
    observations = {f"{run.id}@{cell.tokens}" for run in plan.runs for cell in run.cells}
    budgets = {f"C = {budget:.2e}" for budget in plan.spec.grid.budgets}
    entries = {run.id for run in plan.runs} | observations | budgets | {"report"}
    assert set(tracker.run_ids("smoke")) == entries
    for run in plan.runs:
        steps = [point.step for point in tracker.curve("smoke", run.id, "loss/train_loss")]
        assert steps == sorted(set(steps))
        assert steps[-1] == run.run.train.total_steps

    results = {path: path.stat().st_mtime_ns for path in home.glob("runs/*/result.json")}
    again = isoflop("sweep", "smoke", "--json", "-")
    assert again.returncode == 0, again.stderr
    assert "every run of this sweep is finished" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in results} == results
    law = json.loads(again.stdout)
    assert law["exponent_N_parametric"] == LossLaw.load(folder / "law.json").exponent_N

    listed = json.loads(in_process("runs", "smoke", "--json", "-").stdout)
    assert sorted(row["val_loss"] for row in listed) == sorted(table["val_loss"].to_list())
    assert "10 observations" in in_process("runs", "smoke").stdout


def test_plan_lists_every_run_with_its_cost_and_state(in_process):
    done = in_process("plan", "smoke", "--json", "-")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert len(plan["runs"]) == 4
    assert all(run["time_s"] > 0 for run in plan["runs"])
    assert plan["elapsed_s"] <= sum(run["time_s"] for run in plan["runs"])
    assert plan["flops_spent"] == sum(run["flops_spent"] for run in plan["runs"])
