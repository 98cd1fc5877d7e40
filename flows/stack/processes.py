"""Server and worker processes of the local stack, registered in HOME/stack.json."""

import json
from dataclasses import asdict, dataclass

import psutil

from flows.files import write_whole
from flows.settings import Home


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the stack.

    Attributes:
        started_at: Unix time; shows whether the pid has been reused.
        gpus: the GPUs a training worker is pinned to, as in `0` or `0,1`; None without a GPU.
    """

    name: str
    pid: int
    started_at: float
    gpus: str | None = None


def running(home: Home) -> list[Process]:
    """Processes of the stack that are alive."""
    return [process for process in registered(home) if alive(process)]


def registered(home: Home) -> list[Process]:
    """Processes that `up` started and `down` has not stopped, alive or not."""
    try:
        entries = json.loads((home.root / "stack.json").read_text())
    except (FileNotFoundError, ValueError):
        return []
    return [Process(**entry) for entry in entries]


def alive(process: Process) -> bool:
    """Whether the process is still running."""
    try:
        current = psutil.Process(process.pid)
        same = abs(current.create_time() - process.started_at) < 1.0
        return same and current.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def process_of(name: str, pid: int) -> Process:
    """A running process by its pid."""
    return Process(name=name, pid=pid, started_at=psutil.Process(pid).create_time())


def register(home: Home, process: Process) -> None:
    """Record a process as soon as it runs, so that `down` finds it whatever happens next.

    It replaces an earlier one of the same name.
    """
    others = [entry for entry in registered(home) if entry.name != process.name]
    entries = [asdict(entry) for entry in [*others, process]]
    write_whole(home.root / "stack.json", json.dumps(entries, indent=1))
