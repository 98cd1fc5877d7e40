"""What a check of `isoflop doctor` reports."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flows.settings import Home, Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    Attributes:
        what: was found.
        done: about it; empty when nothing was.
        remedy: what to do by hand; empty when it is mended.
    """

    what: str
    done: str = ""
    remedy: str = ""


# A check looks, mends if it is told to, and yields what it found.
Check = Callable[[Settings, Home, bool], Iterator[Finding]]
