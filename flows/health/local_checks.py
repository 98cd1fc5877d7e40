"""Checks that need no server: versions, disk, leftovers."""

import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from analysis.words import counted
from flows.health.finding import Finding
from flows.plans.stored import read_plans
from flows.runs.directory import RunDir
from flows.runs.state import missing
from flows.settings import Home, Settings, checkout
from flows.stack.processes import registered
from llama_core.cores import usable_cores
from llama_core.counting import count_params
from llama_core.files import writer_of
from sweeps.spec import PlannedRun

_GIB = 2**30
# For databases, logs, curves and reports.
_LEAST_FREE = 0.2 * _GIB
# Age from which nobody writes an unchanged draft of another host, or of unknown writer.
_FORGOTTEN_S = 24 * 3600.0
# Weights and AdamW's two moments, fp32.
_STATE_BYTES = 3 * 4


def check_versions(settings: Settings, home: Home, repair: bool) -> Iterator[Finding]:
    """Check installed packages against the ranges isoflop was tested with, and each other."""
    for requirement in _requirements():
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            installed = ""
        if installed and requirement.specifier.contains(installed, prereleases=True):
            continue
        state = installed or "is not installed"
        what = f"{requirement.name} {state}, and isoflop needs {requirement}"
        if requirement.name == "fastapi" and installed:
            what += ": prefect allows it, but its server does not start with 0.155 and newer"
        yield Finding(what, remedy=_pip_install(str(requirement)))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pip", "check"], capture_output=True, text=True, check=False
    )
    if done.returncode and "No module named pip" not in done.stderr:
        for line in done.stdout.splitlines():
            # Installing a package again also installs the requirements that it lacks.
            yield Finding(line, remedy=_pip_install(line.split()[0]))


def _pip_install(requirement: str) -> str:
    """The command that installs it; from a checkout, in a version that was tested."""
    root = checkout()
    tested = [] if root is None else ["-c", str(root / "constraints.txt")]
    return shlex.join([sys.executable, "-m", "pip", "install", *tested, requirement])


def _requirements() -> list[Requirement]:
    """isoflop's requirements: from pyproject.toml, which may be newer than pip's record."""
    root = checkout()
    if root is not None:
        project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
        dependencies = project["dependencies"]
    else:
        dependencies = requires("isoflop") or []
    return [
        requirement
        for requirement in map(Requirement, dependencies)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    ]


def check_disk(settings: Settings, home: Home, repair: bool) -> Iterator[Finding]:
    """Check that checkpoints and weights of unfinished runs fit on the disk."""
    free = shutil.disk_usage(home.root).free
    todo = [run for plan in read_plans(home) for run in missing(plan.runs, home)]
    needed = int(_LEAST_FREE + space_needed(todo, home, at_once=_at_once(home)))
    if free >= needed:
        return
    largest = sorted(((_size(path), path.name) for path in home.root.iterdir()), reverse=True)
    places = ", ".join(f"{name} {size / _GIB:.2f} GiB" for size, name in largest[:3])
    yield Finding(
        f"{free / _GIB:.2f} GiB are free, and training {counted(len(todo), 'run')} needs "
        f"{needed / _GIB:.2f} GiB; largest in {home.root}: {places}",
        remedy="free some, or move the folder and set ISOFLOP_HOME; nothing was removed: runs and "
        "sweeps hold results, logs and *.set-aside-* can be deleted",
    )


def space_needed(runs: list[PlannedRun], home: Home, *, at_once: int) -> float:
    """Bytes that training these runs will take on disk.

    Final weights of all horizons of all runs, and the checkpoints of the largest runs that train at
    once: those kept and the one being written, of the trunk and of a cooldown branch.
    """
    finals, states = 0.0, []
    for planned in runs:
        total = count_params(planned.run.model).total
        horizons = len(planned.run.train.schedule.horizons)
        finals += 4.0 * total * horizons
        kept = RunDir(home.runs / planned.id).placement().keep_checkpoints + 1
        states.append(float(_STATE_BYTES * total * kept * (2 if horizons > 1 else 1)))
    return finals + sum(sorted(states, reverse=True)[:at_once])


def _at_once(home: Home) -> int:
    workers = [process for process in registered(home) if process.name.startswith("train-worker")]
    return len(workers) or usable_cores()


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.lstat().st_size for file in files if file.is_file())


def check_leftovers(settings: Settings, home: Home, repair: bool) -> Iterator[Finding]:
    """Check for drafts and scratch folders whose writer has ended. The kernel frees locks."""
    stale = [path for path in home.root.rglob("*") if _is_leaving(path)]
    if not stale:
        return
    example = stale[0].relative_to(home.root)
    what = f"{len(stale)} half-written files whose writers are gone, as {example}"
    if not repair:
        yield Finding(what, remedy="isoflop doctor removes them")
        return
    for path in stale:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    yield Finding(what, done="removed; what they would have replaced is whole")


def _is_leaving(path: Path) -> bool:
    """Whether a path is a draft whose writer on this host is gone, or that nobody has touched."""
    writer = writer_of(path.name)
    if writer is not None and writer[1] == socket.gethostname():
        return not psutil.pid_exists(writer[0])
    draft = re.search(r"\.(part|writing)$|^\.(preparing|arriving)-", path.name)
    return draft is not None and time.time() - path.lstat().st_mtime > _FORGOTTEN_S
