"""When a Slurm job ends, and whether it goes back into the queue."""

import logging
import os
import signal

import pytest

from flows.stack import slurm_job

# Workers that send a signal to their parent, the job, as soon as they run.
WORKER = "import os, time; os.kill(os.getppid(), {}); time.sleep(60)"
TRAINING = f"import subprocess; subprocess.Popen(['sleep', '1']); {WORKER}"
CANCELLED = (
    "import os, signal\n"
    "signal.signal(15, lambda *_: (os.kill(os.getppid(), 15), exit()))\n" + WORKER
)


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
    monkeypatch.setattr(slurm_job, "_CHECKPOINT_S", 5.0)
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


def serve(monkeypatch, worker, number=0):
    """The exit status of a job that runs this worker, which sends it the signal."""
    command = ["-c", worker.format(int(number))]
    monkeypatch.setattr(slurm_job, "worker_command", lambda name, pool, limit: command)
    return slurm_job.main()


@pytest.mark.parametrize("worker", [TRAINING, WORKER], ids=["training", "between trainings"])
def test_a_job_whose_time_is_up_goes_back_into_the_queue_by_its_own_id(monkeypatch, said, worker):
    assert serve(monkeypatch, worker, signal.SIGUSR1) == 0
    assert said() == ["requeue", "12_3"]


def test_a_job_cancelled_after_its_time_was_up_does_not_go_back_into_the_queue(monkeypatch, said):
    assert serve(monkeypatch, CANCELLED, signal.SIGUSR1) == 0
    assert said() == []


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


def test_outside_of_slurm_the_message_says_how_to_submit(monkeypatch):
    for name in ("JOB_ID", "ARRAY_JOB_ID", "ARRAY_TASK_ID"):
        monkeypatch.delenv(f"SLURM_{name}")
    with pytest.raises(SystemExit, match=r"within a Slurm job\. Submit it with sbatch"):
        serve(monkeypatch, WORKER)


def test_a_worker_that_dies_is_the_job_s_failure(monkeypatch):
    assert serve(monkeypatch, "raise SystemExit(3)") == 3
