"""A long table looks like a short one, and lines break between words."""

import io

import pytest
from rich.console import Console

from flows.commands import output as module
from flows.commands.output import print_line, table

ROWS = [
    [f"run{k}", f"{1e3 * k:.3g}", 1000 * k, k / 7, "–" if k % 3 else "1.2", "", "[finished"]
    for k in range(30)
]
HEADER = ["name of it", "C FLOPs", "D", "x", "y", "none", "state"]


def printed(capsys, monkeypatch, many):
    monkeypatch.setattr(module, "_MANY", many)
    table("a title", HEADER, ROWS)
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_a_long_table_has_the_lines_that_rich_would_print(capsys, monkeypatch):
    long = printed(capsys, monkeypatch, many=10)
    assert long == printed(capsys, monkeypatch, many=100)
    assert len(long) == 32


def test_a_long_table_that_is_too_wide_wraps(capsys, monkeypatch):
    monkeypatch.setattr(module, "width", lambda: 40)
    assert len(printed(capsys, monkeypatch, many=10)) > 32


def test_a_name_that_does_not_fit_its_column_goes_on_in_the_next_line(capsys, monkeypatch):
    monkeypatch.setattr(module, "width", lambda: 16)
    table("", ["run", "D"], [["d640x10-D1703706624", "1.7B"]])
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert "".join(line[0] for line in lines[1:]) == "d640x10-D1703706624"


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
