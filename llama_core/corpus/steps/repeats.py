"""Find which documents and paragraphs occurred earlier in the corpus, with their keys on disk."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llama_core.corpus.steps.clean import keys_file, order_file
from llama_core.corpus.steps.tasks import Task, Written
from llama_core.corpus.steps.texts import save_array

STARTS, OFFSETS = "starts.npy", "offsets.npy"


class FindRepeats(Task[Written]):
    """Mark the keys of one bucket, of all parts in order, that occurred before."""

    kind: Literal["repeats"] = "repeats"
    bucket: int

    @property
    def name(self) -> str:
        return f"repeats-{self.bucket:05d}"

    def run(self) -> Written:
        starts = np.load(self.work / STARTS, mmap_mode="r")
        slices = [
            # Copied: a map holds its file open, and there are more parts than open files.
            np.array(np.load(self.work / keys_file(part), mmap_mode="r")[begin:end])
            for part, (begin, end) in enumerate(starts[:, self.bucket : self.bucket + 2])
        ]
        save_array(self.work / f"{self.name}.npy", occurred_before(np.concatenate(slices)))
        return Written()


def occurred_before(keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """For each row of a table, whether an earlier row is the same."""
    order = np.lexsort(keys.T)  # stable: of equal rows the first stays first
    ordered = keys[order]
    marks = np.zeros(len(keys), bool)
    marks[order[1:]] = (ordered[1:] == ordered[:-1]).all(axis=1)
    return marks


def save_starts(work: Path, starts: NDArray[np.int64]) -> None:
    """Write where each part's keys of each bucket begin, in its own file and in the bucket."""
    save_array(work / STARTS, starts)
    sizes = np.diff(starts, axis=1)
    save_array(work / OFFSETS, np.cumsum([np.zeros_like(sizes[0]), *sizes], axis=0))


def repeats_of(work: Path, part: int) -> list[bool]:
    """The marks of a part's keys, in their order."""
    begins, ends = np.load(work / OFFSETS, mmap_mode="r")[part : part + 2]
    marks = np.concatenate(
        [
            np.array(np.load(work / f"repeats-{bucket:05d}.npy", mmap_mode="r")[begin:end])
            for bucket, (begin, end) in enumerate(zip(begins, ends, strict=True))
        ]
    )
    in_order = np.empty(len(marks), bool)
    in_order[np.load(work / order_file(part))] = marks
    repeated: list[bool] = in_order.tolist()
    return repeated
