"""Trainings as child processes of this one; each runs `flows.training.execute.execute`."""

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
    More,
    Tries,
    admitted,
    always,
    give_up,
    make_ready,
    no_more,
)
from flows.processes import DECLINED, INTERRUPTED, MAY_PASS
from flows.runs.directory import RunDir, RunResult
from flows.settings import Home
from flows.training.stacks import in_order, stacks
from flows.training.warm import WarmSlot
from llama_core.config import Placement
from sweeps.spec import PlannedRun

log = logging.getLogger(__name__)

_POLL_CHILDREN_S = 0.2
_STOPPING = "stopping; each training writes a checkpoint first (Ctrl-C again: it does not)"


class ChildProcesses:
    """Trains each run in a child process, one in each slot at a time. Needs a flow around it.

    Runs of one shape train in one process where that was measured to be faster.

    A context; leaving it stops every child process.

    Args:
        slots: for each slot, the environment that pins a training to its CPU or GPU.
        say: gets a line when Ctrl-C stops the trainings.
    """

    def __init__(
        self,
        home: Home,
        placement: Placement,
        slots: Sequence[dict[str, str]],
        say: Callable[[str], None] = log.info,
    ) -> None:
        self._home = home
        self._say = say
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

    def start(self, trainings: int) -> None:
        """Start one slot's process for each training, up to the number of slots, ahead of time."""
        for slot in self._slots[:trainings]:
            slot.start()

    def train_all(
        self,
        runs: Sequence[PlannedRun],
        *,
        on_finished: Callable[[PlannedRun, RunResult], None],
        on_tick: Callable[[], None],
        admit: Admit = always,
        more: More = no_more,
    ) -> None:
        """Train the runs. An exception or Ctrl-C stops the children first."""

        # As a task, each training appears on the sweep's timeline in Prefect.
        @task(name="train", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
        def train(name: str, run_ids: str) -> State[Any]:
            runs = [RunDir(self._home.runs / run_id) for run_id in run_ids.split(",")]
            slot = self._free.get()
            try:
                if len(runs) > 1:
                    return self._train_stack(name, runs, slot)
                return self._train_alone(name, runs[0], slot)
            finally:
                self._free.put(slot)

        waiting = stacks(runs, self._placement, len(self._slots))
        in_flight = dict[PrefectFuture[Any], tuple[PlannedRun, ...]]()
        ended: SimpleQueue[PrefectFuture[Any]] = SimpleQueue()
        try:
            while True:
                for group in admitted(waiting, admit, len(self._slots) - len(in_flight)):
                    future = train.submit(*self._made_ready(group))
                    in_flight[future] = group
                    # Its state would be asked of the server, which shares the cores with it.
                    future.add_done_callback(ended.put)
                if not in_flight:
                    return
                while ended.empty():
                    on_tick()
                    time.sleep(_POLL_CHILDREN_S)
                future = ended.get()
                group = in_flight.pop(future)
                for planned in group:
                    result = RunDir(self._home.runs / planned.id).result()
                    if result is None and len(group) > 1:
                        # What a stack leaves is trained alone, from its checkpoints.
                        waiting.append((planned,))
                        continue
                    if result is None:
                        # Even its failure could not be recorded, as on a full disk.
                        future.result(raise_on_failure=True)
                    assert result is not None, f"run {planned.id} ended without a result"
                    on_finished(planned, result)
                waiting = in_order([*waiting, *stacks(more(), self._placement, len(self._slots))])
                on_tick()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                self._say(_STOPPING)
            self._stop()
            raise

    def _made_ready(self, group: Sequence[PlannedRun]) -> tuple[str, str]:
        """Make runs ready to train in one process; their name, and their ids."""
        for planned in group:
            make_ready(RunDir(self._home.runs / planned.id), planned, self._placement)
        others = f" and {len(group) - 1} of its shape" if len(group) > 1 else ""
        return f"{group[0].name}{others}", ",".join(planned.id for planned in group)

    def _train_stack(self, name: str, runs: Sequence[RunDir], slot: WarmSlot) -> State[Any]:
        """Train runs as one program; those that it leaves without a result are trained alone."""
        log_path = runs[0].path / "output.log"
        status = slot.train(",".join(run.id for run in runs), log_path)
        left = [run.id for run in runs if run.result() is None]
        if self._stopping.is_set():
            return Failed(message=f"{name} were stopped; they resume when started again")
        if status == DECLINED:
            return Completed(message=f"{name} train one by one")
        if left:
            log.warning("%s ended with status %d; see %s", name, status, log_path)
            return Failed(message=f"{len(left)} of {len(runs)} runs go on one by one")
        return Completed(message=f"{name} ended")

    def _train_alone(self, name: str, run: RunDir, slot: WarmSlot) -> State[Any]:
        result = self._train(run, slot)
        if result is None:
            return Failed(message=f"{name} was stopped; it resumes when started again")
        if result.status == "finished":
            return Completed(message=f"{name} finished in {result.train_s:.0f} s")
        return Failed(message=f"{name} {result.status}: {result.reason}")

    def _train(self, run: RunDir, slot: WarmSlot) -> RunResult | None:
        """Train a run, again where that may help; None where it was stopped."""
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
        try:
            for slot in self._slots:
                slot.wait(max(0.0, deadline - time.monotonic()))
        except KeyboardInterrupt:
            # Again: not even their checkpoints are waited for.
            for slot in self._slots:
                slot.wait(0.0)
            raise


def _last_line(path: Path) -> str:
    """The last line a child wrote, which is its exception, or `no output`."""
    lines = path.read_text(errors="replace").split("\n") if path.is_file() else []
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "no output")
