"""Status of a home: processes of the stack, sweeps, runs in flight, disk."""

import os
import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from flows.files import existing
from flows.health.slurm_checks import read_slurm
from flows.plans.plan import read_plans
from flows.runs.directory import RunDir
from flows.runs.state import TO_DO, run_state
from flows.settings import Home, Settings
from flows.stack.processes import Process, alive, registered
from flows.stack.servers import health_pages, healthy, prefect_environment, server_answers
from flows.stack.workers import worker_heartbeats
from flows.watch.progress import read_run
from sweeps.plan import Plan

_GIB = 2**30


def read_status(settings: Settings, home: Home) -> dict[str, Any]:
    """Processes, sweeps, runs in flight and disk as plain data.

    `heartbeat_s` is the age of the last heartbeat in seconds: for a worker by the Prefect server,
    for a run by the newest row of its curve; None before the first.
    """
    plans = read_plans(home)
    heartbeats = _heartbeats(settings, home)
    disk = shutil.disk_usage(existing(home.root))
    return {
        "home": str(home.root),
        "prefect": settings.prefect_address,
        "mlflow": settings.mlflow_address,
        "processes": _processes(settings, home, heartbeats),
        "slurm": read_slurm(home, heartbeats),
        "sweeps": [_count(plan, home) for plan in plans],
        "runs": [
            {"sweep": plan.spec.name, **asdict(read_run(planned, directory))}
            for plan in plans
            for planned in plan.runs
            if (directory := RunDir(home.runs / planned.id)).busy()
        ],
        "disk_free_gib": disk.free / _GIB,
        "disk_total_gib": disk.total / _GIB,
    }


def _heartbeats(settings: Settings, home: Home) -> dict[str, datetime]:
    """Last heartbeat of each worker of the stack; empty where there is no stack."""
    if not registered(home) or not server_answers(settings):
        return {}
    os.environ.update(prefect_environment(settings, home))
    return worker_heartbeats(settings)


def _processes(
    settings: Settings, home: Home, heartbeats: dict[str, datetime]
) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    ages = {name: (now - last).total_seconds() for name, last in heartbeats.items()}
    return [
        {
            "process": process.name,
            "pid": process.pid,
            "state": _state(process, settings),
            "heartbeat_s": ages.get(process.name),
        }
        for process in registered(home)
    ]


def _state(process: Process, settings: Settings) -> str:
    if not alive(process):
        return "dead"
    page = health_pages(settings).get(process.name)
    return "running" if page is None or healthy(page) else "not answering"


def _count(plan: Plan, home: Home) -> dict[str, Any]:
    """How many of a sweep's runs are finished, failed, training, and still to do."""
    states = [run_state(RunDir(home.runs / planned.id)) for planned in plan.runs]
    finished, running = states.count("finished"), states.count("training")
    to_do = sum(map(states.count, TO_DO))
    failed = len(states) - finished - running - to_do
    counts = {"finished": finished, "failed": failed, "running": running, "to_do": to_do}
    return {"sweep": plan.spec.name, **counts}
