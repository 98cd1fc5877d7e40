"""A sign of life beside a run's lock: who trains it, and a count that rises while it does.

The lock holds on one machine and dies with its process. Another host cannot see it, so the holder
also writes its heartbeat into the run's folder. Whoever waits looks whether the file changes, by
a clock of its own: two hosts' clocks, or one set back, do not matter.
"""

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flows.runs.directory import RunDir

log = logging.getLogger(__name__)

_BEAT_S = 5.0
# A holder silent for six beats is dead.
SILENT_S = 30.0


@contextmanager
def beating(run: RunDir) -> Iterator[None]:
    """Give a sign of life while this process holds the run."""
    over = threading.Event()
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "mark": secrets.token_hex(4)}

    def beat() -> None:
        count = 0
        while True:
            try:
                # Nobody needs it after a power cut, so it is not made durable.
                draft = run.lease_path.with_suffix(".part")
                draft.write_text(json.dumps({**holder, "beat": count}))
                draft.replace(run.lease_path)
            except OSError as error:
                log.debug("run %s: no sign of life could be written: %s", run.id, error)
            count += 1
            if over.wait(_BEAT_S):
                return

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with suppress(OSError):
            run.lease_path.unlink(missing_ok=True)


class LeaseWatch:
    """Looks whether the process that took a run is still alive."""

    def __init__(self, run: RunDir) -> None:
        # What an earlier process left behind says nothing; a living one writes it again.
        run.lease_path.unlink(missing_ok=True)
        self._run = run
        self._seen: bytes | None = None
        self._since = 0.0

    def dead(self) -> bool:
        """Whether somebody took the run and is gone without letting go of it."""
        try:
            found = self._run.lease_path.read_bytes()
        except FileNotFoundError:
            self._seen = None
            return False
        if found != self._seen:
            self._seen, self._since = found, time.monotonic()
        if _is_here(found) and not self._run.busy():
            # Its lock fell; it lets go of the lock after the lease, so look twice.
            return self._run.lease_path.exists() and not self._run.busy()
        return time.monotonic() - self._since > SILENT_S


def _is_here(lease: bytes) -> bool:
    try:
        return bool(json.loads(lease)["host"] == socket.gethostname())
    except (ValueError, KeyError, TypeError):
        return False
