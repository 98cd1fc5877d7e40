"""Trainings as flow runs on a Prefect work pool."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import httpx
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment

from flows.dispatch.contract import (
    Admit,
    More,
    Tries,
    admitted,
    always,
    give_up,
    make_ready,
    no_more,
)
from flows.runs.directory import RunDir, RunResult
from flows.runs.lease import LeaseWatch
from flows.settings import Home
from flows.stack.flow_runs import cancel_flow_runs, crash, is_ending, read_states, when_it_answers
from flows.store.push import retry
from flows.store.run_store import RunStore
from flows.training.stacks import in_order
from llama_core.config import Placement
from sweeps.spec import PlannedRun

log = logging.getLogger(__name__)

_POLL_SERVER_S = 1.0
_CREATED_AT_ONCE = 16


class _Watched:
    """A run on the pool: its flow runs that have ended, and the signs of life of the newest."""

    def __init__(self, planned: PlannedRun, run: RunDir) -> None:
        self.planned, self.run, self.lease = planned, run, LeaseWatch(run)
        self.ended, self.cancelled = 0, False
        self._tries = Tries(run)

    def starts_again(self, state: State[Any] | None) -> bool:
        """Count a flow run that has ended; whether another is to be started.

        A deleted or crashed one may succeed when started again, unless somebody cancelled it.
        """
        self.ended += 1
        lost = (state is None or state.is_crashed()) and not self.cancelled
        if not lost or self.run.result() is not None or not self._tries.another():
            return False
        log.warning("run %s: %s; starting it again", self.run.id, state)
        self.lease = LeaseWatch(self.run)
        return True


class WorkPool:
    """One flow run of a deployment for each training; workers pick them up.

    Args:
        store: where the workers read and write; None when they share this home.
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
        more: More = no_more,
    ) -> None:
        """Train the runs on whatever workers the pool has."""
        waiting = in_order(self._made_ready(runs))
        in_flight, starting = dict[UUID, _Watched](), True
        try:
            while in_flight or starting:
                if starting:
                    starting = self._start_some(waiting, admit, in_flight)
                for flow_run_id, state in _ended(in_flight):
                    each = in_flight.pop(flow_run_id)
                    self._pull(each.run)
                    if each.starts_again(state):
                        in_flight[self._start(each.planned, each.ended)] = each
                        continue
                    reason = "its flow run was deleted" if state is None else str(state)
                    on_finished(each.planned, each.run.result() or give_up(each.run, reason))
                    waiting = in_order([*waiting, *self._made_ready(more())])
                    starting = True
                on_tick()
                if not starting:
                    time.sleep(_POLL_SERVER_S)
        except BaseException:
            try:
                cancel_flow_runs(partial(read_states, list(in_flight)))
            except httpx.HTTPError as error:
                log.warning("Prefect did not stop the runs in flight: %s", error)
            raise

    def _made_ready(self, runs: Sequence[PlannedRun]) -> list[tuple[PlannedRun]]:
        """Make runs ready to be trained by workers, each alone."""
        for planned in runs:
            run = RunDir(self._home.runs / planned.id)
            self._pull(run)
            make_ready(run, planned, self._placement)
        self._push(runs)
        return [(planned,) for planned in runs]

    def _start_some(
        self, waiting: list[tuple[PlannedRun, ...]], admit: Admit, in_flight: dict[UUID, _Watched]
    ) -> bool:
        """Start some of the runs that wait; whether others may start at once.

        One after the other: on SQLite concurrent creation stalls for half a minute. A few at a
        time: a busy server takes a second for each, and the runs in flight must be checked
        meanwhile.
        """
        before = len(in_flight)
        for (planned,) in admitted(waiting, admit, _CREATED_AT_ONCE):
            watched = _Watched(planned, RunDir(self._home.runs / planned.id))
            in_flight[self._start(planned, 0)] = watched
        return len(in_flight) - before == _CREATED_AT_ONCE

    def _push(self, runs: Sequence[PlannedRun]) -> None:
        """Push what workers need: the corpus, and each run as it is here."""
        if self._store is None:
            return
        store, home = self._store, self._home
        for digest in {planned.run.data.digest for planned in runs}:
            retry(partial(store.push_corpus, home, digest), f"pushing corpus {digest[:12]}")
        for planned in runs:
            run = RunDir(home.runs / planned.id)
            retry(partial(store.push, run), f"pushing run {run.id}")

    def _pull(self, run: RunDir) -> None:
        """Fetch what a worker has pushed of a run."""
        if self._store is not None:
            retry(partial(self._store.pull, run), f"fetching run {run.id}")

    def _start(self, planned: PlannedRun, attempt: int) -> UUID:
        """Create the flow run, or join one that already trains the same run."""
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
            # An earlier flow run without a result has used this key.
            attempt += 1


def _ended(in_flight: Mapping[UUID, _Watched]) -> Iterator[tuple[UUID, State[Any] | None]]:
    """The flow runs that have ended, with their last state: None of a deleted one."""
    states = read_states(list(in_flight))
    for flow_run_id, each in list(in_flight.items()):
        state = states.get(flow_run_id)
        if state is not None:
            each.cancelled |= state.is_cancelling() or state.is_cancelled()
            if state.is_running() and each.lease.dead():
                state = crash(flow_run_id)
            if not state.is_final():
                continue
        # Where the whole sweep is cancelled, this process is about to be stopped.
        if not (each.cancelled and is_ending()):
            yield flow_run_id, state
