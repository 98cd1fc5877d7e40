"""Observations and curves of a sweep as entries of MLflow, and the views that show them."""

import json
from statistics import fmean

import pytest

from analysis.words import short
from flows.mirror import entries as entries_module
from flows.mirror.entries import AGAINST_PARAMS, COLUMNS, entries, run_colours, share_columns
from flows.mirror.views import TAG, view_tags
from flows.runs.directory import RunDir, RunResult
from flows.runs.table import observations
from flows.settings import Home
from tests.simulated_home import simulated_sweep
from tests.unit.flows.results import test_mixtures as mixture_sweeps

SMALL = ("ladder.widths=[16, 24, 32, 48]", "grid.budgets=[1e10, 4e10]", "grid.min_tokens=0")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def planned(home):
    return simulated_sweep(home.root, "mine", *SMALL, noise=0)


def test_each_observation_is_an_entry_folded_under_the_curve_of_its_isoflop(home, planned):
    logged = {entry.key: entry for entry in entries(planned.runs, home)}
    rows = observations(planned.runs, home)
    curves = [entry for entry in logged.values() if entry.kind == "curve"]
    assert [curve.name for curve in curves] == ["C = 1.00e+10", "C = 4.00e+10"]
    assert len(logged) == len(rows) + len(curves)
    for row in rows:
        entry = logged[row["run_id"]]
        assert {name: point.value for name, point in entry.points} == {
            name: row[name] for name in COLUMNS
        }
        assert entry.verdict == "in the fit"
        assert logged[entry.parent].colour == entry.colour
        assert f"{row['flops_budget']:.2e}" in entry.parent


def test_a_curve_has_the_losses_of_its_isoflop_at_their_n_and_d(home, planned):
    rows = [row for row in observations(planned.runs, home) if row["flops_budget"] == 4e10]
    [curve] = [entry for entry in entries(planned.runs, home) if entry.key == "C = 4.00e+10"]
    for metric, axis in (("params", "n_params"), ("tokens", "tokens")):
        points = {
            point.step: point.value
            for name, point in curve.points
            if name == f"scaling/loss_against_{metric}"
        }
        assert points == {row[axis]: row["val_loss"] for row in rows}
    lowest = min(rows, key=lambda row: row["val_loss"])
    assert lowest["name"] in curve.verdict
    assert ("n_params", lowest["n_params"]) in [(name, p.value) for name, p in curve.points]


def test_seeds_of_one_n_and_d_are_one_point_of_their_mean_and_the_verdict_says_so(tmp_path):
    planned = simulated_sweep(tmp_path, "mine", *SMALL, seeds=3)
    home = Home(tmp_path)
    rows = [row for row in observations(planned.runs, home) if row["flops_budget"] == 4e10]
    [curve] = [entry for entry in entries(planned.runs, home) if entry.key == "C = 4.00e+10"]
    means = {
        N: fmean(row["val_loss"] for row in rows if row["n_params"] == N)
        for N in {row["n_params"] for row in rows}
    }
    points = [point for name, point in curve.points if name == AGAINST_PARAMS]
    assert {point.step: point.value for point in points} == means
    assert len(points) == len(means) == len(rows) / 3
    assert ("val_loss", min(means.values())) in [(name, p.value) for name, p in curve.points]
    assert curve.verdict.endswith("; each loss the mean of 3 seeds")
    failed = RunDir(home.runs / next(r["parent_run_id"] for r in rows if r["n_params"] in means))
    result = failed.result().model_copy(update={"status": "failed", "observations": ()})
    failed.result_path.write_text(result.model_dump_json())
    [curve] = [entry for entry in entries(planned.runs, home) if entry.key == "C = 4.00e+10"]
    assert curve.verdict.endswith("; each loss the mean of up to 3 seeds")


