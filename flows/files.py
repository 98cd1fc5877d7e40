"""Files of a home: replaced whole, appended by line, locked."""

import errno
import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from llama_core.files import replacing, write_durably

if TYPE_CHECKING:
    from pydantic import BaseModel

log = logging.getLogger(__name__)

_Record = TypeVar("_Record", bound="BaseModel")


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    write_durably(path, text.encode())


def read_lines(
    path: Path,
    start: int = 0,
    *,
    is_row: Callable[[Any], bool] = lambda row: True,
    stop_at_damage: bool = False,
) -> Iterator[tuple[Any, int]]:
    """Rows of an append-only file of JSON lines, each with the offset at which it ends.

    A last line without its line feed is still being written, or was torn by a kill: it is
    skipped. A damaged line before the end is reported in the log, and skipped too unless the
    reading is to stop there. A file that does not exist has no rows.

    Args:
        is_row: whether what a line holds is a row of this file; otherwise the line is damaged.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(start)
        end = start
        for line in file:
            end += len(line)
            if not line.endswith(b"\n"):
                return
            row = _parsed(line)
            if row is None or not is_row(row):
                log.warning("%s: the line that ends at byte %d is damaged", path, end)
                if stop_at_damage:
                    return
                continue
            yield row, end


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def has_fields(row: Any, *names: str) -> bool:
    """Whether a row is an object with these fields."""
    return isinstance(row, dict) and row.keys() >= set(names)


def existing(path: Path) -> Path:
    """The folder itself, or else the nearest one around it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def set_aside(path: Path) -> None:
    """Rename a file or a folder to NAME-set-aside-NUMBER."""
    path.rename(_aside(path))


def copy_aside(path: Path) -> Path:
    """Copy a file to NAME-set-aside-NUMBER, before what cannot be read of it is left out."""
    copy = _aside(path)
    with replacing(copy) as file:
        file.write(path.read_bytes())
    return copy


def _aside(path: Path) -> Path:
    return first_free(path.with_name(f"{path.stem}-set-aside-{n}{path.suffix}") for n in count())


def first_free(paths: Iterable[Path]) -> Path:
    """The first path at which nothing is: a name is not taken twice, whatever was removed."""
    return next(path for path in paths if not path.exists())


class LineWriter:
    """Appends JSON lines to a file that one process writes, unbuffered: a kill loses none of them.

    Args:
        end: where the last whole line ends; what follows was torn by a kill and is cut off.
    """

    def __init__(self, path: Path, end: int) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        os.ftruncate(self._file, end)

    def append(self, row: Any) -> None:
        """Write one row."""
        data = (json.dumps(row, separators=(",", ":")) + "\n").encode()
        while data:
            data = data[os.write(self._file, data) :]

    def sync(self) -> None:
        """Make the rows written so far durable."""
        os.fsync(self._file)

    def close(self) -> None:
        """Make durable and close."""
        self.sync()
        os.close(self._file)


def append_line(path: Path, row: Any) -> None:
    """Append one row durably."""
    writer = LineWriter(path, max((end for _, end in read_lines(path)), default=0))
    try:
        writer.append(row)
    finally:
        writer.close()


def no_room(error: BaseException) -> bool:
    """Whether a disk or a quota is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def now() -> float:
    """Unix time in seconds."""
    return time.time()


@contextmanager
def file_lock(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock file once no other process does; the kernel frees it when the process dies.

    Args:
        on_wait: called where another process holds it.
    """
    with path.open("w") as handle:
        if not try_lock(handle):
            on_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def try_lock(handle: IO[str], *, shared: bool = False) -> bool:
    """Take a lock that ends with the handle; False at once if another process holds it."""
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_record(path: Path, kind: type[_Record]) -> _Record | None:
    """The record in a file; None where there is none, or a damaged one or another version's."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def read_or_warn(path: Path, kind: type[_Record], otherwise: str) -> _Record | None:
    """`read_record` with a line in the log that says what happens where the file is damaged.

    Raises:
        OSError: the file is there and cannot be read.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        log.warning("%s is damaged or of another version: %s", path, otherwise)
        return None


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no file, or no object in it."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
