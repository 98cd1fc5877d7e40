"""A sweep foretells its largest budget while it trains, each loss before it is recorded."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from analysis.own_runs.largest_budget import largest_budget, largest_sentence
from analysis.table.runs import own_table
from flows.files import write_whole
from flows.forecasts import by_sweep
from flows.forecasts.by_sweep import Foreteller, said_before, score_sweep
from flows.forecasts.registered import read_forecasts, read_scores, write_forecast
from flows.runs.curve import CurveWriter
from flows.runs.directory import Observation, RunDir, RunResult
from flows.runs.table import observations_frame
from flows.settings import Home
from flows.training.stacks import longest_first
from sweeps.load import load_spec
from sweeps.plan import Plan, plan
from sweeps.spec import DataRef, PlannedRun
from tests.conftest import ROOT
from tests.fakes import evaluation

DEMO = pl.read_parquet(ROOT / "isoflop/recorded/sweeps/demo/observations.parquet")
LOSSES = {(row["name"], row["tokens"]): row["val_loss"] for row in DEMO.to_dicts()}
SLOTS = 2


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(by_sweep, "_EVERY_S", 0.0)
    home = Home(tmp_path)
    for folder in (home.runs, home.sweeps):
        folder.mkdir()
    return home


@pytest.fixture(scope="module")
def demo() -> Plan:
    return plan(load_spec("demo", ()), DataRef(digest="d"))


def events(sweep: Plan) -> list[tuple[float, PlannedRun, int]]:
    """When each loss of a sweep is there on two slots, as `longest_first` reckons time."""
    free, moments = [0.0] * SLOTS, []
    for run in longest_first(sweep.runs):
        start = min(free)
        trunk, passed = 0.0, start
        for cell in run.cells:
            leaves = 0.7 * cell.tokens
            each = cell.train_flops / cell.tokens + 1e6
            passed += (leaves - trunk + 0.3 * cell.tokens) * each
            trunk = leaves
            moments.append((passed, run, cell.tokens))
        free[free.index(start)] = passed
    return sorted(moments, key=lambda moment: moment[0])


def record(run: PlannedRun, tokens: int, loss: float, home: Home) -> None:
    """One more loss on a run's curve, and the result after the last."""
    directory = RunDir(home.runs / run.id)
    directory.create(run)
    curve = CurveWriter(directory.curve_path)
    curve.append(replace(evaluation(1), horizon=tokens, val_loss=loss, at=time.time()))
    curve.close()
    if tokens == run.cells[-1].tokens:
        finish(run, home)


def finish(run: PlannedRun, home: Home) -> None:
    result = RunResult(
        run_id=run.id, status="finished", train_s=1.0, device="cpu", finished_at=time.time(),
        observations=tuple(
            Observation(tokens=horizon, val_loss=row["val_loss"], val_bpb=2.0, weights_sha256="0")
            for horizon, row in RunDir(home.runs / run.id).curve.evals().items()
        ),
    )  # fmt: skip
    write_whole(RunDir(home.runs / run.id).result_path, result.model_dump_json())


def replay(sweep: Plan, home: Home, watcher: Foreteller, losses=LOSSES) -> None:
    for _, run, tokens in events(sweep):
        record(run, tokens, losses[run.name, tokens], home)
        result = RunDir(home.runs / run.id).result()
        if result is not None:
            watcher.finished(run, result)
        watcher.tick()


def foretold(sweep: Plan, home: Home):
    table = own_table(observations_frame(sweep.runs, home))
    return largest_budget(table, said_before(sweep, home))


def test_the_demo_foretells_its_largest_budget_in_the_order_in_which_it_trains(demo, home):
    watcher = Foreteller(home)
    watcher.begin(demo, list(demo.runs))
    replay(demo, home, watcher)
    largest = foretold(demo, home)
    assert [cell.before for cell in largest.cells] == [True] * 5
    assert largest.inside == 5
    assert largest.error_percent < 0.5
    assert largest_sentence(largest).startswith(
        "The largest budget, 3.00e+12 FLOPs, was foretold from those below before its losses were "
        "there: 5 of 5 inside the 90% interval, error 0.3"
    )
    scores = [score for each in read_forecasts(home) for score in read_scores(each.name, home)]
    assert len(scores) == 5
    assert all(score.inside for score in scores)


def test_every_forecast_was_written_before_its_loss_and_learnt_from_smaller_budgets(demo, home):
    watcher = Foreteller(home)
    watcher.begin(demo, list(demo.runs))
    replay(demo, home, watcher)
    below = sum(cell.flops_budget < 3e12 for run in demo.runs for cell in run.cells)
    runs = {run.id: run for run in demo.runs}
    for forecast in read_forecasts(home):
        run = runs[forecast.run_id]
        at = RunDir(home.runs / run.id).curve.evals()[run.cells[-1].tokens]["at"]
        assert forecast.written_at.timestamp() < at
        assert 10 <= forecast.rows <= below
        assert (forecast.points[0].n_params, forecast.points[0].tokens) == (
            run.n_params, run.cells[-1].tokens,
        )  # fmt: skip


