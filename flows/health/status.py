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
from flows.stack.slurm import Job, SlurmError, asked_for, jobs
from flows.watch.progress import read_run
from sweeps.plan import Plan

_GIB = 2**30


def read_status(settings: Settings, home: Home) -> dict[str, Any]:
    """Processes, sweeps, runs in flight and disk as plain data.

    `heartbeat_s` is the age of the last heartbeat in seconds: for a worker by the Prefect server,
    for a run by the newest row of its curve; None before the first.
    """
    ages = _heartbeat_ages(settings, home)
    disk = shutil.disk_usage(existing(home.root))
    sweeps = [
        (plan, [RunDir(home.runs / run.id) for run in plan.runs]) for plan in read_plans(home)
    ]
    return {
        "home": str(home.root),
        "prefect": settings.prefect_address,
        "mlflow": settings.mlflow_address,
        "dashboard": settings.dashboard_address,
        "processes": _processes(settings, home, ages),
        "slurm": _slurm(home, ages),
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


def _heartbeat_ages(settings: Settings, home: Home) -> dict[str, float]:
    """Seconds since each worker's last heartbeat; empty where there is no stack."""
    if not registered(home) or not server_answers(settings):
        return {}
    from flows.stack.workers import worker_heartbeats  # Prefect takes a second to import

    os.environ.update(prefect_environment(settings, home))
    heartbeats, now = worker_heartbeats(settings), datetime.now(UTC)
    return {name: (now - last).total_seconds() for name, last in heartbeats.items()}


def _processes(settings: Settings, home: Home, ages: dict[str, float]) -> list[dict[str, Any]]:
    return [
        {
            "process": process.name,
            "pid": process.pid,
            "state": _state(process, settings),
            "heartbeat_s": ages.get(process.name),
        }
        for process in registered(home)
    ]


def _slurm(home: Home, ages: dict[str, float]) -> dict[str, Any] | None:
    """The Slurm jobs of this home; None when the stack has none."""
    wanted = asked_for(home)
    if wanted is None:
        return None
    error, living = "", list[Job]()
    try:
        living = jobs(home)
    except SlurmError as problem:
        error = str(problem)
    return {
        **asdict(wanted),
        "error": error,
        "jobs": [{**asdict(job), "heartbeat_s": ages.get(job.worker)} for job in living],
    }


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
