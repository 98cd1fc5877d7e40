"""The doctor's check of the Slurm jobs of a home."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime

from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName
from prefect.client.schemas.objects import StateType

from analysis.words import counted
from flows.health.finding import Finding
from flows.settings import TRAIN_POOL, Home, Settings
from flows.stack.flow_runs import prefect_client, read_flow_runs
from flows.stack.servers import prefect_environment, server_answers
from flows.stack.slurm import SlurmError, asked_for, jobs
from flows.stack.workers import worker_heartbeats

# Workers send a heartbeat every 30 s, and importing Prefect from a busy network disk takes minutes.
_SILENT_S = 180.0
# Reasons for which a job waits until somebody does something.
_NEEDS_A_HAND = (
    *("JobHeld", "launch failed", "BadConstraints", "PartitionDown", "PartitionInactive"),
    *("PartitionNodeLimit", "PartitionTimeLimit", "InvalidAccount", "InvalidQOS"),
)


def check_slurm_jobs(settings: Settings, home: Home, repair: bool) -> Iterator[Finding]:
    """Check for jobs that cannot start or do not reach Prefect, and trainings without a job."""
    wanted = asked_for(home)
    if wanted is None:
        return
    try:
        living = jobs(home)
    except SlurmError as error:
        yield Finding(f"the Slurm jobs are unknown: {error}", remedy="sinfo shows whether it is up")
        return
    for job in living:
        if job.state == "PENDING" and job.reason.startswith(_NEEDS_A_HAND):
            yield Finding(
                f"Slurm job {job.id} waits and will not start by itself ({job.reason})",
                remedy=f"scontrol show job {job.id} says why; scontrol release {job.id} lets it go",
            )
    if not server_answers(settings):
        return
    os.environ.update(prefect_environment(settings, home))
    heartbeats, now = worker_heartbeats(settings), datetime.now(UTC)
    for job in living:
        last = heartbeats.get(job.worker)
        silent_s = job.run_s if last is None else (now - last).total_seconds()
        if job.state == "RUNNING" and min(job.run_s, silent_s) > _SILENT_S:
            yield Finding(
                f"Slurm job {job.id} on {job.node} has run for {job.run_s:.0f} s, and its worker "
                f"does not reach Prefect at {settings.prefect_api}",
                remedy=f"read {home.logs}/slurm-{job.id}.log; ISOFLOP_HOST must be an address "
                "that its node reaches",
            )
    waiting = 0 if living else _trainings_waiting(settings)
    if waiting:
        yield Finding(
            f"no Slurm job is left, and no worker for {counted(waiting, 'waiting training')}",
            remedy=f"isoflop up --slurm {wanted.partition} --workers {wanted.count} "
            f"--gpus-per-worker {wanted.gpus}"
            + (f" --nodes-per-worker {wanted.nodes}" if wanted.nodes > 1 else ""),
        )


def _trainings_waiting(settings: Settings) -> int:
    """Number of trainings that no worker has taken; 0 while another worker is there."""
    now = datetime.now(UTC)
    with prefect_client(settings) as client:
        for worker in client.read_workers_for_work_pool(TRAIN_POOL):
            last = worker.last_heartbeat_time
            if last is not None and (now - last).total_seconds() < _SILENT_S:
                return 0
        pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[TRAIN_POOL]))
        return len(read_flow_runs(client, [StateType.SCHEDULED], work_pool_filter=pool))
