"""Clean parts of a source: normalise their documents and note what may repeat in them."""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from llama_core.config import Frozen
from llama_core.corpus.cleaning import BYTE_ORDER_MARK, KEY_BYTES, Parts, normalise, well_formed
from llama_core.corpus.folding import SEPARATOR
from llama_core.corpus.left_out import LeftOut
from llama_core.corpus.steps.near_duplicates import signature_of
from llama_core.corpus.steps.tasks import Task, Written
from llama_core.corpus.steps.texts import Texts, save_array


class Sign(Task[Written]):
    """Compute the signatures by which near duplicates are found."""

    kind: Literal["sign"] = "sign"
    part: int

    @property
    def name(self) -> str:
        return f"signatures-{self.part:06d}"

    def run(self) -> Written:
        texts = Texts(self.work / raw_file(self.part)).read()
        signatures = [signature_of(well_formed(text)) for text in texts]
        save_array(self.work / f"{self.name}.npy", np.array(signatures, np.uint32))
        return Written()


class Cleaned(Frozen):
    """A cleaned part.

    Attributes:
        bytes: of its clean text.
        starts: where the keys of each bucket begin in its file of keys, and where the last ends.
    """

    counts: LeftOut
    bytes: int
    starts: tuple[int, ...]


class Clean(Task[Cleaned]):
    """Normalise a part; write its texts, and the keys of their paragraphs by bucket.

    Attributes:
        folding: whether folding to ASCII is counted.
        skipped: documents that are near duplicates of earlier ones, by their place.
    """

    kind: Literal["clean"] = "clean"
    part: int
    source: str
    ascii_only: bool
    folding: bool
    buckets: int
    skipped: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return f"clean-{self.part:06d}"

    def run(self) -> Cleaned:
        counts, keys = LeftOut(source=self.source), bytearray()
        texts: list[str] = []
        for text in self._documents(counts):
            keys += Parts.of(text).keys()
            texts.append(text)
        size = Texts(self.work / clean_file(self.part)).write(texts)
        hashes = np.frombuffer(keys, "<u8").reshape(-1, KEY_BYTES // 8)
        bucket = hashes[:, 0] % np.uint64(self.buckets)
        order = np.argsort(bucket, kind="stable")
        starts = np.searchsorted(bucket[order], np.arange(self.buckets + 1, dtype=np.uint64))
        save_array(self.work / keys_file(self.part), hashes[order])
        save_array(self.work / order_file(self.part), order.astype(np.uint32))
        return Cleaned(counts=counts, bytes=size, starts=tuple(starts.tolist()))

    def discard(self) -> None:
        (self.work / raw_file(self.part)).unlink(missing_ok=True)

    def _documents(self, counts: LeftOut) -> Iterator[str]:
        """Normalised texts of the part, counted."""
        skipped = set(self.skipped)
        for place, read in enumerate(Texts(self.work / raw_file(self.part)).read()):
            text = well_formed(read)
            counts.documents += 1
            counts.bytes += len(text.encode())
            counts.characters += len(text)
            counts.later_rule |= BYTE_ORDER_MARK in read
            if self.folding:
                counts.later_rule |= SEPARATOR in text
                counts.count_folding(text)
            if place in skipped:
                counts.near_duplicates += 1
                continue
            text = normalise(text, ascii_only=self.ascii_only)
            if text:
                yield text
            else:
                counts.empty += 1


def raw_file(part: int) -> str:
    """A part's documents as they were read."""
    return f"raw-{part:06d}.texts"


def clean_file(part: int) -> str:
    """A part's documents, normalised."""
    return f"clean-{part:06d}.texts"


def keys_file(part: int) -> str:
    """The keys of a part's documents and paragraphs, by bucket."""
    return f"keys-{part:06d}.npy"


def order_file(part: int) -> str:
    """The place of each key of that file in the part."""
    return f"order-{part:06d}.npy"
