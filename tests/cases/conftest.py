"""The command in this process, for tests of what its user sees."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.cli import main
from tests.fitted_once import fitted_once


@dataclass(frozen=True)
class Done:
    """What a command printed, and its exit status."""

    status: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture(scope="module", autouse=True)
def _fitted_once() -> Iterator[None]:
    """Most tables here hold the same rows, which are fitted once."""
    with fitted_once():
        yield


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command line in this process with a home of the test's own: run("fit", table)."""
    monkeypatch.setenv("ISOFLOP_HOME", str(tmp_path / "home"))

    def run(*arguments: object) -> Done:
        status = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        printed = capsys.readouterr()
        return Done(status, printed.out, printed.err)

    return run
