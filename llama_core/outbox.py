"""Records on their way out while a checkpoint is being written behind them."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from llama_core.checkpoint import Checkpoint, CheckpointStore
from llama_core.records import CheckpointRecord, Record


class Outbox:
    """Hands records on in order, each checkpoint's record where its copy of the state was taken.

    A checkpoint is written by a thread. Until it is durable the records that come after it are
    held back; then its own goes first, and it is committed when the listener, having dealt with
    that, asks for more. So a checkpoint that counts always has its record, and everything
    before it, in the listener's hands.
    """

    def __init__(self, store: CheckpointStore | None) -> None:
        self.store = store
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[Path] | None = None
        self._checkpoint: Checkpoint | None = None
        self._tokens = 0
        self._horizon: int | None = None
        self._held: list[Record] = []

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is on its way to disk."""
        return self._writing is not None

    def put(self, record: Record) -> Iterator[Record]:
        """Hand on a record, or hold it while a checkpoint is being written."""
        if self._writing is None:
            yield record
            return
        self._held.append(record)
        if self._writing.done():
            yield from self.flush()

    def begin(
        self, checkpoint: Checkpoint, *, tokens: int, horizon: int | None
    ) -> Iterator[Record]:
        """Start writing; waits for the one before it. Nothing happens without a store."""
        yield from self.flush()
        if self.store is None:
            return
        self._checkpoint, self._tokens, self._horizon = checkpoint, tokens, horizon
        self._writing = self._thread.submit(self.store.write, checkpoint)

    def flush(self) -> Iterator[Record]:
        """Wait for a checkpoint being written, then hand on its record and those held."""
        if self._writing is None or self._checkpoint is None or self.store is None:
            return
        path = self._writing.result()
        self._writing = None
        yield CheckpointRecord(
            step=self._checkpoint.place.step,
            tokens=self._tokens,
            horizon=self._horizon,
            path=str(path),
            at=time.time(),
        )
        self.store.commit(self._checkpoint.name)
        held, self._held = self._held, []
        yield from held

    def close(self) -> None:
        """End the thread. What is not committed by now never counts."""
        if self.store is not None:
            self.store.abandon()
        self._thread.shutdown(wait=True)
