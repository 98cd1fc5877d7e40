"""Output of commands: a table, or one JSON document."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.commands.common import fail

_WIDE = 140
_MANY = 100  # rows; rich takes a millisecond a row
# 1,234; 11B; $12; 1.00e+23; 16.3%; with an interval or a range behind it.
_NUMBER = re.compile(r"[+−×-]?\$?\d[\d,.]*(e[+-]?\d+)?[kMBT%]?( .*)?|–")


def emit(document: Any, destination: str) -> None:
    """Write one JSON document to a file, or to standard output when the destination is `-`."""
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    if destination == "-":
        sys.stdout.write(text)
        return
    try:
        Path(destination).write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"cannot write --json {destination}: {error.strerror or error}.")


def table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[object]], *, tight: bool = False
) -> None:
    """Print a small table; numbers to the right, words to the left.

    Args:
        tight: one space between columns, for many of them in 80 columns.
    """
    numeric = [_all_numeric([row[index] for row in rows]) for index in range(len(header))]
    cells = [[_cell(value) for value in row] for row in rows]
    if len(rows) > _MANY and (lines := _aligned(header, cells, numeric)):
        console = Console(highlight=False, soft_wrap=True)
        for line in (title, lines[0]):
            console.print(line, style="bold", markup=False)
        sys.stdout.write("\n".join([*lines[1:], ""]))
        return
    shown = Table(
        title=title,
        title_justify="left",
        box=None,
        pad_edge=False,
        title_style="bold",
        collapse_padding=tight,
    )
    for name, right in zip(header, numeric, strict=True):
        # A name that does not fit goes on in the next line: cut off, it names no run.
        shown.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in cells:
        shown.add_row(*row)
    Console(width=width()).print(shown)


def _aligned(
    header: Sequence[str], cells: Sequence[Sequence[str]], right: Sequence[bool]
) -> list[str]:
    """The lines of a table as rich sets them, in a hundredth of the time; none if some wrap."""
    columns = list(zip(header, *cells, strict=True))
    widths = [max(map(len, column)) for column in columns]
    if sum(widths) + 2 * (len(widths) - 1) > width():
        return []
    padded = [
        [text.rjust(size) if at_right else text.ljust(size) for text in column]
        for column, size, at_right in zip(columns, widths, right, strict=True)
    ]
    return ["  ".join(row) for row in zip(*padded, strict=True)]


def width() -> int:
    """Columns available to a table."""
    console = Console()
    # A pipe or a log has no width; 80 columns would break numbers in two.
    return console.width if console.is_terminal else _WIDE


def _all_numeric(column: Sequence[object]) -> bool:
    values = [value for value in column if value != ""]
    return bool(values) and all(map(_numeric, values))


def _numeric(value: object) -> bool:
    return isinstance(value, int | float) or _NUMBER.fullmatch(str(value)) is not None


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def print_line(console: Console, line: str, *, style: str | None = None) -> None:
    """Print a line whole in a pipe, broken between words in a terminal; a command stays whole."""
    if console.is_terminal and not line.startswith("  isoflop "):
        line = fill(
            line,
            console.width,
            subsequent_indent="   ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    console.print(line, style=style, markup=False, soft_wrap=True)


def print_wrapped(text: str) -> None:
    """Print lines that a terminal of 80 columns shows whole; what goes on is indented."""
    for line in text.splitlines():
        print(fill(line, 80, subsequent_indent="   ", break_long_words=False))
