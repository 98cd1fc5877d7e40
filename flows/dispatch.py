"""Two ways to have runs trained, one contract: child processes here, or a work pool."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, Self
from uuid import UUID

import httpx
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed

from flows.child import INTERRUPTED, MAY_PASS
from flows.flow_runs import cancel_flow_runs, crash, is_ending, read_states, when_it_answers
from flows.lease import LeaseWatch
from flows.rundir import RunDir, RunResult, now, write_whole
from flows.settings import Home
from flows.store import RunStore, insist
from flows.warm import WarmSlot
from llama_core.config import Placement
from sweeps.spec import PlannedRun, tokens_spent

log = logging.getLogger(__name__)

# A training that is killed goes on from its checkpoint; one that is killed three times without
# having come any farther stops.
_ATTEMPTS = 3
# Seconds a training gets to end its step and write a checkpoint before it is killed.
_GRACE_S = 30.0
_POLL_CHILDREN_S = 0.2
_POLL_SERVER_S = 1.0
_CREATED_AT_ONCE = 16
# What a token of the smallest models costs beside its FLOPs, as FLOPs: about 10 µs on a core.
_FLOPS_A_TOKEN = 1e6

Admit = Callable[[PlannedRun], bool]


def always(planned: PlannedRun) -> bool:
    """Without a cap every run may start."""
    return True


class Dispatcher(Protocol):
    """Trains runs somewhere. When `train_all` returns, every run admitted has a result on disk."""

    def train_all(
        self,
        runs: Sequence[PlannedRun],
        *,
        on_finished: Callable[[PlannedRun, RunResult], None],
        on_tick: Callable[[], None],
        admit: Admit = always,
    ) -> None:
        """Train the runs, longest first.

        Args:
            admit: asked before a run starts, and again after each `on_finished` for a run it
                refused; what is refused to the end is not trained.
            on_finished: called once for each run when its result is there.
            on_tick: called about every second or faster while something is under way.
        """


class ChildProcesses:
    """One child process a run, as many at once as there are slots. Needs a flow around it.

    A context; when it is left no process of it is left either.

    Args:
        slots: the environment that pins a training to its CPU or GPU, one for each slot.
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
        """Train the runs. Whatever ends this early, Ctrl-C too, stops the children first."""

        # A task for each training puts it on the sweep's timeline in Prefect.
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

        waiting, flying = longest_first(runs), dict[PrefectFuture[Any], PlannedRun]()
        try:
            while True:
                for planned in _admitted(waiting, admit, len(self._slots) - len(flying)):
                    _make_ready(RunDir(self._home.runs / planned.id), planned, self._placement)
                    flying[train.submit(planned.name, planned.id)] = planned
                if not flying:
                    return
                while not (ended := [future for future in flying if future.state.is_final()]):
                    on_tick()
                    time.sleep(_POLL_CHILDREN_S)
                for future in ended:
                    planned = flying.pop(future)
                    on_finished(planned, _result(RunDir(self._home.runs / planned.id)))
                on_tick()
        except BaseException:
            self._stop()
            raise

    def _train(self, run: RunDir, slot: WarmSlot) -> RunResult | None:
        tries = _Tries(run)
        log_path = self._log_path(run)
        while not self._stopping.is_set():
            status = slot.train(run.id, log_path)
            result = run.result()
            if result is not None:
                return result
            if self._stopping.is_set():
                break
            log.warning("run %s ended with status %d; see %s", run.id, status, log_path)
            # An exception of the code would come again; a signal or the machine's fault may not.
            passing = status < 0 or status in (INTERRUPTED, MAY_PASS)
            if not passing or not tries.another():
                return give_up(run, f"{_last_line(log_path)}; see {log_path}")
        return None

    def _stop(self) -> None:
        self._stopping.set()
        for slot in self._slots:
            slot.stop()
        deadline = time.monotonic() + _GRACE_S
        for slot in self._slots:
            slot.wait(max(0.0, deadline - time.monotonic()))

    def _log_path(self, run: RunDir) -> Path:
        return run.path / "output.log"


