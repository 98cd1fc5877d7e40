"""Training workers as Slurm jobs: submit them, list them, cancel them.

Slurm itself knows which jobs are this home's, by their name. HOME/slurm.json only says what was
asked for, and that Slurm has to be asked at all.
"""

import hashlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.files import write_whole
from flows.settings import LOOPBACK, Home, Settings, checkout
from flows.stack.worker_process import worker_environment

# Seconds between the signal and the time limit: the training writes its checkpoint meanwhile.
_WARNING_S = 90
# A controller that is down makes Slurm's commands repeat for minutes.
_ANSWER_S = 30.0
# Slurm kills a cancelled job after KillWait, 30 s unless set.
_END_S = 60.0
# An address to listen on, and none to connect to.
_ANY = ("0.0.0.0", "::")  # noqa: S104 - refused, not bound


class SlurmError(RuntimeError):
    """Slurm refused, or does not answer; the message says what to do."""


@dataclass(frozen=True, slots=True)
class SlurmWorkers:
    """Workers wanted of Slurm, one job each.

    Attributes:
        gpus: GPUs of each worker on each of its nodes; 0 trains on the CPU.
        nodes: nodes of each worker; its trainings use the GPUs of all of them.
    """

    partition: str
    count: int
    gpus: int = 1
    nodes: int = 1


@dataclass(frozen=True, slots=True)
class Job:
    """A job that waits or runs.

    Attributes:
        id: as in `12_3`, the fourth job of array 12.
        state: Slurm's word, as in PENDING or RUNNING.
        reason: why it waits; `None` when it runs.
        run_s: seconds since it started.
        left: time until its limit, as Slurm writes it.
    """

    id: str
    state: str
    reason: str
    node: str
    run_s: float
    left: str

    @property
    def worker(self) -> str:
        """Name of its worker in Prefect."""
        return worker_name(self.id)


def worker_name(job_id: str) -> str:
    """Name in Prefect of the worker in a job; the same after a requeue."""
    return f"slurm-{job_id}"


def check_slurm(wanted: SlurmWorkers, settings: Settings) -> None:
    """Check that jobs can be submitted and that their nodes can reach this machine's servers.

    Raises:
        ValueError: they cannot.
        SlurmError: Slurm does not answer.
    """
    if shutil.which("sbatch") is None:
        raise ValueError(
            f"--slurm {wanted.partition}: sbatch is not on the PATH. Call isoflop up where jobs "
            "are submitted (a login node), after the module that brings Slurm's commands."
        )
    partitions = sorted(set(_call("sinfo", "--noheader", "--all", "--format=%R").split()))
    if wanted.partition not in partitions:
        raise ValueError(
            f"--slurm {wanted.partition}: there is no such partition. "
            f"Slurm has {', '.join(partitions)}."
        )
    if settings.host in _ANY:
        raise ValueError(
            f"ISOFLOP_HOST={settings.host} is no address that a worker could connect to. "
            "Set it to the address of this machine in the cluster's network."
        )
    here = {socket.gethostname(), socket.gethostname().partition(".")[0]}
    named = _call("sinfo", "--noheader", "--Node", f"--partition={wanted.partition}", "--format=%n")
    others = sorted(set(named.split()) - here)
    if others and settings.host in LOOPBACK:
        raise ValueError(
            f"the servers would listen on {settings.host}, which nodes such as {others[0]} cannot "
            "reach. Set ISOFLOP_HOST to this machine's address in the cluster's network, as in "
            "export ISOFLOP_HOST=10.0.0.5, and passwords: docs/orchestration/slurm.md."
        )


def top_up(settings: Settings, home: Home, wanted: SlurmWorkers) -> str:
    """Submit as many jobs as are missing; the id of their array, empty if none was.

    Raises:
        SlurmError: sbatch refused.
    """
    missing = wanted.count - len(jobs(home))
    if missing <= 0:
        return ""
    before = asked_for(home)
    # First, so that isoflop down finds the jobs of an up that was killed or saw no answer.
    write_whole(_noted(home), json.dumps(asdict(wanted)))
    try:
        return _submit(settings, home, wanted, missing)
    except SlurmError:
        with suppress(SlurmError):
            if before is not None:
                write_whole(_noted(home), json.dumps(asdict(before)))
            elif not jobs(home):
                _noted(home).unlink()
        raise


