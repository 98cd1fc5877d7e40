"""The process between a worker and its training, with an engine that only logs signals."""

import os
import signal
import subprocess
import sys
import time

import pytest

ENGINE = """
import os, pathlib, signal, sys, time
def asked(number, frame):
    pathlib.Path("told").write_text(signal.Signals(number).name)
    sys.exit(7)
signal.signal(signal.SIGTERM, asked)
pathlib.Path("ready").write_text(str(os.getpid()))
time.sleep(60)
"""


@pytest.fixture
def attended(tmp_path):
    """The process a worker starts, its engine under way, and where that engine writes."""
    engine = tmp_path / "prefect" / "engine.py"
    engine.parent.mkdir()
    (engine.parent / "__init__.py").touch()
    engine.write_text(ENGINE)
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.training.attend"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    _wait_for(tmp_path / "ready")
    yield process, tmp_path
    process.kill()
    process.wait()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells of a parent's death")
def test_a_training_gets_sigterm_when_a_worker_kills_its_child(attended):
    process, folder = attended
    process.kill()
    _wait_for(folder / "told")
    assert (folder / "told").read_text() == "SIGTERM"


def test_a_request_to_stop_reaches_the_engine_whose_status_is_returned(attended):
    process, folder = attended
    process.send_signal(signal.SIGINT)  # a terminal's, which reaches the engine by itself
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 7
    assert (folder / "told").read_text() == "SIGTERM"


def test_an_engine_that_is_killed_looks_killed(attended):
    process, folder = attended
    os.kill(int((folder / "ready").read_text()), signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL


def _wait_for(path):
    deadline = time.monotonic() + 30
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, f"waited in vain for {path}"
        time.sleep(0.02)
