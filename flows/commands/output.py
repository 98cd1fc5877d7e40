"""Output of commands: a table, sentences, or one JSON document."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console

from analysis.layout import table_lines, wrapped
from flows.commands.common import fail, write_report
from flows.files import write_whole

if TYPE_CHECKING:
    from flows.answers.shown import Shown

_Answer = TypeVar("_Answer", bound="Shown")
_WIDE = 140


def show(
    answer: _Answer, print_text: Callable[[_Answer], None], json: str | None, report: Path | None
) -> None:
    """Give an answer in its forms: the page of --report, the document of --json, and its text.

    Where the document goes to standard output, it has that to itself.
    """
    if report is not None:
        write_report(answer.page, report)
    if json is not None:
        emit(answer.json(), json)
    if json != "-":
        print_text(answer)


def emit(document: Any, destination: str) -> None:
    """Write one JSON document to a file, or to standard output when the destination is `-`."""
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    if destination == "-":
        sys.stdout.write(text)
        return
    path = Path(destination)
    try:
        if path.exists() and not path.is_file():
            # A pipe or a device cannot be replaced.
            path.write_text(text, encoding="utf-8")
        else:
            write_whole(path, text)
    except OSError as error:
        fail(f"cannot write --json {destination}: {error.strerror or error}.")


def table(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    spare: Sequence[str] = (),
    tight: bool = False,
) -> None:
    """Print a table that fits the terminal; numbers to the right and whole, words to the left.

    Args:
        spare: what to leave out of a narrow terminal, see `table_lines`.
        tight: one space between columns, for many of them in 80 columns.
    """
    lines = table_lines(header, rows, width=width(), spare=spare, indent="", gap=1 if tight else 2)
    console = Console(highlight=False)
    for line in wrapped(title, width()):
        console.print(line, style="bold", markup=False, soft_wrap=True)
    sys.stdout.write("\n".join([*lines, ""]))


def width() -> int:
    """Columns available to a table."""
    console = Console()
    # A pipe or a log has no width; 80 columns would break numbers in two.
    return console.width if console.is_terminal else _WIDE


def print_line(console: Console, line: str, *, style: str | None = None) -> None:
    """Print a line whole in a pipe, broken between words in a terminal; a command stays whole."""
    lines = wrapped(line, console.width) if console.is_terminal else [line]
    for each in lines:
        console.print(each, style=style, markup=False, soft_wrap=True)


def print_wrapped(text: str) -> None:
    """Print sentences in lines that break between words; what goes on is indented."""
    for line in wrapped(text, width()):
        print(line)
