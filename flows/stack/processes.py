"""Server and worker processes of the local stack, registered in HOME/stack.json."""

import json
import logging
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from flows.files import write_whole
from flows.settings import Home

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the stack.

    Attributes:
        started_at: Unix time by the clock of then.
        gpus: the GPUs a training worker is pinned to, as in `0` or `0,1`; None without a GPU.
        birth: shows whether the pid has been reused, see `_birth`; None where an older version
            wrote it, and then `started_at` has to do.
    """

    name: str
    pid: int
    started_at: float
    gpus: str | None = None
    birth: str | None = None


def running(home: Home) -> list[Process]:
    """Processes of the stack that are alive."""
    return [process for process in registered(home) if alive(process)]


def registered(home: Home) -> list[Process]:
    """Processes that `up` started and `down` has not stopped, alive or not."""
    path = home.root / "stack.json"
    try:
        return [Process(**entry) for entry in json.loads(path.read_bytes())]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError):
        log.warning("%s is damaged or of another version: no process of the stack is known", path)
        return []


def alive(process: Process) -> bool:
    """Whether the process is still running."""
    try:
        if process.birth is not None:
            same = _birth(process.pid) == process.birth
        else:
            created_at = psutil.Process(process.pid).create_time()
            same = abs(created_at - process.started_at) < 1.0
        return same and not _is_zombie(process.pid)
    except psutil.NoSuchProcess:
        return False


def _birth(pid: int) -> str | None:
    """The boot, and the clock ticks from it to the start of a process; None if not on Linux.

    A process's start as a Unix time moves whenever the clock is set: Linux counts it from the boot.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return f"{boot} {fields[19]}"


def _is_zombie(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def group_members(process: Process) -> list[psutil.Process]:
    """Running processes of the group that it leads or led; they can outlive it."""
    members = []
    for other in psutil.process_iter():
        # It may end while it is looked at.
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(other.pid) == process.pid and not _is_zombie(other.pid):
                members.append(other)
    # The process id may have been given to the leader of another group since.
    leads_another = any(member.pid == process.pid for member in members) and not alive(process)
    return [] if leads_another else members


def process_of(name: str, pid: int) -> Process:
    """A running process by its pid."""
    return Process(name, pid, psutil.Process(pid).create_time(), birth=_birth(pid))


def register(home: Home, process: Process) -> None:
    """Record a process as soon as it runs, so that `down` finds it whatever happens next.

    It replaces an earlier one of the same name.
    """
    others = [entry for entry in registered(home) if entry.name != process.name]
    entries = [asdict(entry) for entry in [*others, process]]
    write_whole(home.root / "stack.json", json.dumps(entries, indent=1))
