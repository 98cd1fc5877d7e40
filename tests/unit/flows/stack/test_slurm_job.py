"""When a Slurm job ends, and whether it goes back into the queue."""

import logging
import os
import signal
import threading

import pytest

from flows.stack import slurm_job

WORKER = ["-c", "import time; time.sleep(60)"]
TRAINING = [
    "-c",
    "import subprocess, sys, time\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1)'])\n"
    "time.sleep(60)",
]


@pytest.fixture(autouse=True)
def job(monkeypatch, tmp_path, caplog):
    """Task 3 of array 12, whose raw number is that of another task's array."""
    for name, value in (("JOB_ID", "12"), ("ARRAY_JOB_ID", "12"), ("ARRAY_TASK_ID", "3")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(slurm_job, "_LOOK_S", 0.02)
    monkeypatch.setattr(slurm_job, "_CHECKPOINT_S", 0.1)
    monkeypatch.setattr(slurm_job, "adopt_orphans", lambda: None)
    caplog.set_level(logging.INFO)
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)


@pytest.fixture
def said(tmp_path):
    """Arguments of every call of scontrol."""
    path = tmp_path / "said"
    return lambda: path.read_text().split() if path.exists() else []


def serve(monkeypatch, worker, number=None):
    """The exit status of a job that runs this worker and gets a signal after half a second."""
    monkeypatch.setattr(slurm_job, "worker_command", lambda name, pool, limit: worker)
    if number is not None:
        threading.Timer(0.5, os.kill, (os.getpid(), number)).start()
    return slurm_job.main()


@pytest.mark.parametrize("worker", [TRAINING, WORKER], ids=["training", "between trainings"])
def test_a_job_whose_time_is_up_goes_back_into_the_queue_by_its_own_id(monkeypatch, said, worker):
    assert serve(monkeypatch, worker, signal.SIGUSR1) == 0
    assert said() == ["requeue", "12_3"]


def test_a_cancelled_job_does_not_go_back_into_the_queue(monkeypatch, said):
    assert serve(monkeypatch, TRAINING, signal.SIGTERM) == 0
    assert said() == []


def test_a_job_that_finds_no_more_trainings_gives_its_gpu_back(monkeypatch, caplog):
    monkeypatch.setattr(slurm_job, "_IDLE_S", 0.1)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert serve(monkeypatch, WORKER) == 0
    assert "ends (it is idle)" in caplog.text


def test_a_job_waits_for_its_first_training(monkeypatch, caplog):
    monkeypatch.setattr(slurm_job, "_IDLE_S", 0.0)
    serve(monkeypatch, WORKER, signal.SIGUSR1)
    assert "ends (SIGUSR1)" in caplog.text


def test_a_worker_that_dies_is_the_job_s_failure(monkeypatch):
    assert serve(monkeypatch, ["-c", "raise SystemExit(3)"]) == 3
