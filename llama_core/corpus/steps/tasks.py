"""Tasks of a preparation, run in worker processes; each result is kept on disk, so it runs once."""

import json
import os
import queue
import subprocess
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Generic, Self, TypeVar, get_type_hints

from pydantic import BaseModel, ValidationError

from llama_core.config import Frozen
from llama_core.corpus.documents import CorpusError
from llama_core.corpus.steps.progress import Meter
from llama_core.corpus.steps.texts import write_part

R = TypeVar("R", bound=BaseModel)
# Tasks handed out ahead of the first whose result is still missing, for each process.
_AHEAD = 3
# A worker waits this long for its last task to be abandoned.
_END_S = 10.0


class WorkerLostError(CorpusError):
    """A worker process ended before its task; what was prepared is kept."""


class Written(Frozen):
    """The result of a task that only writes files: they are there."""


class Task(Frozen, ABC, Generic[R]):
    """A step on one part of the text. It reads and writes files in the folder `work`.

    Attributes:
        size: bytes of text that it handles, for progress.
    """

    work: Path
    size: int = 0

    @property
    @abstractmethod
    def name(self) -> str:
        """What names its result's file; no other task of the preparation has it."""

    @abstractmethod
    def run(self) -> R:
        """Do the step; everything it writes is whole before it returns."""

    def done(self) -> R | None:
        """The result of this task where it has run, perhaps in an earlier process."""
        result: type[R] = get_type_hints(self.run)["return"]
        try:
            return result.model_validate_json(self._file.read_bytes())
        except (OSError, ValidationError):
            return None

    def perform(self) -> R:
        """Run the task and keep its result."""
        made = self.run()
        write_part(self._file, made.model_dump_json().encode())
        self.discard()
        return made

    def discard(self) -> None:
        """Delete what nothing needs any more now that the result is kept."""

    @property
    def _file(self) -> Path:
        return self.work / f"{self.name}.json"


class Workers:
    """Runs tasks, in as many processes as asked for; with one, in this process.

    Each process is a program of its own that reads tasks from a pipe. It ends when the pipe does,
    even within a task, so it never outlives a parent that is killed. Not multiprocessing: `spawn`
    and `forkserver` import the caller's main script again, and `fork` is unsafe once torch has
    started threads.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        self._started: list[subprocess.Popen[bytes]] = []
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._started:
            # Its results are whole or absent, so it may end anywhere.
            process.kill()
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        for process in self._started:
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)

    def map(self, tasks: Iterable[Task[R]], meter: Meter) -> Iterator[R]:
        """Results in the order of the tasks; those that have run before are not run again.

        Raises:
            CorpusError: a task refuses the text, or a process was killed.
        """
        pending: deque[Future[R]] = deque()
        for task in tasks:
            pending.append(self.start(task, meter))
            while pending and (len(pending) > _AHEAD * self.processes or pending[0].done()):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def start(self, task: Task[R], meter: Meter) -> Future[R]:
        """Have a task done, unless it has run before; its future result."""
        kept: Future[R] = Future()
        if (found := task.done()) is not None:
            meter.skip(task.size)
            kept.set_result(found)
            return kept
        if self.processes == 1:
            kept.set_result(task.perform())
            meter.add(task.size)
            return kept
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.processes)
        return self._threads.submit(self._in_process, task, meter)

    def _in_process(self, task: Task[R], meter: Meter) -> R:
        try:
            process = self._idle.get_nowait()
        except queue.Empty:
            process = self._new()
        assert process.stdin is not None
        assert process.stdout is not None
        answer = b""
        with suppress(OSError, ValueError):
            process.stdin.write(task.model_dump_json().encode() + b"\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        if not answer.endswith(b"\n"):
            raise WorkerLostError(
                f"a worker process ended at {task.name} (exit status {process.wait()}); the "
                "kernel may have killed it for memory. What was prepared is kept: the same "
                "command goes on from there."
            )
        self._idle.put(process)
        reply = json.loads(answer)
        if "refused" in reply:
            raise CorpusError(reply["refused"])
        if "errno" in reply:
            # As in this process: a full disk or a file that may not be read has its own message.
            raise OSError(*reply["errno"])
        if "failed" in reply:
            raise RuntimeError(f"{task.name} failed in a worker process:\n{reply['failed']}")
        made = task.done()
        assert made is not None
        meter.add(task.size)
        return made

    def _new(self) -> subprocess.Popen[bytes]:
        # First is the folder of the user's script, or the working folder: a file json.py there must
        # not be taken for Python's, so it comes last, and -P adds no other.
        ordered = sys.path if sys.flags.safe_path else [*sys.path[1:], *sys.path[:1]]
        paths = os.pathsep.join(path or str(Path.cwd()) for path in ordered)
        process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-m", "llama_core.corpus.steps.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # One thread each: the processes already fill the cores.
            env=os.environ
            | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            # A terminal sends Ctrl-C to its own group alone: to the parent, which ends the others.
            process_group=0,
        )
        self._started.append(process)
        return process
