"""Stop a sweep or a study: queued runs first, then running ones, which write a checkpoint."""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling, Crashed

from flows.dispatch.underway import Controller, controllers
from flows.settings import Settings
from flows.stack.flow_runs import (
    cancel_flow_runs,
    prefect_client,
    read_flow_runs,
    read_states,
)

# Prefect gives a process 30 s after SIGTERM; its worker polls every few seconds.
_PATIENCE_S = 60.0
_POLL_S = 0.5
_LIVING = [kind for kind in StateType if kind not in TERMINAL_STATES]


@dataclass(frozen=True, slots=True)
class Stopped:
    """What was stopped.

    Attributes:
        processes: number of processes of this host that ran it and have ended.
        flow_runs: number of flow runs, its own and its trainings', that were ended in Prefect.
        left: descriptions of what still runs; empty when all has ended.
    """

    processes: int
    flow_runs: int
    left: tuple[str, ...]


def cancel(name: str, folders: Sequence[Path], settings: Settings, *, server: bool) -> Stopped:
    """Stop processes and flow runs of this name; return when they have ended, or after a minute.

    Args:
        folders: of the sweep and of the study; missing where a worker has yet to plan it.
        server: whether the Prefect server of the settings answers.
    """
    known = [controller for folder in folders for controller in controllers(folder)]
    by_hand = [controller for controller in known if controller.alive and not controller.deployed]
    local = [controller for controller in by_hand if controller.here]
    for controller in local:
        with suppress(ProcessLookupError):
            # A process that a script started in the background ignores SIGINT.
            os.kill(controller.process.pid, signal.SIGTERM)
    flow_runs, left = 0, []
    if server:
        with prefect_client(settings) as client:
            # A process that was started by hand ends its flow run itself; one of another host would
            # go on under a flow run that is Cancelling for ever.
            others = [controller for controller in known if controller not in by_hand]
            flow_runs = _end_flow_runs(client, name, others)
            left = _wait_for_flow_runs(client, name, [*others, *local])
    elif any(controller.deployed for controller in known):
        left.append("its flow runs: the Prefect server does not answer")
    deadline = time.monotonic() + _PATIENCE_S
    while any(controller.alive for controller in local) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    for controller in known:
        if not controller.alive:
            controller.path.unlink(missing_ok=True)
    running = [controller for controller in local if controller.alive]
    left += [f"process {controller.process.pid}" for controller in running]
    # Another host's process cannot be signalled from here, nor its end be seen.
    left += [
        f"process {controller.process.pid} on {controller.host} (isoflop cancel {name} there, or "
        f"remove {controller.path} if that host is gone)"
        for controller in by_hand
        if not controller.here and controller.path.exists()
    ]
    return Stopped(len(local) - len(running), flow_runs, tuple(left))


def is_requested(name: str, settings: Settings) -> bool:
    """Whether a flow run of a sweep or study of this name is queued or running on the workers."""
    with prefect_client(settings) as client:
        return bool(_requested(client, name))


def _end_flow_runs(client: SyncPrefectClient, name: str, others: list[Controller]) -> int:
    """End the controllers' flow runs, so that they start nothing more, then the trainings."""
    count = 0
    for controller in others:
        if controller.flow_run is None:
            continue
        flow_run = UUID(controller.flow_run)
        with suppress(ObjectNotFound):
            state = client.read_flow_run(flow_run).state
            if state is None or state.is_final():
                continue
            gone = not controller.alive
            ended: State[Any] = Crashed(message="its process is gone") if gone else Cancelling()
            # Where its process was killed, only a forced state ends a flow run.
            client.set_flow_run_state(flow_run, ended, force=gone)
            count += 1
    return count + cancel_flow_runs(lambda: _states(client, name))


def _wait_for_flow_runs(client: SyncPrefectClient, name: str, known: list[Controller]) -> list[str]:
    own = [UUID(controller.flow_run) for controller in known if controller.flow_run is not None]
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        states = {**read_states(own), **_states(client, name)}
        count = sum(not state.is_final() for state in states.values())
        if not count or time.monotonic() > deadline:
            return [f"{count} flow runs"] if count else []
        time.sleep(_POLL_S)


def _states(client: SyncPrefectClient, name: str) -> dict[UUID, State[Any]]:
    """States of the flow runs of this name on the workers that have not ended, by id."""
    trainings = read_flow_runs(client, _LIVING, tag=name)
    return {
        flow_run.id: flow_run.state
        for flow_run in (*_requested(client, name), *trainings)
        if flow_run.state is not None
    }


def _requested(client: SyncPrefectClient, name: str) -> list[FlowRun]:
    """The deployed flow runs of a sweep or study that have not ended, also before it is planned.

    Until then a flow run is known by the preset it was created for; afterwards by its name.
    """
    flows = FlowFilter(name=FlowFilterName(any_=["sweep", "tune"]))
    return [
        flow_run
        for flow_run in read_flow_runs(client, _LIVING, flow_filter=flows)
        if flow_run.deployment_id is not None and name == _name_of(flow_run)
    ]


def _name_of(flow_run: FlowRun) -> str:
    """Name of the sweep or study by the parameters, which name a preset or a file."""
    for override in reversed(flow_run.parameters.get("overrides", ())):
        key, _, value = str(override).partition("=")
        if key.strip() == "name":
            return value.strip()
    return str(flow_run.parameters.get("spec", flow_run.name))
