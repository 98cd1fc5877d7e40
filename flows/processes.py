"""Processes of ours: exit statuses of a training, and dying with the parent."""

import ctypes
import os
import signal
import sys

# Exit status of a training that was asked to stop and can go on later, and of one that the
# machine failed, not the code.
INTERRUPTED = 75
MAY_PASS = 74


def die_with_parent(parent: int) -> None:
    """Ask Linux to end this process when the one that started it dies, even by SIGKILL."""
    if not sys.platform.startswith("linux"):
        return
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
    # The parent may have died before the call above took effect.
    if os.getppid() != parent:
        raise SystemExit("the process that started this training is gone")
