"""Workers of the local stack: start them, wait for them, read their heartbeats."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from analysis.words import counted
from flows.settings import CONTROL_POOL, TRAIN_POOL, Home, Settings
from flows.stack.flow_runs import prefect_client
from flows.stack.processes import process_of, register
from flows.stack.servers import StackError, start
from flows.stack.worker_process import worker_command, worker_environment
from llama_core.cores import usable_cores

# A sweep only waits for its trainings, so one worker takes several.
_SWEEPS_AT_ONCE = 4
# A worker takes some 7 s of a core until its first heartbeat; the core may be slow, and busy.
_START_S = 60.0
# A longer wait is explained.
_NOTICED_S = 2.0
# Each look costs the server and this process some of the CPU that the workers want.
_LOOK_S = 0.5


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
    settings: Settings,
    home: Home,
    started: dict[str, "subprocess.Popen[bytes]"],
    since: datetime,
    *,
    say: Callable[[str], None],
) -> None:
    """Wait until every worker has sent a heartbeat, as long as one after another does.

    Raises:
        StackError: a worker exited, or no further one sent a heartbeat for a minute, times the
            workers that share a core.
    """
    patience = _START_S * max(1.0, len(started) / usable_cores())
    began = last_news = time.monotonic()
    silent, explained = set(started), False
    while silent:
        for name, process in started.items():
            if process.poll() is not None:
                log = home.logs / f"{name}.log"
                raise StackError(f"{name} did not start (exit {process.returncode}); see {log}")
        now = time.monotonic()
        if now - last_news > patience:
            raise StackError(
                f"no heartbeat within {patience:.0f} s, although they run: "
                f"{', '.join(sorted(silent))}; see {home.logs}"
            )
        if not explained and now - began > _NOTICED_S:
            say(f"waiting for the first heartbeat of {counted(len(silent), 'worker')}")
            explained = True
        time.sleep(_LOOK_S)
        beating = {name for name, last in worker_heartbeats(settings).items() if last >= since}
        if silent & beating:
            silent -= beating
            last_news = time.monotonic()


def worker_heartbeats(settings: Settings) -> dict[str, datetime]:
    """Time of the last heartbeat of each worker of the two pools."""
    with prefect_client(settings) as client:
        return {
            worker.name: worker.last_heartbeat_time
            for pool in (CONTROL_POOL, TRAIN_POOL)
            for worker in client.read_workers_for_work_pool(pool)
            if worker.last_heartbeat_time is not None
        }
