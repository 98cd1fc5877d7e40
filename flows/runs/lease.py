"""A heartbeat beside a run's lock: which process trains it, and a count that rises while it does.

The lock holds on one machine and dies with its process. Another host cannot see it, so the holder
also writes a heartbeat into the run's folder. A waiting process checks whether the file changes,
by its own clock: clocks that differ between hosts, or one set back, do not matter.
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
from llama_core.files import replacing

log = logging.getLogger(__name__)

_BEAT_S = 5.0
# A holder that misses six beats is dead.
SILENT_S = 30.0


@contextmanager
def heartbeat(run: RunDir) -> Iterator[None]:
    """Write a heartbeat while this process holds the run."""
    over = threading.Event()
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "mark": secrets.token_hex(4)}

    def beat() -> None:
        count = 0
        while True:
            try:
                # A heartbeat is worthless after a power cut, so it need not be durable.
                with replacing(run.lease_path, durable=False) as file:
                    file.write(json.dumps({**holder, "beat": count}).encode())
            except OSError as error:
                log.debug("run %s: the heartbeat could not be written: %s", run.id, error)
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
    """Checks whether the process that holds a run is still alive."""

    def __init__(self, run: RunDir) -> None:
        # Move away a file that an earlier process left; a living one writes it again.
        with suppress(FileNotFoundError):
            run.lease_path.replace(run.left_lease_path)
        self._run = run
        self._seen: bytes | None = None
        self._since = 0.0

    def dead(self) -> bool:
        """Whether a process took the run and died without releasing it."""
        try:
            lease = self._run.lease_path.read_bytes()
        except FileNotFoundError:
            self._seen = None
            return False
        if lease != self._seen:
            self._seen, self._since = lease, time.monotonic()
        if _is_here(lease) and not self._run.busy():
            # Its lock is free. A holder removes the lease before it frees the lock, so look twice.
            return self._run.lease_path.exists() and not self._run.busy()
        return time.monotonic() - self._since > SILENT_S


def _is_here(lease: bytes) -> bool:
    try:
        return bool(json.loads(lease)["host"] == socket.gethostname())
    except (ValueError, KeyError, TypeError):
        return False
