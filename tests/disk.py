"""What a power cut would leave, the order in which files are made durable and renamed; a disk
that takes no more."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Limit the files that this process writes to a size: a write fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class DiskOrder:
    """Notes every fsync and rename, by inode: names change, and a copy of one does not count."""

    def __init__(self, monkeypatch) -> None:
        self._synced: list[tuple[int, int, int]] = []
        self._renamed: list[tuple[int, int, Path]] = []
        self._clock = 0
        for name in ("fsync", "fdatasync"):
            if hasattr(os, name):
                monkeypatch.setattr(os, name, self._syncing(getattr(os, name)))
        for name in ("rename", "replace"):
            monkeypatch.setattr(Path, name, self._renaming(getattr(Path, name)))

    def durable_from_its_renaming_on(self, path: Path) -> bool:
        """Whether all of a file was synced before it got its name, and its folder after that."""
        inode = path.stat().st_ino
        named = [when for when, moved, target in self._renamed if moved == inode and target == path]
        return self.name_durable(path) and any(
            synced == inode and when < named[-1] and size == path.stat().st_size
            for when, synced, size in self._synced
        )

    def name_durable(self, path: Path) -> bool:
        """Whether a file or folder was renamed to this path, and the folder around it synced."""
        inode, folder = path.stat().st_ino, path.parent.stat().st_ino
        named = [when for when, moved, target in self._renamed if moved == inode and target == path]
        return bool(named) and any(
            synced == folder and when > named[-1] for when, synced, _ in self._synced
        )

    def durable_before(self, path: Path, renamed: Path) -> bool:
        """Whether all of a file was synced before the folder it lies in got its name."""
        now, folder = path.stat(), renamed.stat().st_ino
        named = [when for when, moved, _ in self._renamed if moved == folder]
        return bool(named) and any(
            synced == now.st_ino and size == now.st_size and when < named[-1]
            for when, synced, size in self._synced
        )

    def durable(self, path: Path) -> bool:
        """Whether all that a file holds now was synced."""
        now = path.stat()
        return any(synced == now.st_ino and size == now.st_size for _, synced, size in self._synced)

    def _syncing(self, real):
        def sync(handle):
            real(handle)
            found = os.fstat(handle)
            self._synced.append((self._tick(), found.st_ino, found.st_size))

        return sync

    def _renaming(self, real):
        def rename(path, target):
            inode = path.stat().st_ino
            moved = real(path, target)
            self._renamed.append((self._tick(), inode, Path(target)))
            return moved

        return rename

    def _tick(self) -> int:
        self._clock += 1
        return self._clock
