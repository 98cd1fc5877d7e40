"""A run's folder in a store: its index, and files in pieces."""

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import StringConstraints, ValidationError

from analysis.words import counted
from flows.store.contract import Store, StoreContentError
from llama_core.config import Frozen

log = logging.getLogger(__name__)

# Large files travel in pieces, so that a broken connection costs one piece.
_PART_BYTES = 64 * 2**20
# Indexes kept in the store for a folder: the newest, and one to fall back on.
_KEEP = 2
_INDEX = re.compile(r"index-(\d{6})\.json")


class Index(Frozen):
    """The content of a folder when it was pushed.

    Attributes:
        settled: whether training again would change nothing.
        checkpoint: name of the newest checkpoint, which sorts by age; empty without one.
        files: the SHA-256 of the parts of every file, in order.
    """

    version: Literal[1] = 1
    settled: bool = False
    checkpoint: str = ""
    files: dict[str, tuple[Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")], ...]]

    @property
    def progress(self) -> tuple[bool, str]:
        """Progress of the run; a larger value is further along."""
        return self.settled, self.checkpoint

    @property
    def parts(self) -> set[str]:
        """All parts of all files."""
        return {part for parts in self.files.values() for part in parts}


class Folder:
    """One folder in a store."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name

    def indexes(self) -> list[tuple[int, Index]]:
        """Indexes that can be read, with their numbers, newest first."""
        indexes = []
        for number in sorted(self._numbers(), reverse=True):
            try:
                content = self._store.get(self._index(number))
                indexes.append((number, Index.model_validate_json(content)))
            except ValidationError:
                log.warning("index %d of %s is torn: skipped", number, self._name)
        return indexes

    def push(self, files: Mapping[str, Path], *, settled: bool, checkpoint: str) -> None:
        """Push the parts that the store lacks, then an index of all."""
        kept = self.indexes()
        # A part that no index names may be torn, so it is pushed again.
        stored = {part for _, index in kept for part in index.parts}
        parts_of: dict[str, tuple[str, ...]] = {}
        for name, path in files.items():
            parts = []
            for content in _pieces(path):
                part = hashlib.sha256(content).hexdigest()
                if part not in stored:
                    self._store.put(f"{self._name}/parts/{part}", content)
                    stored.add(part)
                parts.append(part)
            parts_of[name] = tuple(parts)
        index = Index(settled=settled, checkpoint=checkpoint, files=parts_of)
        if kept and kept[0][1] == index:
            return
        # A torn index keeps its number.
        number = max(self._numbers(), default=0) + 1
        self._store.put(self._index(number), index.model_dump_json(indent=1).encode())
        self._prune([(number, index), *kept])

    def read(self, parts: tuple[str, ...]) -> bytes:
        """The content of a small file.

        Raises:
            StoreContentError: a part is missing or damaged.
        """
        self._require(set(parts))
        return b"".join(self._part(part) for part in parts)

    def fetch(self, index: Index, target: Path) -> None:
        """Write the files of an index into a folder, each part verified.

        Raises:
            StoreContentError: a part is missing or damaged.
        """
        self._require(index.parts)
        for name, parts in index.files.items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                for part in parts:
                    file.write(self._part(part))
                file.flush()
                os.fsync(file.fileno())

    def _require(self, parts: set[str]) -> None:
        missing = parts - set(self._store.names(f"{self._name}/parts"))
        if missing:
            raise StoreContentError(
                f"{self._name}: not in the store: {counted(len(missing), 'part')}"
            )

    def _part(self, part: str) -> bytes:
        content = self._store.get(f"{self._name}/parts/{part}")
        if hashlib.sha256(content).hexdigest() != part:
            raise StoreContentError(f"{self._name}: part {part[:12]}… in the store is damaged")
        return content

    def _prune(self, indexes: list[tuple[int, Index]]) -> None:
        """Remove older indexes, then the parts that only they named."""
        # The farthest index stays, even if a host that was behind pushed after it.
        best = max(indexes, key=lambda numbered: (numbered[1].progress, numbered[0]))
        kept = [*indexes[:_KEEP], best]
        needed = {part for _, index in kept for part in index.parts}
        for number, index in indexes[_KEEP:]:
            if number == best[0]:
                continue
            self._store.remove(self._index(number))
            for part in index.parts - needed:
                self._store.remove(f"{self._name}/parts/{part}")
                needed.add(part)

    def _numbers(self) -> list[int]:
        names = (_INDEX.fullmatch(name) for name in self._store.names(self._name))
        return [int(name[1]) for name in names if name]

    def _index(self, number: int) -> str:
        return f"{self._name}/index-{number:06d}.json"


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while content := file.read(_PART_BYTES):
            yield content
