"""Lines break between words, and a table fits the terminal."""

import io
import json
import os
from types import SimpleNamespace

import pytest
from rich.console import Console

from flows.commands import output as module
from flows.commands.output import emit, print_line, table
from tests.disk import files_up_to


def test_a_table_has_its_title_above_it_and_fits_the_terminal(capsys, monkeypatch):
    monkeypatch.setattr(module, "width", lambda: 20)
    table("a title", ["run", "id", "D"], [["d16", "0123456789abcdef", 1_234]], spare=["id"])
    assert capsys.readouterr().out.splitlines() == [
        "a title", "run      D", "d16  1,234", "no room in 20", "   columns for: id"
    ]  # fmt: skip


@pytest.mark.parametrize("terminal", [True, False])
def test_a_line_breaks_between_words_in_a_terminal_alone_and_a_command_nowhere(terminal):
    text = "warning: the learning rate of d16 was not checked at an end of the sweep"
    command = "  isoflop sweep demo --set name=demo-d16 --set seeds=[0]"
    out = io.StringIO()
    console = Console(file=out, width=30, force_terminal=terminal, no_color=True, highlight=False)
    for line in (text, command):
        print_line(console, line)
    lines = out.getvalue().splitlines()
    assert lines[-1] == command
    assert " ".join(line.strip() for line in lines[:-1]) == text
    assert max(map(len, lines[:-1])) <= 30 if terminal else lines[0] == text


def test_without_a_terminal_a_table_has_140_columns(monkeypatch):
    console = SimpleNamespace(width=77, is_terminal=False)
    monkeypatch.setattr(module, "Console", lambda: console)
    assert module.width() == 140
    console.is_terminal = True
    assert module.width() == 77


def test_a_document_goes_to_standard_output_or_to_a_file_that_can_be_written(tmp_path, capsys):
    emit({"a": 1}, "-")
    assert json.loads(capsys.readouterr().out) == {"a": 1}
    emit({"a": 1}, str(tmp_path / "a.json"))
    assert (tmp_path / "a.json").read_text() == '{\n "a": 1\n}\n'
    with pytest.raises(SystemExit) as refusal:
        emit({}, str(tmp_path))
    assert refusal.value.code == 2
    assert f"cannot write --json {tmp_path}: " in capsys.readouterr().err
    with pytest.raises(ValueError, match="JSON"):
        emit({"a": float("nan")}, "-")


def test_a_document_that_does_not_fit_on_the_disk_leaves_the_one_before(tmp_path):
    emit({"a": 1}, str(tmp_path / "a.json"))
    with files_up_to(1000), pytest.raises(SystemExit):
        emit({"a": 1, "b": "x" * 2000}, str(tmp_path / "a.json"))
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_document_goes_into_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    emit({"a": 1}, str(pipe))
    assert json.loads(os.read(reader, 100)) == {"a": 1}
    assert pipe.is_fifo()
