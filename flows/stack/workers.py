"""Workers of the local stack: start them, wait for them, read their heartbeats."""

import subprocess
import time
from dataclasses import replace
from datetime import datetime

from flows.settings import CONTROL_POOL, TRAIN_POOL, Home, Settings
from flows.stack.flow_runs import prefect_client
from flows.stack.processes import process_of, register
from flows.stack.servers import StackError, start
from flows.stack.worker_process import worker_command, worker_environment

# A sweep only waits for its trainings, so one worker takes several.
_SWEEPS_AT_ONCE = 4
_WORKERS_START_S = 30.0


def start_worker(
    settings: Settings, home: Home, name: str, gpus: str | None
) -> "subprocess.Popen[bytes]":
    """Start the worker of this name, pinned to its GPUs, and register it.

    `control-worker` takes sweeps; every other takes one training at a time.
    """
    sweeps = name == "control-worker"
    environment = {
        **worker_environment(settings, home),
        **({"OMP_NUM_THREADS": "1"} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus}),
    }
    command = worker_command(
        name, CONTROL_POOL if sweeps else TRAIN_POOL, _SWEEPS_AT_ONCE if sweeps else 1
    )
    process = start(command, environment, home.logs / f"{name}.log")
    register(home, replace(process_of(name, process.pid), gpus=gpus))
    return process


def wait_for_workers(
    settings: Settings, home: Home, started: dict[str, "subprocess.Popen[bytes]"], since: datetime
) -> None:
    """Wait until every worker has sent a heartbeat.

    Raises:
        StackError: a worker exited, or sent none for half a minute.
    """
    deadline = time.monotonic() + _WORKERS_START_S
    silent = set(started)
    while silent:
        for name, process in started.items():
            if process.poll() is not None:
                log = home.logs / f"{name}.log"
                raise StackError(f"{name} did not start (exit {process.returncode}); see {log}")
        if time.monotonic() > deadline:
            raise StackError(
                f"{', '.join(sorted(silent))} sent no heartbeat for {_WORKERS_START_S:.0f} s; "
                f"see {home.logs}"
            )
        time.sleep(0.2)
        silent -= {name for name, last in worker_heartbeats(settings).items() if last >= since}


def worker_heartbeats(settings: Settings) -> dict[str, datetime]:
    """Time of the last heartbeat of each worker of the two pools."""
    with prefect_client(settings) as client:
        return {
            worker.name: worker.last_heartbeat_time
            for pool in (CONTROL_POOL, TRAIN_POOL)
            for worker in client.read_workers_for_work_pool(pool)
            if worker.last_heartbeat_time is not None
        }
