"""A module as a program imports what its caller does, and no file of the user's for Python's."""

import subprocess
import sys
from pathlib import Path

import pytest

import llama_core
from llama_core.corpus.programs import program

_ROOT = str(Path(llama_core.__file__).parents[1])


@pytest.mark.parametrize("first", ["", "folder"], ids=["working folder", "folder of a script"])
def test_a_users_file_is_not_taken_for_pythons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('of the user')")
    (tmp_path / "mine.py").write_text("import json, llama_core.files; print(json.__name__)")
    monkeypatch.chdir(tmp_path)
    others = [path for path in sys.path if path]
    monkeypatch.setattr(sys, "path", [str(tmp_path) if first else "", *others, _ROOT])
    command, environment = program("mine")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("json\n", "")
