"""Cancelling by name stops the process that runs a study, as it does a sweep's."""

import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from flows.commands.sweep import cancel as cancel_command
from flows.dispatch.cancel import _name_of, cancel
from flows.dispatch.underway import controllers
from flows.settings import Settings, open_home

CONTROLLER = """
import sys, time
from pathlib import Path
from flows.dispatch.underway import registered
with registered(Path(sys.argv[1])):
    print("registered", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOFLOP_HOME", str(tmp_path))
    monkeypatch.setenv("ISOFLOP_PREFECT_PORT", "1")
    return open_home(Settings(home=tmp_path))


@pytest.fixture
def running():
    """Starts a process that is registered in a folder."""
    started = []

    def run(folder):
        folder.mkdir(parents=True)
        command = [sys.executable, "-c", CONTROLLER, str(folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        started.append(process)
        assert process.stdout.readline() == b"registered\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kind", ["sweeps", "tunes"])
def test_a_running_sweep_or_study_is_interrupted_by_its_name(home, running, kind, capsys):
    folder = home.root / kind / "mine"
    process = running(folder)
    (folder / {"sweeps": "plan.json", "tunes": "spec.json"}[kind]).write_text("{}")
    cancel_command("mine")
    assert process.wait(20) == -signal.SIGINT or process.returncode == 1
    assert capsys.readouterr().out == "stopped mine (processes here: 1, flow runs: 0)\n"
    assert controllers(folder) == []
    cancel_command("mine")
    assert capsys.readouterr().out == "nothing of mine was running\n"


@pytest.mark.parametrize("name", ["mine", "", ".."])
def test_an_unknown_name_is_refused_with_the_known_ones(home, capsys, name):
    (home.tunes / "lr-batch").mkdir(parents=True)
    (home.tunes / "lr-batch" / "spec.json").write_text("{}")
    with pytest.raises(SystemExit) as refused:
        cancel_command(name)
    assert refused.value.code == 2
    errors = capsys.readouterr().err
    assert f"no sweep '{name}' and no study of that name" in errors
    assert errors.endswith("Sweeps there: none yet. Studies: lr-batch.\n")


def test_a_killed_process_leaves_only_a_file_to_remove(home, running):
    folder = home.tunes / "mine"
    process = running(folder)
    process.kill()
    process.wait()
    assert [one.alive for one in controllers(folder)] == [False]
    stopped = cancel("mine", [folder], Settings(), server=False)
    assert (stopped.processes, stopped.left) == (0, ())
    assert controllers(folder) == []


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"spec": "lr-batch"}, "lr-batch"),
        ({"spec": "lr-batch", "overrides": ["name=a", "trials=9", "name = b"]}, "b"),
        ({}, "as shown"),
    ],
)
def test_a_deployed_flow_run_is_known_by_the_name_in_its_parameters(parameters, name):
    assert _name_of(SimpleNamespace(parameters=parameters, name="as shown")) == name
