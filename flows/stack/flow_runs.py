"""Flow runs as the Prefect server has them: their states, and how to end them."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled, Cancelling, Crashed

from flows.settings import Settings

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

log = logging.getLogger(__name__)

# A server that is being restarted is waited for.
_PATIENCE_S = 600.0
_POLL_S = 1.0
# Flow runs the server returns at most in one answer.
_PAGE = 200
# A run may be picked up between our look and our word.
_PASSES = 3
_T = TypeVar("_T")


def read_states(ids: list[UUID]) -> dict[UUID, State[Any]]:
    """States of the flow runs that are there, by id."""

    def read() -> dict[UUID, State[Any]]:
        with get_client(sync_client=True) as client:
            pages = [ids[start : start + _PAGE] for start in range(0, len(ids), _PAGE)]
            return {
                found.id: found.state
                for page in pages
                for found in client.read_flow_runs(
                    flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=page))
                )
                if found.state is not None
            }

    return when_it_answers(read)


def when_it_answers(call: Callable[[], _T]) -> _T:
    """Ask the Prefect server, and again while it is being restarted.

    Raises:
        httpx.HTTPError: it refused, or was not there for ten minutes.
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
    """Whether the flow run around this code has been told to end."""
    own = flow_run.id
    if own is None:
        return False
    state = read_states([UUID(own)]).get(UUID(own))
    return state is None or state.is_cancelling() or state.is_final()


def rename(name: str) -> None:
    """Give the flow run around this code a name by which people find it."""
    own = flow_run.id

    def tell() -> None:
        with get_client(sync_client=True) as client:
            client.set_flow_run_name(UUID(own), name)

    if own is not None:
        when_it_answers(tell)


def crash(flow_run_id: UUID) -> State[Any]:
    """Tell Prefect that a run's process is gone, which it would notice much later."""
    state: State[Any] = Crashed(message="its training gives no sign of life")

    def tell() -> None:
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(flow_run_id, state, force=True)

    when_it_answers(tell)
    return state


def cancel_flow_runs(read: Callable[[], Mapping[UUID, State[Any]]]) -> int:
    """Cancel flow runs, those that have not started first, so that none starts meanwhile.

    Args:
        read: the states of the flow runs as they are now, by id.

    Returns:
        How many were told to end.
    """
    told: set[UUID] = set()
    with get_client(sync_client=True) as client:
        for _ in range(_PASSES):
            states = {
                found: state
                for found, state in read().items()
                if not state.is_final() and not state.is_cancelling()
            }
            if not states:
                break
            for found in sorted(states, key=lambda one: states[one].is_running()):
                started = states[found].is_running() or states[found].is_pending()
                ended: State[Any] = Cancelling() if started else Cancelled()
                client.set_flow_run_state(found, ended)
                told.add(found)
    return len(told)


@contextmanager
def prefect_client(settings: Settings) -> Iterator["SyncPrefectClient"]:
    """A client of the settings' server, whatever address Prefect read when it was imported.

    Prefect takes PREFECT_API_URL once, at its import; set later, the variable moves nothing.
    """
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings({PREFECT_API_URL: settings.prefect_api}),
        get_client(sync_client=True) as client,
    ):
        yield client


def flow_runs_in_flight(client: "SyncPrefectClient") -> "list[FlowRun]":
    """Flow runs that Prefect takes to be executed at this moment."""
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType

    in_flight = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=in_flight))
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(state=state))


def crash_flow_runs(settings: Settings, ids: "Sequence[UUID]", message: str) -> None:
    """Tell Prefect that flow runs and their tasks have ended: it would believe in them for ever."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.objects import State
    from prefect.states import Crashed

    with prefect_client(settings) as client:
        for flow_run_id in ids:
            ended: State[Any] = Crashed(message=message)
            client.set_flow_run_state(flow_run_id, ended, force=True)
            of_it = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
            for task in client.read_task_runs(flow_run_filter=of_it):
                if task.state is not None and not task.state.is_final():
                    client.set_task_run_state(task.id, ended, force=True)
