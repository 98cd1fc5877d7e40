"""A sweep designed in rounds: what it trains first, what next, and when it stops."""

from pathlib import Path

import numpy as np
import pytest

from flows.files import write_whole
from flows.plans.rounds import Rounds, plans_in_rounds, read_rounds
from flows.runs.directory import Observation, RunDir, RunResult
from flows.runs.state import missing
from flows.settings import Home
from sweeps.load import SpecError, design_overrides, load_spec
from sweeps.plan import Plan, plan
from sweeps.spec import DataRef, PlannedRun


def whole(*overrides: str, target: str = "1e15") -> Plan:
    """The demo's grid of 37 cells."""
    design = f"design={{kind: next, target_flops: {target}}}"
    return plan(load_spec("demo", [design, *overrides]), DataRef(digest="x"))


def train(run: PlannedRun, home: Home, status: str = "finished") -> None:
    """End a run with losses of a law and 0.2 % of noise that belongs to its cells."""
    directory = RunDir(home.runs / run.id)
    directory.create(run)
    losses = []
    for cell in run.cells:
        noise = np.random.default_rng(run.n_params + cell.tokens).normal()
        loss = (2.4 + 300 / run.n_params**0.58 + 6900 / cell.tokens**0.7) * np.exp(0.002 * noise)
        losses.append(
            Observation(
                tokens=cell.tokens, val_loss=float(loss), val_bpb=1.5, weights_sha256="0" * 64
            )
        )
    result = RunResult(
        run_id=run.id, status=status, reason="" if status == "finished" else "a bug",
        observations=tuple(losses) if status == "finished" else (), train_s=1.0, device="cpu",
        finished_at=1.0,
    )  # fmt: skip
    write_whole(directory.result_path, result.model_dump_json())


def run_rounds(planned: Plan, home: Home, most: int | None = None) -> tuple[Plan, Rounds]:
    """Train round by round, at most so many runs before the process is 'killed'."""
    folder = home.sweeps / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    trained = 0
    for part in plans_in_rounds(planned, home, folder):
        for run in missing(part.runs, home):
            if trained == most:
                return part, read_rounds(folder)
            train(run, home)
            trained += 1
    return part, read_rounds(folder)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Rounds]:
    return run_rounds(whole(), Home(tmp_path_factory.mktemp("undisturbed")))


def test_the_first_round_has_the_smallest_budgets_and_the_ids_of_a_sweep_of_them(
    undisturbed: tuple[Plan, Rounds],
) -> None:
    planned, record = undisturbed
    smallest = whole("grid.budgets=[1.6e11, 2.9e11, 5.2e11]")
    # Two budgets have nine cells, one fewer than a forecast needs.
    assert len(record.rounds[0].cells) == smallest.observations == 14
    assert {run.id for run in smallest.runs} < {run.id for run in planned.runs}


def test_later_rounds_pay_are_foretold_and_narrow_the_interval(
    undisturbed: tuple[Plan, Rounds],
) -> None:
    planned, record = undisturbed
    assert len(record.rounds) > 1
    assert planned.flops_spent < whole().flops_spent
    for each in record.rounds[1:]:
        assert each.why.startswith("worth it")
        assert each.before.n_factor > each.predicted.n_factor > 1
        assert all(cell.foretold.lower < cell.foretold.upper for cell in each.cells)
    assert record.stopped.startswith("no run saves what it costs")
    assert record.reached.n_factor < record.rounds[1].before.n_factor
    cells = [(run.run.model.d_model, cell.tokens) for run in planned.runs for cell in run.cells]
    assert len(set(cells)) == len(cells) == sum(len(each.cells) for each in record.rounds)
    assert len({run.name for run in planned.runs}) == len(planned.runs)


def test_a_choice_says_what_must_be_read_before_its_forecast(
    undisturbed: tuple[Plan, Rounds],
) -> None:
    _, record = undisturbed
    # The target is hundreds of times beyond the demo's compute.
    for why in (*(each.why for each in record.rounds[1:]), record.stopped):
        assert "NOT CALIBRATED: N* at 1.00e+15 FLOPs: its compute is " in why
    assert not record.stopped.endswith(".")


