"""Trainings as child processes of this one."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed

from flows.dispatch.contract import (
    GRACE_S,
    Admit,
    Tries,
    admitted,
    always,
    give_up,
    longest_first,
    make_ready,
)
from flows.processes import INTERRUPTED, MAY_PASS
from flows.runs.directory import RunDir, RunResult
from flows.settings import Home
from flows.training.warm import WarmSlot
from llama_core.config import Placement
from sweeps.spec import PlannedRun

log = logging.getLogger(__name__)

_POLL_CHILDREN_S = 0.2


class ChildProcesses:
    """Trains each run in a child process, one in each slot at a time. Needs a flow around it.

    A context; leaving it stops every child process.

    Args:
        slots: for each slot, the environment that pins a training to its CPU or GPU.
    """

    def __init__(self, home: Home, placement: Placement, slots: Sequence[dict[str, str]]) -> None:
        self._home = home
        self._placement = placement
        self._slots = [WarmSlot(home.root, slot) for slot in slots]
        self._free: SimpleQueue[WarmSlot] = SimpleQueue()
        for slot in self._slots:
            self._free.put(slot)
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def train_all(
        self,
        runs: Sequence[PlannedRun],
        *,
        on_finished: Callable[[PlannedRun, RunResult], None],
        on_tick: Callable[[], None],
        admit: Admit = always,
    ) -> None:
        """Train the runs. An exception or Ctrl-C stops the children first."""

        # As a task, each training appears on the sweep's timeline in Prefect.
        @task(name="train", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
        def train(name: str, run_id: str) -> State[Any]:
            slot = self._free.get()
            try:
                result = self._train(RunDir(self._home.runs / run_id), slot)
            finally:
                self._free.put(slot)
            if result is None:
                return Failed(message=f"{name} was stopped; it resumes when started again")
            if result.status == "finished":
                return Completed(message=f"{name} finished in {result.train_s:.0f} s")
            return Failed(message=f"{name} {result.status}: {result.reason}")

        waiting, in_flight = longest_first(runs), dict[PrefectFuture[Any], PlannedRun]()
        try:
            while True:
                for planned in admitted(waiting, admit, len(self._slots) - len(in_flight)):
                    make_ready(RunDir(self._home.runs / planned.id), planned, self._placement)
                    in_flight[train.submit(planned.name, planned.id)] = planned
                if not in_flight:
                    return
                while not (ended := [future for future in in_flight if future.state.is_final()]):
                    on_tick()
                    time.sleep(_POLL_CHILDREN_S)
                for future in ended:
                    planned = in_flight.pop(future)
                    result = RunDir(self._home.runs / planned.id).result()
                    assert result is not None, f"run {planned.id} ended without a result"
                    on_finished(planned, result)
                on_tick()
        except BaseException:
            self._stop()
            raise

    def _train(self, run: RunDir, slot: WarmSlot) -> RunResult | None:
        tries = Tries(run)
        log_path = run.path / "output.log"
        while not self._stopping.is_set():
            status = slot.train(run.id, log_path)
            result = run.result()
            if result is not None:
                return result
            if self._stopping.is_set():
                break
            log.warning("run %s ended with status %d; see %s", run.id, status, log_path)
            # The code would raise the same exception again; a signal or a fault of the machine
            # may not recur.
            transient = status < 0 or status in (INTERRUPTED, MAY_PASS)
            if not transient or not tries.another():
                return give_up(run, f"{_last_line(log_path)}; see {log_path}")
        return None

    def _stop(self) -> None:
        self._stopping.set()
        for slot in self._slots:
            slot.stop()
        deadline = time.monotonic() + GRACE_S
        for slot in self._slots:
            slot.wait(max(0.0, deadline - time.monotonic()))


def _last_line(path: Path) -> str:
    """The last line a child wrote, which is its exception, or `no output`."""
    lines = path.read_text(errors="replace").split("\n") if path.is_file() else []
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "no output")
