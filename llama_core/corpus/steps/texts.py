"""Texts on disk: files of many documents, read in order or from any one on."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llama_core.config import Frozen
from llama_core.corpus.documents import CorpusError
from llama_core.files import replacing

_MAGIC = b"texts 1\n"
# A file this large survives a power cut, which takes two fsyncs; a smaller one is soon made again,
# and its mark at the head shows that it was lost.
_DURABLE_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Texts:
    """A file of documents: a mark, their number, where each ends, then their UTF-8."""

    path: Path

    def write(self, texts: Iterable[str]) -> int:
        """Replace the file, halves of surrogate pairs included; the bytes of its texts."""
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        sizes = np.fromiter(map(len, encoded), "<u8", len(encoded))
        ends = np.cumsum(sizes, dtype="<u8")
        head = _MAGIC + len(encoded).to_bytes(8, "little") + ends.tobytes()
        write_part(self.path, head, *encoded)
        return sum(map(len, encoded))

    def ends(self) -> NDArray[np.int64]:
        """Where each document ends, in bytes from the first one's start."""
        with self.path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise CorpusError(
                    f"{self.path} was cut short, perhaps by a power cut. Delete "
                    f"{self.path.parent} and prepare the corpus again."
                )
            count = int.from_bytes(file.read(8), "little")
            return np.frombuffer(file.read(8 * count), "<u8").astype(np.int64)

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[str]:
        """Documents by their place in the file."""
        ends = self.ends()
        bounds = [0, *ends.tolist()][start : None if stop is None else stop + 1]
        with self.path.open("rb") as file:
            file.seek(len(_MAGIC) + 8 + 8 * len(ends) + bounds[0])
            for begin, end in pairwise(bounds):
                yield file.read(end - begin).decode("utf-8", "surrogatepass")


class Segment(Frozen):
    """Some documents of a file, in order: from `start` to before `stop`."""

    file: str
    start: int
    stop: int

    def read(self, work: Path) -> Iterator[str]:
        """The documents."""
        return Texts(work / self.file).read(self.start, self.stop)


def write_part(path: Path, *content: bytes) -> None:
    """Write a file whole or not at all, durably where it took long to make."""
    with replacing(path, durable=sum(map(len, content)) >= _DURABLE_BYTES) as file:
        file.writelines(content)


def save_array(path: Path, values: NDArray[np.generic]) -> None:
    """Write an array for `np.load`, whole or not at all."""
    with replacing(path, durable=values.nbytes >= _DURABLE_BYTES) as file:
        np.save(file, values)
