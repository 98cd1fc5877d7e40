"""A slot's process answers with the status of each training, and is started again when it died."""

import os
import signal
import subprocess
import sys
import time

import pytest

from flows.processes import INTERRUPTED, MAY_PASS
from flows.training import warm as module
from flows.training.warm import WarmSlot

# Answers with the run's id as the status, or ends as the id says.
SLOT = """
import json, os, sys
print("started", os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"],
      file=sys.stderr, flush=True)
for line in iter(sys.stdin.readline, ""):
    run_id, log_path = json.loads(line)
    if run_id == "kill":
        os.kill(os.getpid(), 9)
    if run_id == "exit":
        sys.exit(3)
    print(run_id, flush=True)
"""

# The real process, with trainings that do as their run's id says.
WARM = """
import os, signal, sys, time
from types import ModuleType, SimpleNamespace
loaded = ("flows.training.execute", "flows.training.stacked", "llama_core.corpus.prepared")
for name in (*loaded, "llama_core.stacked.train", "llama_core.train"):
    sys.modules[name] = ModuleType(name)
sys.modules["flows.runs.provenance"] = SimpleNamespace(environment=lambda device: None)
from flows.training import child, warm

def train(arguments):
    home, run_id, parent = arguments
    print("trains", home, run_id, int(parent) == os.getppid())
    print("holds", len(os.listdir("/dev/fd")), "files")
    if run_id == "raise":
        raise KeyError("a bug")
    if run_id == "kill":
        os.kill(os.getpid(), 9)
    if run_id == "wait":
        stopped = []
        signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
        print("waits", flush=True)
        while not stopped:
            time.sleep(0.01)
        return 75
    return int(run_id)

child.main = train
sys.exit(warm.main(["home"]))
"""


@pytest.fixture
def slot(tmp_path, monkeypatch):
    popen = subprocess.Popen
    started = []

    def start(command, **options):
        assert command[1:] == ["-m", "flows.training.warm", str(tmp_path)]
        started.append(popen([sys.executable, "-c", SLOT], **options))
        return started[-1]

    monkeypatch.setattr(module.subprocess, "Popen", start)
    slot = WarmSlot(tmp_path, {"OMP_NUM_THREADS": "5"})
    slot.started = started
    yield slot
    slot.stop()
    slot.wait(5)


def test_one_process_answers_for_all_trainings(slot, tmp_path):
    log = tmp_path / "output.log"
    assert [slot.train(status, log) for status in ("0", "-15", "74")] == [0, -15, 74]
    assert log.read_text() == "started 5 1\n"
    assert len(slot.started) == 1


def test_a_process_started_ahead_is_that_of_the_first_training(slot, tmp_path):
    slot.start()
    assert slot.train("0", tmp_path / "output.log") == 0
    assert len(slot.started) == 1


def test_a_process_that_died_before_its_first_training_is_replaced(slot, tmp_path):
    slot.start()
    slot.started[0].kill()
    slot.started[0].wait()
    assert slot.train("0", tmp_path / "output.log") == 0
    assert len(slot.started) == 2


@pytest.mark.parametrize(("end", "status"), [("kill", -signal.SIGKILL), ("exit", MAY_PASS)])
def test_a_process_that_died_is_a_fault_that_may_pass_and_is_replaced(slot, tmp_path, end, status):
    log = tmp_path / "output.log"
    assert slot.train(end, log) == status
    assert slot.train("0", log) == 0
    assert log.read_text() == 2 * "started 5 1\n"
    assert len(slot.started) == 2


def test_a_stopped_slot_trains_nothing_and_its_process_ends(slot, tmp_path):
    slot.train("0", tmp_path / "output.log")
    slot.stop()
    assert slot.train("0", tmp_path / "output.log") == INTERRUPTED
    slot.wait(10)
    assert slot.started[0].returncode == 0


def test_a_slot_that_never_trained_stops_at_once(tmp_path):
    slot = WarmSlot(tmp_path, {})
    slot.stop()
    slot.wait(10)
    assert slot.train("0", tmp_path / "output.log") == INTERRUPTED


def test_a_process_that_does_not_end_in_time_is_killed(slot, tmp_path):
    slot.train("0", tmp_path / "output.log")
    [process] = slot.started
    os.kill(process.pid, signal.SIGSTOP)
    slot.stop()
    slot.wait(0.1)
    assert process.returncode == -signal.SIGKILL


@pytest.fixture
def process(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", WARM], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )

    def ask(run_id):
        process.stdin.write(f'["{run_id}", "{tmp_path / run_id}"]\n'.encode())
        process.stdin.flush()

    process.ask = ask
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_every_training_is_forked_with_a_log_of_its_own(process, tmp_path):
    for run_id, status in (("0", 0), ("75", 75), ("raise", 1), ("kill", -9), ("3", 3)):
        process.ask(run_id)
        assert int(process.stdout.readline()) == status
        # A killed process has not written what it printed.
        assert run_id == "kill" or f"trains home {run_id} True" in (tmp_path / run_id).read_text()
    assert "KeyError: 'a bug'" in (tmp_path / "raise").read_text()
    # No log stays open in the process that all are forked from.
    held = {(tmp_path / run_id).read_text().split("holds ")[1].split()[0] for run_id in ("0", "75")}
    assert len(held) == 1
    process.stdin.close()
    assert process.wait(10) == 0


def test_the_end_of_input_stops_the_training_under_way(process, tmp_path):
    log = tmp_path / "wait"
    process.ask("wait")
    while not log.exists() or "waits" not in log.read_text():
        assert process.poll() is None
        time.sleep(0.02)
    process.stdin.close()
    assert int(process.stdout.readline()) == 75
    assert process.wait(10) == 0
