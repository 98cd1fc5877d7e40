"""Modules of this package as programs of their own."""

import os
import sys
from pathlib import Path


def program(module: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a process that runs a module and imports what this one does."""
    # First is the folder of the user's script, or the working folder: a file json.py there must not
    # be taken for Python's, so it comes last, and -P adds no other.
    ordered = sys.path if sys.flags.safe_path else [*sys.path[1:], *sys.path[:1]]
    paths = os.pathsep.join(path or str(Path.cwd()) for path in ordered)
    command = [sys.executable, "-P", "-W", "ignore", "-m", module]
    return command, os.environ | {"PYTHONPATH": paths}