def _submit(settings: Settings, home: Home, wanted: SlurmWorkers, count: int) -> str:
    """Submit an array of `count` jobs and return its id."""
    # Slurm replaces % and a letter by names of the job.
    logs = str(home.logs).replace("%", "%%")
    return _call(
        *("sbatch", "--parsable", f"--job-name={_job_name(home)}"),
        *(f"--partition={wanted.partition}", f"--array=0-{count - 1}"),
        *(f"--nodes={wanted.nodes}", "--ntasks-per-node=1"),
        *((f"--gres=gpu:{wanted.gpus}",) if wanted.gpus else ()),
        # USR1 comes before the time limit; TERM, when Slurm or somebody ends the job.
        *("--requeue", f"--signal=B:USR1@{_WARNING_S}"),
        *(f"--output={logs}/slurm-%A_%a.log", "--open-mode=append"),
        # Settings and passwords go by the environment: a script or a command line is public.
        *("--export=ALL", f"--chdir={checkout() or home.root}"),
        *("--wrap", f"exec {shlex.join([sys.executable, '-m', 'flows.stack.slurm_job'])}"),
        environment={
            **worker_environment(settings, home),
            **({} if wanted.gpus else {"OMP_NUM_THREADS": "1"}),
        },
    ).partition(";")[0]


def asked_for(home: Home) -> SlurmWorkers | None:
    """What `isoflop up --slurm` last asked for; None when the stack has no Slurm jobs."""
    try:
        return SlurmWorkers(**json.loads(_noted(home).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def jobs(home: Home) -> list[Job]:
    """This home's jobs that wait, run or are ending.

    Raises:
        SlurmError: Slurm does not answer.
    """
    lines = _call(
        *("squeue", "--noheader", "--array", "--me", f"--name={_job_name(home)}"),
        "--format=%i|%T|%r|%N|%M|%L",
    ).splitlines()
    rows = [line.split("|") for line in lines]
    return [
        Job(job_id, state, reason, node, _seconds(run), left)
        for job_id, state, reason, node, run, left in rows
    ]


def cancel_jobs(home: Home) -> int:
    """Have Slurm end this home's jobs, whose trainings then write checkpoints; how many there were.

    Raises:
        SlurmError: Slurm does not answer.
    """
    if asked_for(home) is None:
        return 0
    living = jobs(home)
    if living:
        _call("scancel", *sorted({job.id.partition("_")[0] for job in living}))
    return len(living)


def wait_for_jobs(home: Home) -> None:
    """Wait until the cancelled jobs have ended, and forget them.

    Raises:
        SlurmError: some still run after a minute.
    """
    if asked_for(home) is None:
        return
    deadline = time.monotonic() + _END_S
    while left := jobs(home):
        if time.monotonic() > deadline:
            raise SlurmError(
                f"{len(left)} Slurm jobs have not ended, as {left[0].id} ({left[0].state}). "
                f"To see them: squeue --me --name={_job_name(home)}"
            )
        time.sleep(0.5)
    _noted(home).unlink(missing_ok=True)


def _noted(home: Home) -> Path:
    return home.root / "slurm.json"


def _job_name(home: Home) -> str:
    return f"isoflop-{hashlib.sha256(str(home.root).encode()).hexdigest()[:8]}"


def _seconds(elapsed: str) -> float:
    """Seconds of Slurm's [days-][[hours:]minutes:]seconds; 0 where it writes a word."""
    days, _, clock = elapsed.rpartition("-")
    seconds = 0.0
    for part in clock.split(":"):
        seconds = 60 * seconds + (float(part) if part.isdigit() else 0.0)
    return 86400 * float(days or 0) + seconds


def _call(*command: str, environment: dict[str, str] | None = None) -> str:
    """What one of Slurm's commands printed.

    Raises:
        SlurmError: it is not there, failed, or did not end.
    """
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=_ANSWER_S,
            check=False,
        )
    except FileNotFoundError:
        raise SlurmError(f"{command[0]} is not on the PATH; load the module of Slurm.") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(
            f"Slurm did not answer {command[0]} within {_ANSWER_S:.0f} s. Is it up? Try: sinfo"
        ) from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        hint = " For workers without one: --gpus-per-worker 0." if "(gres)" in lines[-1] else ""
        raise SlurmError(f"{command[0]} failed: {lines[-1][:300]}.{hint}")
    return done.stdout.strip()
