"""Records in order, while a thread writes a checkpoint."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from llama_core.checkpoints.store import Checkpoint, CheckpointStore
from llama_core.records import CheckpointRecord, Record


class Outbox:
    """Yields records in order, a checkpoint's record at the step whose state was copied.

    A thread writes the checkpoint. Until it is durable, later records are held back. Then its
    record is yielded first, and it is committed when the listener asks for the next one. So the
    listener has the record of every committed checkpoint, and every record before it.
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
        """Whether a checkpoint is being written."""
        return self._writing is not None

    def put(self, record: Record) -> Iterator[Record]:
        """Yield a record, or hold it back while a checkpoint is being written."""
        if self._writing is None:
            yield record
            return
        self._held.append(record)
        if self._writing.done():
            yield from self.flush()

    def begin(
        self, checkpoint: Checkpoint, *, tokens: int, horizon: int | None
    ) -> Iterator[Record]:
        """Start writing, after the previous checkpoint is done. Without a store, do nothing."""
        yield from self.flush()
        if self.store is None:
            return
        self._checkpoint, self._tokens, self._horizon = checkpoint, tokens, horizon
        self._writing = self._thread.submit(self.store.write, checkpoint)

    def flush(self) -> Iterator[Record]:
        """Wait for the checkpoint being written, then yield its record and those held back."""
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
        """End the thread. A checkpoint not committed by now is lost."""
        if self.store is not None:
            self.store.abandon()
        self._thread.shutdown(wait=True)