def test_a_killed_design_makes_the_same_choices_and_trains_nothing_twice(
    undisturbed: tuple[Plan, Rounds], home: Home
) -> None:
    first = len({cell.width for cell in undisturbed[1].rounds[0].cells})
    run_rounds(whole(), home, most=2)
    run_rounds(whole(), home, most=first)
    results = {path: path.stat().st_mtime_ns for path in home.runs.glob("*/result.json")}
    assert run_rounds(whole(), home) == undisturbed
    assert all(path.stat().st_mtime_ns == at for path, at in results.items())


def test_the_cap_ends_a_design_and_a_larger_one_goes_on(home: Home) -> None:
    planned, record = run_rounds(whole("cap={kind: flops, flops: 5e12}"), home)
    assert record.stopped.startswith("the cap leaves ")
    assert 0.8 * 5e12 < planned.flops_spent <= 5e12
    larger, continued = run_rounds(whole("cap={kind: flops, flops: 9e12}"), home)
    assert continued.rounds[: len(record.rounds)] == record.rounds
    assert planned.flops_spent < larger.flops_spent <= 9e12


def test_a_target_that_is_sure_enough_stops_after_the_first_round(home: Home) -> None:
    _, record = run_rounds(whole(target="1e13"), home)
    assert len(record.rounds) == 1
    assert record.stopped.startswith("no run saves what it costs")
    assert record.reached.n_factor > 1


def test_finished_runs_of_the_whole_grid_count_and_cost_nothing(home: Home) -> None:
    full = whole(target="1e13")
    for run in full.runs[:3]:
        train(run, home)
    planned, record = run_rounds(full, home)
    assert set(record.had) == {run.id for run in full.runs[:3]} <= {run.id for run in planned.runs}
    # They have losses enough for a forecast.
    assert sum(len(run.cells) for run in full.runs[:3]) >= 10
    assert all(each.before is not None for each in record.rounds)


def test_cells_take_the_place_of_trainings_that_failed(home: Home) -> None:
    folder = home.sweeps / "demo"
    folder.mkdir(parents=True)
    plans = plans_in_rounds(whole(), home, folder)
    losses = 0
    for run in next(plans).runs:
        failed = run.name in ("d16", "d48")
        train(run, home, "failed" if failed else "finished")
        losses += 0 if failed else len(run.cells)
    assert losses < 10
    next(plans)
    first, more = read_rounds(folder).rounds
    assert more.before is None
    assert losses + len(more.cells) >= 10
    assert not {cell.place for cell in more.cells} & {cell.place for cell in first.cells}


def test_a_grid_of_cosines_keeps_the_ids_of_the_whole(home: Home) -> None:
    full = whole("schedule=cosine", target="1e13")
    planned, _ = run_rounds(full, home)
    assert {run.id for run in planned.runs} < {run.id for run in full.runs}


def test_another_grid_is_designed_anew_and_said(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    run_rounds(whole(), home, most=1)
    run_rounds(whole("grid.budgets=[1.6e11, 2.9e11, 5.2e11]"), home, most=2)
    assert "had another grid or recipe" in caplog.text


def test_a_design_refuses_seeds_cells_of_another_sweep_and_a_target_alone() -> None:
    with pytest.raises(SpecError, match="design next trains a cell once, and seeds has"):
        load_spec("demo", ["design={kind: next}", "seeds=[0, 1]"])
    cells = "grid={kind: cells, tokens: {16: [204800]}, continues: demo}"
    with pytest.raises(SpecError, match="these cells continue sweep demo"):
        load_spec("demo", ["design={kind: next}", cells, "ladder.widths=[16]"])
    with pytest.raises(SpecError, match="--target-flops without --design next"):
        design_overrides(None, 1e15)
    assert load_spec("demo", design_overrides("next", 1e15)).design.target_flops == 1e15
    assert load_spec("demo", design_overrides("next", None)).design.target_flops is None
