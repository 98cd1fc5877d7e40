"""A dead holder is noticed, a living one never is."""

import json
import subprocess
import sys
import time

import pytest

from flows.runs import lease
from flows.runs.directory import RunDir
from flows.runs.lease import LeaseWatch, heartbeat
from tests.fakes import planned_run

HOLD = """
import sys, time
from pathlib import Path
from flows.runs.lease import heartbeat
from flows.runs.directory import RunDir
run = RunDir(Path(sys.argv[1]))
with run.locked(), heartbeat(run):
    while not run.lease_path.exists():
        time.sleep(0.01)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path):
    planned = planned_run()
    directory = RunDir(tmp_path / planned.id)
    directory.create(planned)
    return directory


@pytest.fixture
def holder(run):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_holder_killed_on_this_machine_is_dead_at_once(run, holder):
    watch = LeaseWatch(run)
    run.lease_path.write_text(json.dumps({"host": lease.socket.gethostname(), "beat": 0}))
    assert not watch.dead()
    holder.kill()
    holder.wait()
    assert watch.dead()


def test_a_holder_that_releases_the_run_is_not_dead(run, holder):
    watch = LeaseWatch(run)
    holder.communicate(b"")
    assert holder.returncode == 0
    assert not run.lease_path.exists()
    assert not watch.dead()


def test_a_holder_elsewhere_is_dead_when_it_has_been_silent_for_long(run, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(lease.time, "monotonic", lambda: clock[0])
    watch = LeaseWatch(run)
    for beat in range(3):
        run.lease_path.write_text(json.dumps({"host": "elsewhere", "beat": beat}))
        clock[0] += lease.SILENT_S - 1
        assert not watch.dead()
    clock[0] += lease.SILENT_S - 1
    assert not watch.dead()
    clock[0] += 2
    assert watch.dead()


def test_the_lease_of_an_earlier_holder_does_not_count(run):
    run.lease_path.write_text(json.dumps({"host": lease.socket.gethostname(), "beat": 7}))
    assert not LeaseWatch(run).dead()


def test_a_lease_is_written_and_removed(run):
    with heartbeat(run):
        while not run.lease_path.exists():
            pass
        assert json.loads(run.lease_path.read_text())["pid"] == lease.os.getpid()
    assert not run.lease_path.exists()


def test_a_lease_changes_while_it_is_held(run, monkeypatch):
    monkeypatch.setattr(lease, "_BEAT_S", 0.001)
    beats = set()
    with heartbeat(run):
        deadline = time.monotonic() + 5
        while len(beats) < 3 and time.monotonic() < deadline:
            if run.lease_path.exists():
                beats.add(json.loads(run.lease_path.read_text())["beat"])
    assert len(beats) == 3


def test_a_holder_is_silent_for_several_beats_before_it_is_dead():
    assert lease.SILENT_S >= 5 * lease._BEAT_S
