"""How many cores this process may use. Imports neither torch nor numpy."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

_PROC, _CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
# Folders of version 1's CPU controller, by what distributions mount.
_VERSION_1 = ("cpu", "cpu,cpuacct", "cpuacct,cpu")


def usable_cores(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """Cores this process may use: by its affinity, and by a container's CPU quota.

    A part of a core counts as a core, so that the whole quota is used. From Python 3.13 on,
    PYTHON_CPU_COUNT lowers the number too.
    """
    count = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    if hasattr(os, "sched_getaffinity"):
        count = min(count, len(os.sched_getaffinity(0)))
    return max(1, min([count, *map(math.ceil, _quotas(proc, cgroups))]))


def _quotas(proc: Path, cgroups: Path) -> Iterator[float]:
    """Quotas in cores of this process's control groups and all groups around them."""
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            for folder in _folders(cgroups, path):
                yield from _quota(_words(folder / "cpu.max"))
        elif "cpu" in controllers.split(","):
            for mount in _VERSION_1:
                for folder in _folders(cgroups / mount, path):
                    quota = _words(folder / "cpu.cfs_quota_us")
                    yield from _quota([*quota, *_words(folder / "cpu.cfs_period_us")])


def _folders(mount: Path, path: str) -> Iterator[Path]:
    """The folder of a group and those around it; in a container the mount itself is the group."""
    folder = mount / path.lstrip("/")
    while folder != mount and mount in folder.parents:
        yield folder
        folder = folder.parent
    yield mount


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _quota(words: list[str]) -> Iterator[float]:
    """Quota over period; nothing without a quota, which is `max` or -1."""
    try:
        quota, period = map(int, words)
    except ValueError:
        return
    if quota > 0 and period > 0:
        yield quota / period
