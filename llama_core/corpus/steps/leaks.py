"""Find validation text that occurs in training; hashes of passages are compared, on disk."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llama_core.config import Frozen
from llama_core.corpus.cleaning import is_leaked, passages, places
from llama_core.corpus.steps.tasks import Task, Written
from llama_core.corpus.steps.texts import Segment, Texts, save_array
from llama_core.files import replacing

# Hashes of validation passages that are sorted at once.
_RANGE_HASHES = 8_000_000


class FindLeaks(Task[Written]):
    """Find the passages of some training text among those of validation, for every source."""

    kind: Literal["find_leaks"] = "find_leaks"
    number: int
    segment: Segment
    sources: int

    @property
    def name(self) -> str:
        return f"leaks-{self.number:06d}"

    def run(self) -> Written:
        held_out = [_held_out(self.work, source) for source in range(self.sources)]
        hits: list[list[NDArray[np.int64]]] = [[] for _ in held_out]
        for text in self.segment.read(self.work):
            hashes = passages(text)
            for places_hit, among in zip(hits, held_out, strict=True):
                places_hit.append(places(hashes, among))
        for source, places_hit in enumerate(hits):
            unique = np.unique(np.concatenate([np.empty(0, np.int64), *places_hit]))
            save_array(self.work / hits_file(self.number, source), unique)
        return Written()


class Dropped(Frozen):
    """How many documents of some validation text are left, and how many leaked."""

    documents: int
    leaked: int


class DropLeaks(Task[Dropped]):
    """Drop validation documents that are near duplicates of training text."""

    kind: Literal["drop_leaks"] = "drop_leaks"
    number: int
    segment: Segment
    source: int

    @property
    def name(self) -> str:
        return f"kept-{self.number:06d}"

    def run(self) -> Dropped:
        held_out = _held_out(self.work, self.source)
        leaked = np.load(self.work / leaked_file(self.source), mmap_mode="r")
        texts = list(self.segment.read(self.work))
        kept = [text for text in texts if not is_leaked(text, held_out, leaked)]
        Texts(self.work / f"{self.name}.texts").write(kept)
        return Dropped(documents=len(kept), leaked=len(texts) - len(kept))


class SampleHeldOut(Task[Written]):
    """Hash the passages of some validation text."""

    kind: Literal["sample"] = "sample"
    number: int
    segment: Segment

    @property
    def name(self) -> str:
        return f"passages-{self.number:06d}"

    def run(self) -> Written:
        hashes = [passages(text) for text in self.segment.read(self.work)]
        unique = np.unique(np.concatenate([np.empty(0, np.uint64), *hashes]))
        save_array(self.work / f"{self.name}.npy", unique)
        return Written()


def merge_held_out(work: Path, source: int, numbers: Sequence[int]) -> None:
    """Write the sorted hashes of a source's validation passages, in ranges that fit in memory."""
    samples = [work / f"passages-{number:06d}.npy" for number in numbers]
    ranges = 1 + sum(len(np.load(each, mmap_mode="r")) for each in samples) // _RANGE_HASHES
    bounds = [2**64 * turn // ranges for turn in range(ranges + 1)]
    with replacing(work / held_out_file(source), durable=False) as file:
        for low, high in pairwise(bounds):
            parts = [_between(sample, low, high) for sample in samples]
            file.write(np.unique(np.concatenate([np.empty(0, np.uint64), *parts])).tobytes())


def _between(sample: Path, low: int, high: int) -> NDArray[np.uint64]:
    hashes = np.load(sample, mmap_mode="r")
    begin = np.searchsorted(hashes, np.uint64(low))
    end = np.searchsorted(hashes, np.uint64(high - 1), side="right")
    # Copied: a map holds its file open, and there are more samples than open files.
    return np.array(hashes[begin:end])


def merge_leaks(work: Path, source: int, numbers: Sequence[int]) -> None:
    """Write which of a source's validation passages occur in training."""
    passages_held_out = len(_held_out(work, source))
    save_array(work / leaked_file(source), np.zeros(0, bool))
    if passages_held_out:
        leaked = np.lib.format.open_memmap(
            work / leaked_file(source), "w+", np.dtype(bool), (passages_held_out,)
        )
        for number in numbers:
            leaked[np.load(work / hits_file(number, source))] = True
        leaked.flush()


def _held_out(work: Path, source: int) -> NDArray[np.uint64]:
    path = work / held_out_file(source)
    # An empty file cannot be mapped.
    return np.memmap(path, "<u8", "r") if path.stat().st_size else np.empty(0, np.uint64)


def held_out_file(source: int) -> str:
    """The hashes of a source's validation passages, sorted, each once."""
    return f"held-out-{source:03d}.u8"


def hits_file(number: int, source: int) -> str:
    """Which of a source's validation passages some training text has."""
    return f"hits-{number:06d}-{source:03d}.npy"


def leaked_file(source: int) -> str:
    """For each of a source's validation passages, whether training has it."""
    return f"leaked-{source:03d}.npy"
