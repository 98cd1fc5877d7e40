"""A sweep for the workers of a stack that is not up."""

import pytest

from flows.cli import main
from flows.stack.servers import free_port


@pytest.mark.parametrize(
    ("spec", "status", "words"),
    [
        ("smoke", 1, ("no Prefect server answers at", "isoflop up", "ISOFLOP_PREFECT_PORT")),
        ("nosuch", 2, ("no preset or file 'nosuch'", "smoke")),
    ],
)
def test_a_sweep_that_cannot_be_submitted_is_one_line(
    spec, status, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("ISOFLOP_HOME", str(tmp_path))
    monkeypatch.setenv("ISOFLOP_PREFECT_PORT", str(free_port("127.0.0.1")))
    with pytest.raises(SystemExit) as ended:
        main(["submit", spec])
    assert ended.value.code == status
    [line] = capsys.readouterr().err.splitlines()
    assert all(each in line for each in words)
