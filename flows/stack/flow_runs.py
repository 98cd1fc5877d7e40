"""Flow runs on the Prefect server: reading their states and ending them."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Cancelling, Crashed

from flows.settings import Settings

log = logging.getLogger(__name__)

# How long to wait for a server that is being restarted.
_PATIENCE_S = 600.0
_POLL_S = 1.0
# Most flow runs the server returns in one answer.
_PAGE = 200
# A worker may pick up a run between our reading its state and setting it.
_PASSES = 3
_T = TypeVar("_T")


def read_states(ids: list[UUID]) -> dict[UUID, State[Any]]:
    """States of those flow runs that exist, by id."""

    def read(client: SyncPrefectClient) -> dict[UUID, State[Any]]:
        pages = [ids[start : start + _PAGE] for start in range(0, len(ids), _PAGE)]
        return {
            run.id: run.state
            for page in pages
            for run in client.read_flow_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=page))
            )
            if run.state is not None
        }

    return _ask(read)


def when_it_answers(call: Callable[[], _T]) -> _T:
    """Call the Prefect server; retry while it is being restarted.

    Raises:
        httpx.HTTPError: it refused the request, or did not answer for ten minutes.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return call()
        except httpx.HTTPError as error:
            refused = isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500
            if refused or time.monotonic() > deadline:
                raise
            log.warning("waiting for Prefect: %s", error)
            time.sleep(_POLL_S)


def is_ending() -> bool:
    """Whether the flow run around this code is cancelled or has ended."""
    own = flow_run.id
    if own is None:
        return False
    state = read_states([UUID(own)]).get(UUID(own))
    return state is None or state.is_cancelling() or state.is_final()


def rename(name: str) -> None:
    """Rename the flow run around this code, if there is one."""
    own = flow_run.id
    if own is not None:
        _ask(lambda client: client.set_flow_run_name(UUID(own), name))


def crash(flow_run_id: UUID) -> State[Any]:
    """Set a run whose process is gone to Crashed; Prefect would notice much later."""
    state: State[Any] = Crashed(message="its training sends no sign of life")
    _ask(lambda client: client.set_flow_run_state(flow_run_id, state, force=True))
    return state


def _ask(request: Callable[[SyncPrefectClient], _T]) -> _T:
    def ask() -> _T:
        with get_client(sync_client=True) as client:
            return request(client)

    return when_it_answers(ask)


def cancel_flow_runs(read: Callable[[], Mapping[UUID, State[Any]]]) -> int:
    """Cancel flow runs, scheduled ones first, so that none starts meanwhile.

    Args:
        read: reads the current states of the flow runs, by id.

    Returns:
        How many were cancelled.
    """
    cancelled: set[UUID] = set()
    with get_client(sync_client=True) as client:
        for _ in range(_PASSES):
            states = {
                run_id: state
                for run_id, state in read().items()
                if not state.is_final() and not state.is_cancelling()
            }
            if not states:
                break
            for run_id in sorted(states, key=lambda run_id: states[run_id].is_running()):
                started = states[run_id].is_running() or states[run_id].is_pending()
                ended: State[Any] = Cancelling() if started else Cancelled()
                client.set_flow_run_state(run_id, ended)
                cancelled.add(run_id)
    return len(cancelled)


@contextmanager
def prefect_client(settings: Settings) -> Iterator[SyncPrefectClient]:
    """A client of the settings' server.

    Prefect reads PREFECT_API_URL once, at its import; setting the variable later has no effect.
    """
    with (
        temporary_settings({PREFECT_API_URL: settings.prefect_api}),
        get_client(sync_client=True) as client,
    ):
        yield client


def flow_runs_in_flight(client: SyncPrefectClient) -> list[FlowRun]:
    """Flow runs that are running, pending or being cancelled, by Prefect's records."""
    in_flight = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    return read_flow_runs(client, in_flight)


def read_flow_runs(
    client: SyncPrefectClient,
    states: Iterable[StateType],
    *,
    tag: str | None = None,
    **filters: Any,
) -> list[FlowRun]:
    """All flow runs in these states, more too than the server returns in one answer.

    Args:
        filters: of their flows and pools, as the client takes them.
    """
    which = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states))),
        tags=None if tag is None else FlowRunFilterTags(all_=[tag]),
    )
    flow_runs: list[FlowRun] = []
    while page := client.read_flow_runs(flow_run_filter=which, **filters, offset=len(flow_runs)):
        flow_runs += page
    return flow_runs


def crash_flow_runs(settings: Settings, ids: Sequence[UUID], message: str) -> None:
    """Set flow runs and their tasks to Crashed; Prefect would show them as running for ever."""
    with prefect_client(settings) as client:
        for flow_run_id in ids:
            ended: State[Any] = Crashed(message=message)
            client.set_flow_run_state(flow_run_id, ended, force=True)
            only_this = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
            for task in client.read_task_runs(flow_run_filter=only_this):
                if task.state is not None and not task.state.is_final():
                    client.set_task_run_state(task.id, ended, force=True)
