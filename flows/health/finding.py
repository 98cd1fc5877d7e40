"""A fault that a check of `isoflop doctor` reports."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flows.settings import Home, Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault.

    Attributes:
        what: the fault.
        done: the repair; empty when there was none.
        remedy: what to do by hand; empty when it is repaired.
    """

    what: str
    done: str = ""
    remedy: str = ""


# A check yields the faults it finds; where its last argument is true, it repairs them.
Check = Callable[[Settings, Home, bool], Iterator[Finding]]
