"""What tests share: a home with the default corpus prepared once, and the real command."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from flows.cli import main

ROOT = Path(__file__).resolve().parent.parent
COMMAND = Path(sys.executable).with_name("isoflop")
# Wall-clock deadlines say more about the machine's other work than about the code.
settings.register_profile("isoflop", deadline=None)
settings.load_profile("isoflop")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Processes that share the machine's cores take one each.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
_SERVERS = ("PREFECT", "MLFLOW", "DASHBOARD")
Isoflop = Callable[..., subprocess.CompletedProcess[str]]


def bare_environment() -> dict[str, str]:
    """The environment without what a developer's own stack has set, and on free ports."""
    ours = ("ISOFLOP_", "PREFECT_", "MLFLOW_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return {**kept, **free_ports()}


def free_ports() -> dict[str, str]:
    """A free port for each server of a stack, by its variable: all different."""
    with ExitStack() as held:
        # A port that is let go before the next one is asked for may come twice.
        probes = [held.enter_context(socket.socket()) for _ in _SERVERS]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        ports = [str(probe.getsockname()[1]) for probe in probes]
    return {f"ISOFLOP_{name}_PORT": port for name, port in zip(_SERVERS, ports, strict=True)}


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that all end-to-end tests share, so that the corpus is prepared once."""
    home = tmp_path_factory.mktemp("home")
    if "PYTEST_XDIST_WORKER" in os.environ:
        # Each process has a home of its own; a corpus is the same in all.
        shared = tmp_path_factory.getbasetemp().parent / "corpora"
        shared.mkdir(exist_ok=True)
        (home / "corpora").symlink_to(shared)
    return home


@pytest.fixture
def isoflop(home: Path) -> Isoflop:
    """Runs the real command in a process of its own: isoflop("plan", "smoke", home=other)."""

    def run(
        *arguments: str,
        home: Path = home,
        folder: Path = ROOT,
        timeout: float = 500,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *arguments],
            cwd=folder,
            env={**bare_environment(), "ISOFLOP_HOME": str(home), **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture
def in_process(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Isoflop:
    """Runs the command like `isoflop`, but in this process, which has the imports behind it."""

    def run(
        *arguments: object, home: Path = home, folder: Path = ROOT, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        words, status = [str(argument) for argument in arguments], 0
        wanted = {**bare_environment(), "ISOFLOP_HOME": str(home), **environment}
        with monkeypatch.context() as patched:
            for name in os.environ.keys() - wanted.keys():
                patched.delenv(name)
            for name, value in wanted.items():
                patched.setenv(name, value)
            patched.chdir(folder)
            try:
                main(words)
            except SystemExit as end:
                # As Python ends: a message in place of a number is a failure.
                status = end.code if isinstance(end.code, int) else int(end.code is not None)
        return subprocess.CompletedProcess(words, status, *capsys.readouterr())

    return run
