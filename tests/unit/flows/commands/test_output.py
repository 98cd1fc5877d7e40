"""Lines break between words, and a table fits the terminal."""

import io

import pytest
from rich.console import Console

from flows.commands import output as module
from flows.commands.output import print_line, table


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
