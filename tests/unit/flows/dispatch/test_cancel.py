"""Cancelling by name stops the process that runs a study, as it does a sweep's."""

import json
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling, Completed, Crashed, Pending, Running, Scheduled

from flows.commands.sweep import cancel as cancel_command
from flows.dispatch import cancel as module
from flows.dispatch.cancel import _name_of, cancel
from flows.dispatch.underway import Controller, controllers
from flows.settings import Settings, open_home
from flows.stack.processes import Process

# Outside of Prefect, whose import takes seconds.
CONTROLLER = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
nothing = SimpleNamespace(id=None)
sys.modules["prefect.runtime"] = SimpleNamespace(deployment=nothing, flow_run=nothing)
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
    assert process.wait(20) == -signal.SIGTERM
    assert capsys.readouterr().out == "stopped mine (processes here: 1, flow runs: 0)\n"
    assert controllers(folder) == []
    cancel_command("mine")
    assert capsys.readouterr().out == "nothing of mine was running\n"


def test_a_process_with_the_number_of_one_on_another_host_is_not_signalled(home, running, capsys):
    folder = home.sweeps / "mine"
    process = running(folder)
    [note] = folder.glob("underway/*.json")
    elsewhere = json.loads(note.read_text()) | {"host": "elsewhere"}
    note.write_text(json.dumps(elsewhere))
    (folder / "plan.json").write_text("{}")
    with pytest.raises(SystemExit) as left:
        cancel_command("mine")
    assert left.value.code == 1
    assert process.poll() is None
    there = f"process {process.pid} on elsewhere (isoflop cancel mine there, or remove {note} if"
    assert f"isoflop: still running: {there}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", ["", "null", "[]", "{}", '{"process": {}}', '{"host": 1, "later": 2}', "\0\0"]
)
def test_a_damaged_registration_is_logged_and_does_not_stop_a_cancel(home, caplog, content):
    note = home.sweeps / "mine" / "underway" / "elsewhere-1.json"
    note.parent.mkdir(parents=True)
    note.write_text(content)
    assert cancel("mine", [home.sweeps / "mine"], Settings(), server=False).left == ()
    assert f"{note} is damaged or of another version: skipped" in caplog.text


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


class Server:
    """A Prefect server: flow runs with a flow's name, tags and parameters, in pages of two."""

    def __init__(self):
        self.runs, self.set = [], []

    def add(self, state, *, flow="train", tags=(), deployed=True, name="as shown", **parameters):
        run = SimpleNamespace(
            id=uuid4(), state=state, flow=flow, tags=tags, name=name, parameters=parameters,
            deployment_id=uuid4() if deployed else None,
        )  # fmt: skip
        self.runs.append(run)
        return run

    def read_flow_run(self, flow_run_id):
        for run in self.runs:
            if run.id == flow_run_id:
                return run
        raise ObjectNotFound(http_exc=None)

    def read_flow_runs(self, *, flow_run_filter, offset, flow_filter=None):
        kinds = flow_run_filter.state.type.any_
        found = [run for run in self.runs if run.state is None or run.state.type in kinds]
        if flow_filter is not None:
            found = [run for run in found if run.flow in flow_filter.name.any_]
        if flow_run_filter.tags is not None:
            found = [run for run in found if set(flow_run_filter.tags.all_) <= set(run.tags)]
        return found[offset : offset + 2]

    def set_flow_run_state(self, flow_run_id, state, force=False):
        run = self.read_flow_run(flow_run_id)
        run.state = state
        self.set.append((run, state.type, force))


@pytest.fixture
def server(monkeypatch):
    server = Server()

    @contextmanager
    def client(settings):
        yield server

    def cancel_all(read):
        states = read()
        for flow_run in states:
            server.read_flow_run(flow_run).state = Completed()
        return len(states)

    def read_states(ids):
        return {run.id: run.state for run in server.runs if run.id in ids}

    monkeypatch.setattr(module, "prefect_client", client)
    monkeypatch.setattr(module, "cancel_flow_runs", cancel_all)
    monkeypatch.setattr(module, "read_states", read_states)
    monkeypatch.setattr(module, "_POLL_S", 0.001)
    return server


