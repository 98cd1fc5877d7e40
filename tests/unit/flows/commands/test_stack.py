"""What `isoflop up` prints when the stack is up."""

import pytest

from flows.commands import stack
from tests.conftest import ROOT


@pytest.fixture
def next_line(monkeypatch, tmp_path, capsys):
    """The line with the next command, for a stack that is up at once."""
    monkeypatch.setattr("flows.stack.up.up", lambda *arguments, **options: None)
    monkeypatch.setenv("ISOFLOP_HOME", str(tmp_path / "home"))
    for name in ("HOST", "PREFECT_PORT", "MLFLOW_PORT"):
        monkeypatch.delenv(f"ISOFLOP_{name}", raising=False)

    def read(folder):
        monkeypatch.chdir(folder)
        stack.up(workers=1)
        [line] = [line for line in capsys.readouterr().out.splitlines() if "next:" in line]
        return line.split(maxsplit=1)[1]

    return read


def test_in_the_checkout_prefect_finds_the_default_address_by_itself(next_line):
    assert next_line(ROOT).startswith("prefect deployment run sweep/chinchilla")


def test_elsewhere_and_on_another_port_the_address_is_given(next_line, monkeypatch, tmp_path):
    assert next_line(tmp_path).startswith("PREFECT_API_URL=http://127.0.0.1:4200/api prefect")
    monkeypatch.setenv("ISOFLOP_PREFECT_PORT", "4321")
    assert next_line(ROOT).startswith("PREFECT_API_URL=http://127.0.0.1:4321/api prefect")
