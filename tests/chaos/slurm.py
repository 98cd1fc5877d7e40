"""What Slurm does to the jobs that train a sweep."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from flows.runs.directory import RunDir
from sweeps.plan import Plan
from tests.chaos.deployed import Cluster, Fault, cluster, wait_for_report
from tests.chaos.stage import PATIENCE_S, Outcome, Stage, judge, rows, wait_for
from tests.slurm import Slurm, private_slurm

_MESSAGES_S = 10.0
UP = ("--slurm", "main", "--gpus-per-worker", "0")


def slurm_jobs(stage: Stage, undisturbed: Path, plan: Plan, times: int) -> Outcome:
    """Jobs cancelled, put back into the queue, out of time, and a node drained, in random order."""
    injected, homes = 0, []
    with private_slurm() as slurm:
        for _ in range(times):
            strikes = [_cancel, _requeue, _time_is_up, _drain]
            stage.random.shuffle(strikes)
            with cluster(stage, *UP, **slurm.environment) as found, found.sweep() as sweep:
                for strike in strikes:
                    job = training_job(found)
                    if job is None:
                        break
                    strike(found, slurm, job)
                    injected += 1
                wait_for_report(found, sweep)
            assert not slurm.states(), "isoflop down left jobs"
            homes.append(found.home)
    return judge("Slurm cancels, requeues, drains", injected, homes, undisturbed, plan)


def training_job(found: Cluster) -> str | None:
    """The job of a training at a random moment of its life; None when the sweep has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and not found.done():
        for lease in sorted(found.home.glob("runs/*/lease.json")):
            with suppress(OSError, ValueError, psutil.Error):
                process = psutil.Process(json.loads(lease.read_bytes())["pid"])
                names = process.environ()
                job = "{SLURM_ARRAY_JOB_ID}_{SLURM_ARRAY_TASK_ID}".format(**names)
                run = RunDir(lease.parent)
                before, more = rows(run), found.stage.random.randint(5, 60)
                while process.is_running() and lease.exists():
                    if rows(run) >= before + more:
                        return job
                    time.sleep(0.05)
        time.sleep(0.1)
    return None


def _cancel(found: Cluster, slurm: Slurm, job: str) -> None:
    """Somebody cancels a job; `isoflop up` submits another."""
    before = set(slurm.states())
    slurm.call("scancel", job)
    wait_for(lambda: len(slurm.states()) < len(before))
    found.isoflop("up", "--workers", "2", *UP)
    after = set(slurm.states())
    assert len(after) == len(before) == 2, (before, after)
    assert after != before


def _requeue(found: Cluster, slurm: Slurm, job: str) -> None:
    """Slurm puts a job back into its queue, as when it is preempted."""
    slurm.call("scontrol", "requeue", job)
    _start_now(slurm, job)


def _time_is_up(found: Cluster, slurm: Slurm, job: str) -> None:
    """The signal before the time limit: the job puts itself back into the queue."""
    slurm.call("scancel", "--batch", "--signal=USR1", job)
    _start_now(slurm, job)


def _drain(found: Cluster, slurm: Slurm, job: str) -> None:
    """A node is drained and its job put back into the queue, where it waits; then resumed."""
    node = slurm.call("squeue", "--noheader", f"--jobs={job}", "--format=%N")
    slurm.call("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")
    slurm.call("scontrol", "requeue", job)
    wait_for(lambda: _state(slurm, job) == "PENDING")
    time.sleep(found.stage.random.uniform(0, 5))
    slurm.call("scontrol", "update", f"NodeName={node}", "State=RESUME")
    _start_now(slurm, job)


def _start_now(slurm: Slurm, job: str) -> None:
    """Slurm would wait two minutes before it starts a job again.

    It waits so that no message of the earlier start is under way, which would end the new one.
    """
    wait_for(lambda: _state(slurm, job) == "PENDING")
    time.sleep(_MESSAGES_S)
    slurm.call("scontrol", "update", f"JobId={job}", "StartTime=now")


def _state(slurm: Slurm, job: str) -> str:
    return slurm.call("squeue", "--noheader", f"--jobs={job}", "--format=%T")


Strike = Callable[[Cluster, Slurm, str], None]
FAULTS: dict[str, Fault] = {"slurm_jobs": slurm_jobs}
