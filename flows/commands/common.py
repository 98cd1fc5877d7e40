"""What commands share: the home they open, and how they refuse, fail and wait."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, NoReturn

from cyclopts import Parameter

if TYPE_CHECKING:
    from flows.settings import Home, Settings
    from sweeps.plan import Plan


Json = Annotated[
    str | None,
    Parameter(allow_leading_hyphen=True, help="write JSON to this file; - for standard output"),
]


def open_all() -> "tuple[Settings, Home]":
    from flows.settings import open_home, open_settings

    settings = open_settings()
    return settings, open_home(settings)


def find_plan(name: str, home: "Home") -> "Plan":
    from flows.plans.plan import read_plans

    plans = {planned.spec.name: planned for planned in read_plans(home)}
    if name not in plans:
        known = ", ".join(plans) or "none yet"
        raise ValueError(f"no sweep {name!r} in {home.root}. Sweeps there: {known}.")
    return plans[name]


@contextmanager
def failures(*kinds: type[Exception]) -> Iterator[None]:
    """What fails for reasons of the machine, in one line; exit status 1."""
    try:
        yield
    except kinds as error:
        say(f"isoflop: {error}")
        raise SystemExit(1) from None


@contextmanager
def refusals() -> Iterator[None]:
    """Unusable input is told in one line; a bug keeps its traceback."""
    from flows.commands.common import fail

    try:
        yield
    except (ValueError, FileNotFoundError, PermissionError) as error:
        fail(" ".join(str(error).split()))


@contextmanager
def busy(doing: str) -> Iterator[Callable[[str], None]]:
    """A turning line on standard error for what takes seconds; what it yields renames it."""
    from rich.console import Console

    with Console(stderr=True).status(doing) as status:
        yield status.update


def say(line: str) -> None:
    print(line, file=sys.stderr)


def fail(message: str) -> NoReturn:
    """Refuse unusable input: one clear line on standard error, exit status 2."""
    print(f"isoflop: {message}", file=sys.stderr)
    raise SystemExit(2)