def test_the_loss_of_the_largest_budget_moves_no_forecast(demo, home, tmp_path):
    intervals = []
    for factor, name in ((1.0, "as it was"), (1.5, "far off")):
        other = Home(tmp_path / name)
        other.runs.mkdir(parents=True)
        losses = {
            (run.name, cell.tokens): LOSSES[run.name, cell.tokens]
            * (factor if cell.flops_budget == 3e12 else 1.0)
            for run in demo.runs
            for cell in run.cells
        }
        watcher = Foreteller(other)
        watcher.begin(demo, list(demo.runs))
        replay(demo, other, watcher, losses)
        intervals.append(said_before(demo, other))
        assert foretold(demo, other).inside == (5 if factor == 1.0 else 0)
    assert intervals[0] == intervals[1]


def test_a_restart_keeps_what_was_written_and_foretells_the_others(demo, home):
    first = Foreteller(home)
    first.begin(demo, list(demo.runs))
    moments = events(demo)
    for _, run, tokens in moments[:24]:
        record(run, tokens, LOSSES[run.name, tokens], home)
        first.tick()
    written = {each.name: each for each in read_forecasts(home)}
    assert 0 < len(written) < 5
    second = Foreteller(home)
    second.begin(demo, [run for run in demo.runs if not RunDir(home.runs / run.id).settled()])
    for _, run, tokens in moments[24:]:
        record(run, tokens, LOSSES[run.name, tokens], home)
        second.tick()
    after = {each.name: each for each in read_forecasts(home)}
    assert len(after) == 5
    assert {name: after[name] for name in written} == written
    assert not any(read_scores(name, home) for name in after)
    score_sweep(demo, home)
    score_sweep(demo, home)
    assert all(len(read_scores(name, home)) == 1 for name in after)


def test_a_run_whose_end_is_recorded_is_not_foretold_any_more(demo, home):
    for _, run, tokens in events(demo):
        record(run, tokens, LOSSES[run.name, tokens], home)
    # As after a crash between the last loss and the result.
    big = [run for run in demo.runs if run.cells[-1].flops_budget == 3e12]
    for run in big:
        RunDir(home.runs / run.id).result_path.unlink()
    watcher = Foreteller(home)
    watcher.begin(demo, big)
    watcher.tick()
    assert read_forecasts(home) == []
    for run in big:
        finish(run, home)
    largest = foretold(demo, home)
    assert [cell.before for cell in largest.cells] == [False] * 5
    assert "was foretold afterwards from the budgets below: 5 of 5" in largest_sentence(largest)
    assert largest.error_percent < 0.5


def test_a_forecast_written_after_the_loss_counts_as_said_afterwards(demo, home):
    watcher = Foreteller(home)
    watcher.begin(demo, list(demo.runs))
    replay(demo, home, watcher)
    [late, *others] = read_forecasts(home)
    path = home.forecasts / f"{late.name}.json"
    path.unlink()
    hour = timedelta(hours=1)
    write_forecast(late.model_copy(update={"written_at": datetime.now(UTC) + hour}), home)
    largest = foretold(demo, home)
    assert sum(cell.before for cell in largest.cells) == len(others) == 4
    assert "4 before their losses were there, d" in largest_sentence(largest)


def test_too_few_rows_below_are_named_and_nothing_is_written(home):
    small = plan(
        load_spec("demo", ("ladder.widths=[48, 64]",)),
        DataRef(digest="d"),
    )
    watcher = Foreteller(home)
    watcher.begin(small, list(small.runs))
    replay(small, home, watcher)
    assert read_forecasts(home) == []
    largest = foretold(small, home)
    assert largest.cells == ()
    assert largest_sentence(largest) == (
        "The largest budget, 3.00e+12 FLOPs, was not foretold: a forecast needs losses at 10 "
        "pairs of N and D and 3 sizes or more, and the budgets below have 9 of 2."
    )


def test_a_name_that_a_person_took_stops_no_sweep(demo, home):
    run = max(demo.runs, key=lambda run: run.flops_spent)
    home.forecasts.mkdir()
    Path(home.forecasts / f"demo-{run.name}-{run.id[:8]}.json").write_text("{}")
    watcher = Foreteller(home)
    watcher.begin(demo, list(demo.runs))
    replay(demo, home, watcher)
    assert len(read_forecasts(home)) == 4
    assert [cell.before for cell in foretold(demo, home).cells].count(False) == 1


def test_a_grid_without_budgets_has_nothing_to_foretell(home):
    grid = plan(
        load_spec("smoke", ("grid={kind: tokens, tokens: [102400, 204800]}",)),
        DataRef(digest="d"),
    )
    watcher = Foreteller(home)
    watcher.begin(grid, list(grid.runs))
    watcher.tick()
    assert largest_budget(own_table(observations_frame(grid.runs, home)), {}) is None