class WorkPool:
    """One flow run of a deployment for each training; workers pick them up.

    Args:
        store: what the workers read from and write to; None when they share this home.
    """

    def __init__(
        self, home: Home, placement: Placement, deployment: str, store: RunStore | None = None
    ) -> None:
        self._home = home
        self._placement = placement
        self._deployment = deployment
        self._store = store

    def train_all(
        self,
        runs: Sequence[PlannedRun],
        *,
        on_finished: Callable[[PlannedRun, RunResult], None],
        on_tick: Callable[[], None],
        admit: Admit = always,
    ) -> None:
        """Train the runs on whatever workers the pool has."""
        by_id = {planned.id: planned for planned in runs}
        attempts = dict.fromkeys(by_id, 0)
        cancelling: set[UUID] = set()
        for planned in runs:
            run = RunDir(self._home.runs / planned.id)
            self._pull(run)
            _make_ready(run, planned, self._placement)
        self._push(runs)
        tries = {run_id: _Tries(RunDir(self._home.runs / run_id)) for run_id in by_id}
        leases = {run_id: LeaseWatch(RunDir(self._home.runs / run_id)) for run_id in by_id}
        waiting, flying, asking = longest_first(runs), dict[UUID, str](), True
        try:
            while flying or asking:
                if asking:
                    # One creator, one after the other: on SQLite concurrent creation stalls for
                    # half a minute. A few at a time: a busy server takes a second for each, and
                    # what is under way wants to be looked at.
                    left = len(waiting)
                    for planned in _admitted(waiting, admit, _CREATED_AT_ONCE):
                        flying[self._start(planned, 0)] = planned.id
                    asking = left - len(waiting) == _CREATED_AT_ONCE
                states = read_states(list(flying))
                for flow_run_id in list(flying):
                    # A flow run somebody deleted has no state any more, and will not end.
                    state = states.get(flow_run_id)
                    if state is not None and (state.is_cancelling() or state.is_cancelled()):
                        cancelling.add(flow_run_id)
                    if state is not None and state.is_running():
                        state = crash(flow_run_id) if leases[flying[flow_run_id]].dead() else state
                    if state is not None and not state.is_final():
                        continue
                    if flow_run_id in cancelling and is_ending():
                        # The whole sweep is cancelled, and this process about to be stopped.
                        continue
                    run_id = flying.pop(flow_run_id)
                    run = RunDir(self._home.runs / run_id)
                    self._pull(run)
                    attempts[run_id] += 1
                    # A deleted flow run and a crashed one say nothing against another try.
                    passing = state is None or state.is_crashed()
                    passing = passing and flow_run_id not in cancelling
                    if run.result() is None and passing and tries[run_id].another():
                        log.warning("run %s: %s; starting it again", run_id, state)
                        leases[run_id] = LeaseWatch(run)
                        flying[self._start(by_id[run_id], attempts[run_id])] = run_id
                        continue
                    said = "its flow run was deleted" if state is None else str(state)
                    on_finished(by_id[run_id], run.result() or give_up(run, said))
                    asking = True
                on_tick()
                if not asking:
                    time.sleep(_POLL_SERVER_S)
        except BaseException:
            try:
                cancel_flow_runs(partial(read_states, list(flying)))
            except httpx.HTTPError as error:
                log.warning("Prefect cannot be told to stop the runs in flight: %s", error)
            raise

    def _push(self, runs: Sequence[PlannedRun]) -> None:
        """Put there what workers need: the corpus, and each run as it stands here."""
        if self._store is None:
            return
        store, home = self._store, self._home
        for digest in {planned.run.data.digest for planned in runs}:
            insist(partial(store.push_corpus, home, digest), f"pushing corpus {digest[:12]}")
        for planned in runs:
            run = RunDir(home.runs / planned.id)
            insist(partial(store.push, run), f"pushing run {run.id}")

    def _pull(self, run: RunDir) -> None:
        """Bring home what a worker has pushed of a run."""
        if self._store is not None:
            insist(partial(self._store.pull, run), f"fetching run {run.id}")

    def _start(self, planned: PlannedRun, attempt: int) -> UUID:
        """Create the flow run, or join the one under way for the same training."""
        while True:
            create = partial(
                run_deployment,
                self._deployment,
                parameters={"planned": planned.model_dump(mode="json")},
                timeout=0,
                flow_run_name=planned.name,
                tags=[planned.sweep],
                idempotency_key=f"{planned.id}-{attempt}",
            )
            flow_run = when_it_answers(create)
            assert isinstance(flow_run, FlowRun)
            done = flow_run.state is not None and flow_run.state.is_final()
            if not done or RunDir(self._home.runs / planned.id).result() is not None:
                return flow_run.id
            # That key belongs to a flow run of the past that left no result.
            attempt += 1


def longest_first(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Runs in falling order of expected time, so that no long one starts last and alone."""
    return sorted(
        runs,
        key=lambda run: run.flops_spent + _FLOPS_A_TOKEN * tokens_spent(run.run.train),
        reverse=True,
    )


def _admitted(waiting: list[PlannedRun], admit: Admit, most: int) -> Iterator[PlannedRun]:
    """Take out of `waiting` what may start now, in its order and at most so many."""
    for planned in list(waiting):
        if most <= 0:
            return
        if admit(planned):
            waiting.remove(planned)
            most -= 1
            yield planned


def give_up(run: RunDir, said: str) -> RunResult:
    """Record a run that could not be trained, so that the sweep can go on without it.

    Args:
        said: what its last attempt said, for a person.
    """
    with run.waited_for():
        result = run.result()
        if result is None:
            result = RunResult(
                run_id=run.id,
                status="failed",
                reason=f"no result: {said}",
                train_s=0.0,
                device="",
                finished_at=now(),
            )
            write_whole(run.result_path, result.model_dump_json(indent=1))
    return result


class _Tries:
    """Counts the failures of a run since it last came farther."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._standing = run.standing()
        self._failed = 0

    def another(self) -> bool:
        """Whether a run that has just failed is worth another try."""
        standing = self._run.standing()
        self._failed = 1 if standing > self._standing else self._failed + 1
        self._standing = standing
        return self._failed < _ATTEMPTS


def _make_ready(run: RunDir, planned: PlannedRun, placement: Placement) -> None:
    run.create(planned)
    run.place(placement)
    run.retire_result()


def _last_line(path: Path) -> str:
    """The last line a child wrote, which is its exception; nothing where there is no file."""
    if not path.is_file():
        return "no output"
    lines = path.read_text(errors="replace").split("\n")
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "no output")


def _result(run: RunDir) -> RunResult:
    result = run.result()
    if result is None:
        raise RuntimeError(f"run {run.id} ended, but there is no result in {run.path}")
    return result