def controller(run, *, host="elsewhere", deployed=True):
    process = Process(name="sweep", pid=2**22 + 1, started_at=1.0)
    flow_run = None if run is None else str(run.id)
    return Controller(Path("/none"), host, process, flow_run, deployed)


def test_every_page_of_flow_runs_of_the_name_is_ended_and_no_other(server):
    trainings = [server.add(Running(), tags=("mine",)) for _ in range(5)]
    sweep = server.add(Scheduled(), flow="sweep", spec="mine")
    study = server.add(Pending(), flow="tune", spec="x", overrides=["name=mine"])
    others = [
        server.add(Running(), tags=("other",)),
        server.add(Running(), flow="sweep", spec="other"),
        # In the process that started it, which is interrupted instead.
        server.add(Running(), flow="sweep", spec="mine", deployed=False),
        server.add(Running(), flow="report", spec="mine"),
    ]
    server.add(Completed(), tags=("mine",))
    assert module.is_requested("mine", Settings())
    stopped = cancel("mine", [], Settings(), server=True)
    assert (stopped.flow_runs, stopped.left) == (7, ())
    assert all(run.state.is_completed() for run in (*trainings, sweep, study))
    assert not any(run.state.is_completed() for run in others)
    assert not module.is_requested("mine", Settings())


def test_a_controllers_flow_run_is_ended_as_its_process_is(server, monkeypatch):
    living, gone, ended = (server.add(state) for state in (Running(), Running(), Crashed()))
    here = socket.gethostname()
    known = [
        controller(living),
        controller(gone, host=here),
        controller(ended),
        controller(None),
        controller(SimpleNamespace(id=uuid4())),
    ]
    assert module._end_flow_runs(server, "mine", known) == 2
    assert server.set == [
        (living, StateType.CANCELLING, False),
        (gone, StateType.CRASHED, True),
    ]


def test_a_flow_run_by_hand_on_another_host_is_not_ended_while_its_process_goes_on(
    server, home, monkeypatch
):
    elsewhere = controller(server.add(Running(), deployed=False), deployed=False)
    known = replace(elsewhere, path=home.root)
    monkeypatch.setattr(module, "controllers", lambda folder: [known])
    monkeypatch.setattr(module, "_PATIENCE_S", 0.01)
    stopped = cancel("mine", [home.sweeps / "mine"], Settings(), server=True)
    assert (server.set, stopped.processes, stopped.flow_runs) == ([], 0, 0)
    [left] = stopped.left
    assert "on elsewhere (isoflop cancel mine there" in left


def test_what_has_not_ended_after_a_minute_is_counted(server, monkeypatch):
    seconds = iter(range(0, 1000, 25))
    monkeypatch.setattr(
        module, "time", SimpleNamespace(monotonic=lambda: next(seconds), sleep=lambda _: None)
    )
    own, training = server.add(Cancelling()), server.add(Cancelling(), tags=("mine",))
    known = [controller(own), controller(None)]
    assert module._wait_for_flow_runs(server, "mine", known) == ["2 flow runs"]
    training.state = Completed()
    assert module._wait_for_flow_runs(server, "mine", known) == ["1 flow runs"]
    own.state = Crashed()
    assert module._wait_for_flow_runs(server, "mine", known) == []


def test_without_its_server_a_deployed_sweep_is_still_running(home, monkeypatch):
    deployed = controller(SimpleNamespace(id=uuid4()))
    monkeypatch.setattr(module, "controllers", lambda folder: [deployed])
    stopped = cancel("mine", [home.sweeps / "mine"], Settings(), server=False)
    assert stopped.left == ("its flow runs: the Prefect server does not answer",)
    assert (stopped.processes, stopped.flow_runs) == (0, 0)


def test_a_process_that_does_not_end_is_named(home, running, monkeypatch):
    folder = home.sweeps / "mine"
    process = running(folder)
    monkeypatch.setattr(module, "os", SimpleNamespace(kill=lambda pid, number: None))
    monkeypatch.setattr(module, "_PATIENCE_S", 0.01)
    stopped = cancel("mine", [folder], Settings(), server=False)
    assert (stopped.processes, stopped.left) == (0, (f"process {process.pid}",))
    # It is still registered, and so are those of other hosts.
    assert len(controllers(folder)) == 1
