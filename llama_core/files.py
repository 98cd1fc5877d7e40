"""Files replaced whole: written beside, made durable, renamed."""

import os
import re
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

# Drafts and scratch folders are called `.NAME.PID@HOST.part`, by the process that writes them.
DRAFTS = ".*.part"


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` when the block ends; an exception leaves `path` alone.

    Args:
        durable: whether it survives a power cut, which takes two fsyncs.
    """
    # Two containers on one home may share process number and host name, so a mark is added.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.{_writer()}.part")
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def write_durably(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder that is removed when the block ends."""
    with tempfile.TemporaryDirectory(f".{_writer()}.part", ".scratch-", parent) as folder:
        yield Path(folder)


def writer_of(draft: str) -> tuple[int, str] | None:
    """Process number and host of the writer of a draft; None where its name has no writer."""
    named = re.search(r"^\..+\.(\d+)@(.+)\.part$", draft)
    return None if named is None else (int(named[1]), named[2])


def _writer() -> str:
    return f"{os.getpid()}@{socket.gethostname()}"


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
