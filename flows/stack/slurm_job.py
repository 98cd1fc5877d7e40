"""A Slurm job that serves the training pool: python -m flows.stack.slurm_job.

When the first process of a job ends, Slurm kills the others. This process is the first: it starts
Prefect's worker and ends when the worker's training has, which after a signal writes a checkpoint.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial

import psutil

from flows.processes import adopt_orphans, die_with_parent
from flows.settings import TRAIN_POOL
from flows.stack.slurm import worker_name
from flows.stack.worker_process import worker_command

log = logging.getLogger(__name__)

_LOOK_S = 1.0
# A GPU that found no training for so long is given back.
_IDLE_S = 600.0
# How long a checkpoint may take after the signal that Slurm sends before a job's time limit.
_CHECKPOINT_S = 75.0
_TIME_IS_UP = signal.SIGUSR1


def main() -> int:
    """Serve trainings until Slurm ends the job, its time is up, or there are no more trainings.

    A job whose time is up puts itself back into the queue. Slurm puts back those that it preempts
    or whose node fails.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, _TIME_IS_UP):
        signal.signal(number, lambda number, frame: signals.append(number))
    adopt_orphans()
    job_id = _job_id()
    name = worker_name(job_id)
    log.info("worker %s starts on %s", name, os.uname().nodename)
    worker = subprocess.Popen(
        [sys.executable, *worker_command(name, TRAIN_POOL, 1)],
        preexec_fn=partial(die_with_parent, os.getpid()),
    )
    _serve(worker, signals)
    ended = worker.poll()
    why = signal.Signals(signals[0]).name if signals else "it is idle" if ended is None else "died"
    log.info("worker %s ends (%s)", name, why)
    # Slurm signals every process of the job, and a second signal makes the worker kill itself.
    with suppress(subprocess.TimeoutExpired):
        worker.wait(_LOOK_S)
    # Its training, whose parent dies with it, gets SIGTERM from the kernel.
    worker.terminate()
    _wait_for_all(worker, _CHECKPOINT_S)
    # SIGTERM too means that somebody has cancelled the job meanwhile.
    if set(signals) == {_TIME_IS_UP}:
        return _requeue(job_id)
    return ended or 0


def _serve(worker: "subprocess.Popen[bytes]", signals: list[int]) -> None:
    """Wait for a signal, for the worker's end, or until it has been idle for long.

    The first training is waited for until the time limit: preparing a corpus takes hours.
    """
    waits = int(os.environ.get("SLURM_RESTART_COUNT", "0")) == 0
    busy_at = time.monotonic()
    while not signals and worker.poll() is None:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(worker.pid).children():
                waits, busy_at = False, time.monotonic()
        if not waits and time.monotonic() - busy_at > _IDLE_S:
            return
        time.sleep(_LOOK_S)


def _wait_for_all(worker: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Wait for the worker and then for what it leaves, its training above all."""
    deadline = time.monotonic() + seconds
    with suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if worker.poll() is None or os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(_LOOK_S / 10)


def _requeue(job_id: str) -> int:
    """Put this job back into the queue; its exit status if Slurm refuses."""
    done = subprocess.run(
        ["scontrol", "requeue", job_id],  # noqa: S607 - as the site has it
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        log.error("not put back into the queue: %s", done.stderr.strip())
    return done.returncode


def _job_id() -> str:
    """Id of this job as squeue shows it; SLURM_JOB_ID may be the one of its whole array."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{part}_ID") for part in ("JOB", "TASK"))
    job_id = f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID")
    if job_id is None:
        raise SystemExit(
            "SLURM_JOB_ID is not set: flows.stack.slurm_job runs within a Slurm job. "
            "Submit it with sbatch, or call isoflop up --slurm PARTITION."
        )
    return job_id


if __name__ == "__main__":
    sys.exit(main())
