"""The command's door."""

import os
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("0", "0")])
def test_no_command_lets_prefect_or_mlflow_report_its_use_unless_asked_to(
    before: str | None, after: str, monkeypatch: Any, tmp_path: Path, capsys: Any
) -> None:
    monkeypatch.setenv("ISOFLOP_HOME", str(tmp_path))
    monkeypatch.setenv("DO_NOT_TRACK", "")
    monkeypatch.delenv("DO_NOT_TRACK")
    if before is not None:
        monkeypatch.setenv("DO_NOT_TRACK", before)
    main(["runs"])
    assert os.environ["DO_NOT_TRACK"] == after
