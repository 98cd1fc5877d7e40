"""Status of a home: processes of the stack, sweeps, runs in flight, disk."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from flows.files import existing
from flows.plans.stored import read_plans
from flows.runs.directory import RunDir
from flows.runs.state import TO_DO, run_state
from flows.settings import Home, Settings
from flows.stack.processes import Process, alive, registered
from flows.stack.servers import health_pages, healthy, prefect_environment, server_answers
from flows.watch.progress import read_run
from sweeps.plan import Plan

_GIB = 2**30


def read_status(settings: Settings, home: Home) -> dict[str, Any]:
    """Processes, sweeps, runs in flight and disk as plain data.

    `heartbeat_s` is the age of the last heartbeat in seconds: for a worker by the Prefect server,
    for a run by the newest row of its curve; None before the first.
    """
    disk = shutil.disk_usage(existing(home.root))
    sweeps = [
        (plan, [RunDir(home.runs / run.id) for run in plan.runs]) for plan in read_plans(home)
    ]
    return {
        "home": str(home.root),
        "prefect": settings.prefect_address,
        "mlflow": settings.mlflow_address,
        "processes": _processes(settings, home),
        "sweeps": [_count(plan, directories) for plan, directories in sweeps],
        "runs": [
            {"sweep": plan.spec.name, **asdict(read_run(planned, directory))}
            for plan, directories in sweeps
            for planned, directory in zip(plan.runs, directories, strict=True)
            if directory.busy()
        ],
        "disk_free_gib": disk.free / _GIB,
        "disk_total_gib": disk.total / _GIB,
    }


def _processes(settings: Settings, home: Home) -> list[dict[str, Any]]:
    known = registered(home)
    ages: dict[str, float] = {}
    if known and server_answers(settings):
        from flows.stack.workers import worker_heartbeats  # Prefect takes a second to import

        os.environ.update(prefect_environment(settings, home))
        heartbeats, now = worker_heartbeats(settings), datetime.now(UTC)
        ages = {name: (now - last).total_seconds() for name, last in heartbeats.items()}
    return [
        {
            "process": process.name,
            "pid": process.pid,
            "state": _state(process, settings),
            "heartbeat_s": ages.get(process.name),
        }
        for process in known
    ]


def _state(process: Process, settings: Settings) -> str:
    if not alive(process):
        return "dead"
    page = health_pages(settings).get(process.name)
    return "running" if page is None or healthy(page) else "not answering"


def _count(plan: Plan, directories: Sequence[RunDir]) -> dict[str, Any]:
    """How many of a sweep's runs are finished, failed, training, and still to do."""
    states = [run_state(directory) for directory in directories]
    finished, running = states.count("finished"), states.count("training")
    to_do = sum(map(states.count, TO_DO))
    failed = len(states) - finished - running - to_do
    counts = {"finished": finished, "failed": failed, "running": running, "to_do": to_do}
    return {"sweep": plan.spec.name, **counts}
