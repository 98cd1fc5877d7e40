"""Stop a sweep: queued runs first, then running ones, which write a checkpoint."""

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling, Crashed

from flows.dispatch.underway import Controller, controllers, forget
from flows.settings import Settings
from flows.stack.flow_runs import cancel_flow_runs, prefect_client, read_states

# Prefect gives a process 30 s after SIGTERM; its worker looks every few seconds.
_PATIENCE_S = 60.0
_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Stopped:
    """What was stopped.

    Attributes:
        processes: sweeps in processes of this host that ended.
        flow_runs: flow runs, of the sweep and its trainings, that were ended in Prefect.
        left: what is still there, in words; empty when all has ended.
    """

    processes: int
    flow_runs: int
    left: tuple[str, ...]


def cancel(sweep: str, folder: Path, settings: Settings, *, server: bool) -> Stopped:
    """End everything that works for a sweep; returns when it has ended, or patience has.

    Args:
        folder: the sweep's; need not be there, where a worker has yet to plan it.
        server: whether the Prefect server of the settings answers.
    """
    found = controllers(folder)
    here = [one for one in found if one.alive and not one.deployed]
    for controller in here:
        with suppress(ProcessLookupError):
            os.kill(controller.process.pid, signal.SIGINT)
    flow_runs, left = 0, []
    if server:
        with prefect_client(settings) as client:
            flow_runs = _end_flow_runs(client, sweep, [one for one in found if one not in here])
            left = _wait_for_flow_runs(client, sweep, found)
    elif any(one.deployed for one in found):
        left.append("its flow runs: the Prefect server does not answer")
    deadline = time.monotonic() + _PATIENCE_S
    while any(one.alive for one in here) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    for controller in found:
        if not controller.alive:
            forget(folder, controller)
    left += [f"process {one.process.pid}" for one in here if one.alive]
    return Stopped(sum(not one.alive for one in here), flow_runs, tuple(left))


def _end_flow_runs(client: SyncPrefectClient, sweep: str, others: list[Controller]) -> int:
    """Tell the sweep's own flow runs, so that they start nothing more, then its trainings."""
    count = 0
    for controller in others:
        if controller.flow_run is None:
            continue
        flow_run = UUID(controller.flow_run)
        with suppress(ObjectNotFound):
            state = client.read_flow_run(flow_run).state
            if state is None or state.is_final():
                continue
            # Nobody is left to end the flow run of a process that was killed.
            dead: State[Any] = Crashed(message="its process is gone")
            asked: State[Any] = Cancelling()
            client.set_flow_run_state(
                flow_run, asked if controller.alive else dead, force=not controller.alive
            )
            count += 1
    return count + cancel_flow_runs(
        lambda: {**_asked_for(client, sweep), **_trainings(client, sweep)}
    )


def _wait_for_flow_runs(
    client: SyncPrefectClient, sweep: str, found: list[Controller]
) -> list[str]:
    own = [UUID(one.flow_run) for one in found if one.flow_run is not None]
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        states = {**read_states(own), **_asked_for(client, sweep), **_trainings(client, sweep)}
        living = [state for state in states.values() if not state.is_final()]
        if not living or time.monotonic() > deadline:
            return [f"{len(living)} flow runs"] if living else []
        time.sleep(_POLL_S)


def _trainings(client: SyncPrefectClient, sweep: str) -> dict[UUID, State[Any]]:
    """States of the flow runs of a sweep's trainings that have not ended, by id."""
    found = _living(client, FlowRunFilter(tags=FlowRunFilterTags(all_=[sweep])))
    return {one.id: one.state for one in found if one.state is not None}


def asked_for(sweep: str, settings: Settings) -> bool:
    """Whether a worker has been asked for a sweep, or is at it."""
    with prefect_client(settings) as client:
        return bool(_asked_for(client, sweep))


def _asked_for(client: SyncPrefectClient, sweep: str) -> dict[UUID, State[Any]]:
    """States of the deployed flow runs of a sweep that have not ended, also before it is planned.

    Until then a flow run is known by the preset it was asked for; afterwards by its name.
    """
    found = _living(client, FlowRunFilter(), flow="sweep")
    return {
        one.id: one.state
        for one in found
        if one.deployment_id is not None and one.state is not None and sweep == _meant(one)
    }


def _meant(flow_run: FlowRun) -> str:
    """The sweep's name where the parameters tell; a file on the worker's machine does not."""
    for override in reversed(flow_run.parameters.get("overrides", ())):
        key, _, value = str(override).partition("=")
        if key.strip() == "name":
            return value.strip()
    return str(flow_run.parameters.get("spec", flow_run.name))


def _living(
    client: SyncPrefectClient, which: FlowRunFilter, *, flow: str | None = None
) -> list[FlowRun]:
    living = [kind for kind in StateType if kind not in TERMINAL_STATES]
    which.state = FlowRunFilterState(type=FlowRunFilterStateType(any_=living))
    flows = FlowFilter(name=FlowFilterName(any_=[flow])) if flow is not None else None
    found: list[FlowRun] = []
    while page := client.read_flow_runs(
        flow_filter=flows, flow_run_filter=which, offset=len(found)
    ):
        found += page
    return found
