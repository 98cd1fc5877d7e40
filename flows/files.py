"""Files of a home: replaced whole, appended by line, locked."""

import fcntl
import json
import os
import time
from pathlib import Path
from typing import IO, Any


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    with draft.open("w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def now() -> float:
    """Unix time in seconds."""
    return time.time()


def flock(handle: IO[str], kind: int) -> bool:
    """Take a lock that ends with the handle, or say at once that somebody has it."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def whole_line(line: bytes) -> Any:
    """What a line of an append-only file holds; None when it is torn, as a kill leaves the last."""
    if not line.endswith(b"\n"):
        return None
    try:
        return json.loads(line)
    except ValueError:
        return None
