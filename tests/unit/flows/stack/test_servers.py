"""Servers are stopped with everything they started."""

import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from prefect.settings import Settings as PrefectSettings

from flows.settings import Home, Settings
from flows.stack.processes import Process, process_of
from flows.stack.servers import start, start_prefect_server, stop

# A child that listens, and that SIGINT does not end.
_CHILD = """
import signal, socket, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
time.sleep(600)
"""
_SERVER = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {_CHILD!r}])
time.sleep(float(sys.argv[1]))
"""


@pytest.mark.parametrize("lives_s", [600, 0], ids=["alive", "dead"])
def test_a_stopped_server_leaves_no_child_on_its_port(
    monkeypatch: pytest.MonkeyPatch, lives_s: float
) -> None:
    monkeypatch.setattr("flows.stack.servers._STOP_S", 1.0)
    command = [sys.executable, "-c", _SERVER, str(lives_s)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as server:
        process = process_of("mlflow-server", server.pid)
        assert server.stdout
        port = int(server.stdout.readline())
        if not lives_s:
            server.wait()
        stop([process])
        socket.create_server(("127.0.0.1", port)).close()


def test_a_process_with_the_id_of_one_that_ended_is_left_alone() -> None:
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as other:
        stop([Process("mlflow-server", other.pid, psutil.boot_time())])
        assert other.poll() is None
        other.kill()


def test_a_sweeps_own_server_does_not_note_that_blocks_are_registered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment: dict[str, str] = {}
    monkeypatch.setattr(
        "flows.stack.servers.start", lambda _, given, *__, **___: environment.update(given)
    )
    start_prefect_server(Settings(), Home(tmp_path), port=1, tied=True)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        server = PrefectSettings().server
    # Else the server of `isoflop up` would skip what this one did not do.
    assert not server.register_blocks_on_start
    assert not server.memoize_block_auto_registration


def test_a_server_does_not_take_a_file_in_the_users_folder_for_pythons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('of the user')")
    monkeypatch.chdir(tmp_path)
    server = start(["-m", "json.tool", "--help"], {}, tmp_path / "log")
    assert (server.wait(60), "usage" in (tmp_path / "log").read_text()) == (0, True)
