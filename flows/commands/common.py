"""What commands share: options, the home they open, and how they refuse, fail and wait."""

import errno
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated, NoReturn

from cyclopts import Parameter

from analysis.layout import wrapped
from flows.commands.options import FIT, OUTPUT

if TYPE_CHECKING:
    from analysis.page import Page
    from flows.settings import Home, Settings


def fail(message: str) -> NoReturn:
    """Refuse unusable input: one line on standard error, exit status 2."""
    say(f"isoflop: {message}")
    raise SystemExit(2)


def say(line: str) -> None:
    """Print a line on standard error, broken between words where that is a terminal."""
    if sys.stderr.isatty():
        line = "\n".join(wrapped(line, get_terminal_size().columns))
    print(line, file=sys.stderr)


def _check_level(kind: type, level: float) -> None:
    from flows.answers.rows import check_level

    with refusals():
        check_level(level)


def _check_json(kind: type, path: str | None) -> None:
    if path is not None and path != "-":
        _check_file("--json", Path(path))


def _check_report(kind: type, path: Path | None) -> None:
    if path is not None:
        _check_file("--report", path)


def _check_file(option: str, path: Path) -> None:
    """Refuse a file that cannot be written, before the work for it is done."""
    folder = path.absolute().parent
    if not folder.is_dir():
        fail(f"{option} {path}: there is no folder {folder}.")
    if path.is_dir():
        fail(f"{option} {path} is a folder: name a file in it.")


Json = Annotated[
    str | None,
    Parameter(
        allow_leading_hyphen=True,
        group=OUTPUT,
        help="write JSON to this file; - for standard output",
        validator=_check_json,
    ),
]
Report = Annotated[
    Path | None,
    Parameter(
        group=OUTPUT,
        help="write a self-contained HTML page to this file",
        validator=_check_report,
    ),
]
Anyway = Annotated[
    bool,
    Parameter(group=FIT, help="give N* under a law that does not support one"),
]
Level = Annotated[
    float,
    Parameter(group=FIT, help="of every interval, as 0.9 for 90 %", validator=_check_level),
]


def open_all() -> "tuple[Settings, Home]":
    """The settings, and the home with its folders made.

    Raises:
        ValueError: a setting is out of range, or the home cannot be written.
    """
    from flows.settings import open_home, open_settings

    settings = open_settings()
    return settings, open_home(settings)


def open_all_to_read() -> "tuple[Settings, Home]":
    """The settings and the home as it is: missing, or read-only, for commands that only read.

    Raises:
        ValueError: a setting is out of range.
    """
    from flows.settings import home_of, open_settings

    settings = open_settings()
    return settings, home_of(settings)


def open_to_read() -> "Home":
    """The home as it is, see `open_all_to_read`."""
    return open_all_to_read()[1]


@contextmanager
def failures(*kinds: type[Exception]) -> Iterator[None]:
    """Turn exceptions that are neither bugs nor unusable input into one line and exit status 1."""
    try:
        yield
    except kinds as error:
        say(f"isoflop: {error}")
        raise SystemExit(1) from None


@contextmanager
def refusals() -> Iterator[None]:
    """Turn a refusal of the input into one line and exit status 2; a bug keeps its traceback."""
    try:
        yield
    except (ValueError, FileNotFoundError, PermissionError) as error:
        from sweeps.faults import plain

        fail(" ".join(plain(error).split()))
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.ELOOP):
            raise
        # A text given for a file's name may be of any length.
        fail(f"{str(error.filename)[:80]}: {str(error.strerror).lower()}.")


def write_report(page: "Page", report: Path) -> None:
    """Write the page to the file of `--report`."""
    from flows.files import write_whole

    try:
        write_whole(report, page.html())
    except OSError as error:
        fail(f"cannot write {report}: {error.strerror or error}.")
    say(f"report: {report}")


@contextmanager
def busy(doing: str) -> Iterator[Callable[[str], None]]:
    """Show a spinner on standard error; the function it yields changes its text."""
    from rich.console import Console

    with Console(stderr=True).status(doing) as status:
        yield status.update


@contextmanager
def progress_shown(
    doing: str, *, after_s: float = 2.0, every_s: float = 60.0
) -> Iterator[Callable[[str], None]]:
    """`busy` on a terminal; elsewhere, as in a job's log, lines on the steps that take long.

    A step's name ends at a colon; how far it is follows.

    Args:
        after_s: how long a step takes before it is named.
        every_s: between further lines on it.
    """
    if sys.stderr.isatty():
        with busy(doing) as update:
            yield update
        return
    text, ended = doing, threading.Event()

    def update_text(now: str) -> None:
        nonlocal text
        text = now

    def write() -> None:
        step, due = "", 0.0
        while not ended.wait(0.1):
            now, clock = text, time.monotonic()
            if (name := now.partition(":")[0]) != step:
                step, due = name, clock + after_s
            elif clock >= due:
                due = clock + every_s
                say(now)

    # Beside the step, which may report nothing for minutes.
    writer = threading.Thread(target=write, name="steps", daemon=True)
    writer.start()
    try:
        yield update_text
    finally:
        ended.set()
        writer.join()


@contextmanager
def shown_from_log(logger: str, *, after_s: float = 2.0) -> Iterator[None]:
    """Show what a logger says is being done, on a terminal's standard error, if it takes long."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    status = console.status("")
    handler, source = logging.Handler(), logging.getLogger(logger)
    handler.emit = lambda record: status.update(record.getMessage())  # type: ignore[method-assign]
    timer = threading.Timer(after_s, status.start)
    level = source.level
    source.addHandler(handler)
    source.setLevel(logging.INFO)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()
        source.removeHandler(handler)
        source.setLevel(level)
