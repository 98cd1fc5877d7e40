"""A run is found by id or name, and shown with everything known of it."""

import pytest

from flows.files import write_whole
from flows.plans.find import find_run
from flows.plans.plan import sweep_folder
from flows.results.show import run_document
from flows.runs.attempts import recording_attempt
from flows.runs.directory import RunDir
from flows.settings import Home
from sweeps.load import load_spec
from sweeps.plan import Plan
from sweeps.spec import DataRef
from tests.fakes import finished_run, planned_run


def keep_plan(home, name, *runs):
    home.sweeps.mkdir(exist_ok=True)
    spec = load_spec("smoke", [f"name={name}"])
    plan = Plan(spec=spec, data=DataRef(digest="x"), runs=runs, warnings=())
    write_whole(sweep_folder(plan, home) / "plan.json", plan.model_dump_json())


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


@pytest.fixture
def run(home):
    planned = planned_run(width=32)
    keep_plan(home, "one", planned, planned_run(width=16))
    return finished_run(home.root, planned)


@pytest.mark.parametrize("asked", ["{id}", "{id:.6}", "d32", "one/d32"])
def test_a_run_is_named_by_id_beginning_of_the_id_or_name(run, home, asked):
    assert find_run(asked.format(id=run.id), home).id == run.id


def test_a_name_of_several_runs_asks_for_the_id(run, home):
    other = planned_run(width=32, steps=(30, 60))
    keep_plan(home, "two", other)
    finished_run(home.root, planned_run(width=48))
    RunDir(home.runs / other.id).create(other)
    with pytest.raises(ValueError, match=r"could be .*\(two/d32\).*give the id"):
        find_run("d32", home)
    assert find_run("two/d32", home).id == other.id


@pytest.mark.parametrize("asked", ["nothing", "two/d32", "", "../runs"])
def test_an_unknown_run_is_refused_with_the_command_that_lists_runs(run, home, asked):
    with pytest.raises(ValueError, match="isoflop runs lists them"):
        find_run(asked, home)


def test_a_run_without_files_is_shown_as_planned(run, home):
    with pytest.raises(ValueError, match="one/d16 is planned and was never started"):
        find_run("d16", home)


def test_a_finished_run_shows_losses_cost_files_and_next_commands(run, home):
    told = run_document(run, home)
    assert told["state"] == "finished"
    assert told["sweeps"] == ["one"]
    assert [row["val_loss"] for row in told["losses"]] == [3.05, 3.025]
    assert told["steps_done"] == told["steps"] == 46
    assert told["spent"]["flops"] == pytest.approx(told["train_flops"])
    assert {"spec.json", "curve.jsonl", "result.json"} <= set(told["files"])
    assert any(command.startswith("isoflop generate") for command in told["next"])
    assert told["provenance"] is None


def test_a_half_finished_run_shows_its_losses_and_how_to_resume(home):
    planned = planned_run()
    keep_plan(home, "one", planned)
    whole = finished_run(home.root, planned)
    whole.result_path.unlink()
    lines = whole.curve_path.read_text().splitlines(keepends=True)
    whole.curve_path.write_text("".join(lines[:25]))
    with recording_attempt(whole, home):
        pass
    told = run_document(whole, home)
    assert told["state"] == "interrupted"
    assert [row["val_loss"] for row in told["losses"]] == [3.05, None]
    assert 0 < told["steps_done"] < told["steps"]
    assert told["next"][0].startswith("isoflop sweep")
    assert told["attempts"][0]["how"] == "stopped"