def test_each_mixture_has_curves_of_its_own(home, planned, monkeypatch):
    rows = observations(planned.runs, home)
    mixed = [
        {**row, "mixture": name, "run_id": f"{name} {row['run_id']}"}
        for name in ("even", "web")
        for row in rows
    ]
    monkeypatch.setattr(entries_module, "observations", lambda runs, home: mixed)
    curves = {e.key: e for e in entries(planned.runs, home) if e.kind == "curve"}
    assert set(curves) == {
        f"C = {budget}, {name}" for budget in ("1.00e+10", "4.00e+10") for name in ("even", "web")
    }
    mixed = [{**row, "flops_budget": None} for row in mixed]
    curves |= {e.key: e for e in entries(planned.runs, home) if e.kind == "curve"}
    assert {f"N = {short(row['n_params'])}, {row['mixture']}" for row in mixed} < set(curves)
    assert not [name for name, curve in curves.items() if "mean" in curve.verdict]


def test_an_observation_of_a_mixture_has_its_shares_and_the_view_their_columns(tmp_path):
    whole = mixture_sweeps.planned()
    columns = share_columns(whole.runs)
    row = observations(whole.runs, Home(tmp_path))[0]
    assert columns == [f"share_{name}" for name in mixture_sweeps.SOURCES]
    for run in whole.runs[:1]:
        RunDir(tmp_path / "runs" / run.id).create(run)
        failed = RunResult(
            run_id=run.id, status="failed", observations=(), train_s=1, device="cpu", finished_at=1
        )
        RunDir(tmp_path / "runs" / run.id).result_path.write_text(failed.model_dump_json())
    [entry] = [e for e in entries(whole.runs, Home(tmp_path)) if e.kind == "observation"]
    assert {name: point.value for name, point in entry.points if name in columns} == {
        name: row[name] for name in columns
    }
    tags = view_tags(columns)
    assert f"{TAG}scaling" not in tags
    state = json.loads(json.loads(tags[f"{TAG}observations"])["state"])
    assert f"metrics.`{columns[0]}`" in state["selectedColumns"]


def test_a_failed_training_is_an_entry_that_says_why_and_lies_on_no_curve(tmp_path):
    home = Home(tmp_path)
    planned = simulated_sweep(tmp_path, "mine", *SMALL)
    run = RunDir(home.runs / planned.runs[0].id)
    result = run.result().model_copy(
        update={"status": "diverged", "reason": "loss nan", "observations": ()}
    )
    run.result_path.write_text(RunResult.model_dump_json(result))
    failed = [entry for entry in entries(planned.runs, home) if entry.failed]
    assert {entry.verdict for entry in failed} == {"left out: diverged: loss nan"}
    assert len(failed) == len(planned.runs[0].cells)
    steps = {
        point.step
        for entry in entries(planned.runs, home)
        for name, point in entry.points
        if name == "scaling/loss_against_params"
    }
    assert planned.runs[0].n_params not in steps


def test_a_grid_of_tokens_has_curves_against_n_at_each_d_and_against_d_of_each_n(tmp_path):
    grid = "grid={kind: tokens, tokens: [204800, 409600]}"
    planned = simulated_sweep(tmp_path, "mine", SMALL[0], grid)
    curves = [e for e in entries(planned.runs, Home(tmp_path)) if e.kind == "curve"]
    assert [curve.name for curve in curves[:2]] == ["D = 205k", "D = 410k"]
    against = [{name for name, _ in curve.points} - set(COLUMNS) for curve in curves]
    assert against[:2] == [{"scaling/loss_against_params"}] * 2
    assert against[2:] == [{"scaling/loss_against_tokens"}] * 4


def test_sizes_have_colours_that_differ(planned):
    colours = run_colours(planned.runs)
    assert len(set(colours.values())) == len({run.n_params for run in planned.runs}) > 2
    assert all(len(colour) == 7 and colour[0] == "#" for colour in colours.values())


def test_a_view_fits_its_tag_and_charts_and_columns_are_metrics_that_entries_have(home, planned):
    logged = {name for entry in entries(planned.runs, home) for name, _ in entry.points}
    tags = view_tags()
    # MLflow's limit on the tag of an experiment.
    assert all(len(value) < 20_000 for value in tags.values())
    view = json.loads(tags[f"{TAG}scaling"])
    state = json.loads(view["state"])
    charts = state["compareRunCharts"]
    assert {chart["metricKey"] for chart in charts} == logged
    assert [chart["metricKey"] for chart in charts if not chart["deleted"]] == [
        "scaling/loss_against_params",
        "scaling/loss_against_tokens",
    ]
    assert {f"metrics.`{name}`" for name in COLUMNS} <= set(state["selectedColumns"])
