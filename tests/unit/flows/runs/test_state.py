"""A run reads the same in every command."""

from dataclasses import asdict

import pytest

from flows.health.status import read_status
from flows.results.show import run_document
from flows.runs.curve import CurveWriter
from flows.runs.directory import RunDir
from flows.runs.state import missing, run_state
from flows.runs.table import observations
from flows.settings import Home, Settings
from flows.watch.progress import read_run
from tests.fakes import finished_run, planned_run, step


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path)
    home.sweeps.mkdir()
    return home


def read_everywhere(planned, home):
    """The state of a run in every command that has one."""
    run = RunDir(home.runs / planned.id)
    return {
        run_state(run),
        run_document(run, home)["state"],
        read_run(planned, run).state,
        *(row["status"] for row in observations([planned], home)),
    }


def test_a_run_without_a_result_has_one_state_in_all_commands(home):
    planned = planned_run()
    run = RunDir(home.runs / planned.id)
    run.create(planned)
    assert read_everywhere(planned, home) == {"planned"}
    with run.locked():
        assert read_everywhere(planned, home) == {"training"}
    curve = CurveWriter(run.curve_path)
    curve.append(step(1))
    curve.close()
    assert read_everywhere(planned, home) == {"interrupted"}
    with run.locked():
        assert read_everywhere(planned, home) == {"training"}
    assert missing([planned], home) == [planned]


def test_a_finished_run_is_finished_in_all_commands(home):
    planned = planned_run()
    finished_run(home.root, planned)
    assert read_everywhere(planned, home) == {"finished"}
    assert missing([planned], home) == []


def test_the_state_of_a_training_in_the_status_is_that_of_its_directory(home, monkeypatch):
    planned = planned_run()
    run = RunDir(home.runs / planned.id)
    run.create(planned)
    plan = type("Plan", (), {"spec": type("Spec", (), {"name": "s"}), "runs": (planned,)})
    monkeypatch.setattr("flows.health.status.read_plans", lambda home: [plan])
    with run.locked():
        status = read_status(Settings(), home)
        assert status["runs"] == [{"sweep": "s", **asdict(read_run(planned, run))}]
        assert status["runs"][0]["state"] == "training"
    assert read_status(Settings(), home)["sweeps"][0]["to_do"] == 1
