"""Processes: exit statuses of a training, and ending with the parent process."""

import ctypes
import os
import signal
import sys

# Exit statuses of a training: stopped by a signal, to be resumed later; failed by the machine, not
# by the code, so that a retry may succeed; and several runs that are better trained one by one.
INTERRUPTED = 75
MAY_PASS = 74
DECLINED = 73

# For the environment of a Python that is started in the user's folder: without it, analysis.py or
# json.py there would shadow a module that it imports.
SAFE_PATH = {"PYTHONSAFEPATH": "1"}


def adopt_orphans() -> None:
    """Ask Linux to make this process the parent of descendants whose parent dies."""
    if sys.platform.startswith("linux"):
        set_child_subreaper = 36
        ctypes.CDLL(None).prctl(set_child_subreaper, 1)


def die_with_parent(parent: int) -> None:
    """Ask Linux to end this process when the one that started it dies, even by SIGKILL."""
    if not sys.platform.startswith("linux"):
        return
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
    # The parent may have died before the call above took effect.
    if os.getppid() != parent:
        raise SystemExit("the process that started this one is gone")
