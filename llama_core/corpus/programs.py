"""Modules of this package as programs of their own."""

import os
import sys
from pathlib import Path


def program(module: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a process that runs a module and imports what this one does."""
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    # -P: a file json.py in the user's folder is not Python's.
    command = [sys.executable, "-P", "-W", "ignore", "-m", module]
    return command, os.environ | {"PYTHONPATH": paths}
