"""Server and worker processes of the local stack, known by their pid files."""

import json
from dataclasses import asdict, dataclass

import psutil

from flows.files import write_whole
from flows.settings import Home


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the stack.

    Attributes:
        started_at: Unix time, by which a reused pid is told apart.
        gpus: what a worker of trainings is pinned to, as in `0` or `0,1`; None without a GPU.
    """

    name: str
    pid: int
    started_at: float
    gpus: str | None = None


def running(home: Home) -> list[Process]:
    """Processes of the stack that are alive now."""
    return [process for process in noted(home) if alive(process)]


def noted(home: Home) -> list[Process]:
    """Processes that `up` started and `down` has not stopped, alive or not."""
    try:
        known = json.loads((home.root / "stack.json").read_text())
    except (FileNotFoundError, ValueError):
        return []
    return [Process(**entry) for entry in known]


def alive(process: Process) -> bool:
    """Whether it still runs."""
    try:
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.started_at) < 1.0
        return same and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def process_of(name: str, pid: int) -> Process:
    """A running process with the time it started, by which a reused pid is told apart."""
    return Process(name=name, pid=pid, started_at=psutil.Process(pid).create_time())


def note(home: Home, process: Process) -> None:
    """Remember a process as soon as it runs, so that `down` finds it whatever happens next.

    It takes the place of an earlier one of its name.
    """
    others = [entry for entry in noted(home) if entry.name != process.name]
    entries = [asdict(entry) for entry in [*others, process]]
    write_whole(home.root / "stack.json", json.dumps(entries, indent=1))
