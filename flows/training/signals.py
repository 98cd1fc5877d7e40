"""SIGTERM and SIGINT as a request to stop after the current step."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SAME_REQUEST_S = 3.0


class Interrupted(BaseException):
    """A signal stopped the training; started again, it resumes from its newest checkpoint."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGTERM and SIGINT into `Interrupted`."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupted(signal.Signals(number).name)

    with handling(stop):
        yield


@contextmanager
def stop_requested() -> Iterator[threading.Event]:
    """An event set by SIGTERM or SIGINT; a second signal seconds later interrupts at once."""
    requested, requested_at = threading.Event(), 0.0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal requested_at
        if not requested.is_set():
            requested_at = time.monotonic()
        # A service that ends signals this process and its parent, which then signals it too.
        elif time.monotonic() - requested_at > _SAME_REQUEST_S:
            raise Interrupted(f"{signal.Signals(number).name} twice")
        requested.set()

    with handling(stop):
        yield requested


@contextmanager
def handling(stop: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have SIGTERM and SIGINT call a function meanwhile."""
    if threading.current_thread() is not threading.main_thread():
        # Python allows handlers in the main thread only, whose caller has its own.
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
