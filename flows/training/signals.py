"""SIGTERM and SIGINT as a request to stop after the current step."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SAME_REQUEST_S = 3.0


class Interrupted(BaseException):
    """The process was asked to stop; called again, the run goes on from its last checkpoint."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGTERM and SIGINT into `Interrupted`."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupted(signal.Signals(number).name)

    with _handling(stop):
        yield


@contextmanager
def stop_asked() -> Iterator[threading.Event]:
    """An event that SIGTERM or SIGINT sets; one much later does not wait for the step to end."""
    asked, asked_at = threading.Event(), 0.0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked_at
        if not asked.is_set():
            asked_at = time.monotonic()
        # Whoever ends a whole service signals this process and the one that started it, too.
        elif time.monotonic() - asked_at > _SAME_REQUEST_S:
            raise Interrupted(f"{signal.Signals(number).name} twice")
        asked.set()

    with _handling(stop):
        yield asked


@contextmanager
def _handling(stop: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        # Python allows handlers in the main thread only; the caller there has its own.
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
