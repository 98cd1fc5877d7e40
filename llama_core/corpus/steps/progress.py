"""Progress of a step: megabytes a second and the time left."""

import math
import time
from collections.abc import Callable

Progress = Callable[[str], None]
_EVERY_S = 0.5
_LEAST_S = 2.0


class Meter:
    """Reports how far a step is, at most twice a second.

    Args:
        doing: the step, as in "encoding books".
        total: bytes of text to handle; 0 where nobody knows.
    """

    def __init__(self, report: Progress, doing: str, total: int = 0) -> None:
        self._report, self._doing, self.total = report, doing, total
        self._made = self._skipped = 0
        self._began = self._reported = time.monotonic()
        report(doing)

    def skip(self, size: int) -> None:
        """Count bytes that were handled before."""
        self._skipped += size

    def add(self, size: int) -> None:
        """Count bytes that were handled now; several threads may."""
        self._made += size
        now = time.monotonic()
        if not size or now - self._reported < _EVERY_S or now - self._began < _LEAST_S:
            return
        self._reported = now
        self._report(f"{self._doing}: {self._state(now - self._began)}")

    def _state(self, seconds: float) -> str:
        done, rate = self._made + self._skipped, self._made / seconds
        speed = f"{rate / 1e6:.1f} MB/s"
        if not self.total:
            return f"{done / 1e6:,.0f} MB, {speed}"
        left = max(0, self.total - done) / max(rate, 1.0)
        return f"{min(1.0, done / self.total):.0%}, {speed}, {_duration(left)} left"


def share_report(report: Progress, doing: str) -> Callable[[float], None]:
    """A function that reports the share of a step that is done, at most twice a second."""
    reported = -math.inf

    def share(done: float) -> None:
        nonlocal reported
        now = time.monotonic()
        if now - reported >= _EVERY_S:
            reported = now
            report(f"{doing}: {done:.0%}")

    return share


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6_000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
