"""A long table looks like a short one."""

from flows.commands import output as module
from flows.commands.output import table

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
