"""The local stack as a whole: up, down, status. What runs is noted in HOME/stack.json."""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from flows.prefect_client import prefect_client
from flows.rundir import write_whole
from flows.servers import (
    Process,
    StackError,
    healthy,
    prefect_environment,
    require_free,
    start,
    start_mlflow_server,
    start_prefect_server,
    stop,
    wait_healthy,
)
from flows.settings import CONTROL_POOL, TRAIN_POOL, Home, Settings

if TYPE_CHECKING:
    from prefect.events.schemas.automations import AutomationCore

ROOT = Path(__file__).resolve().parent.parent
_ZOMBIES = "isoflop: crash runs without a heartbeat"
_ZOMBIE_AFTER_S = 90
# A sweep only waits, so several fit one worker.
_SWEEPS_AT_ONCE = 4
_WORKERS_START_S = 30.0


def up(
    settings: Settings, home: Home, *, workers: int, gpus: list[int], say: Callable[[str], None]
) -> None:
    """Start server, MLflow, pools and workers, and deploy prefect.yaml.

    A stack that is up stays. One of which a part has died is stopped and started whole.
    Anything that fails here stops the rest again.

    Raises:
        PortTakenError: a stranger listens on a port we need.
        StackError: something did not start.
    """
    with (home.root / "stack.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _whole(home):
            say("the stack is already up")
            return
        if running(home):
            say("a part of the stack has died; starting all of it again")
            down(settings, home)
        require_free(
            settings.host, settings.prefect_port, what="Prefect", setting="ISOFLOP_PREFECT_PORT"
        )
        require_free(
            settings.host, settings.mlflow_port, what="MLflow", setting="ISOFLOP_MLFLOW_PORT"
        )
        try:
            say("starting the Prefect and MLflow servers")
            _start_servers(settings, home)
            say("making pools and deployments")
            _deploy(settings, home)
            say(f"starting {len(gpus) or workers} training workers, and one for sweeps")
            _start_workers(settings, home, workers=workers, gpus=gpus)
        except BaseException:
            down(settings, home)
            raise


def down(settings: Settings, home: Home) -> list[Process]:
    """Stop what `up` started; returns what was still running."""
    living = running(home)
    # Workers first, so that no server is missing while they say goodbye.
    stop([process for process in living if "worker" in process.name], alive)
    if server_answers(settings):
        _crash_runs_in_flight(settings, home)
    stop([process for process in living if "worker" not in process.name], alive)
    (home.root / "stack.json").unlink(missing_ok=True)
    return living


def running(home: Home) -> list[Process]:
    """Processes of the stack that are alive now."""
    return [process for process in _noted(home) if alive(process)]


def _whole(home: Home) -> bool:
    noted = _noted(home)
    return bool(noted) and all(alive(process) for process in noted)


def _noted(home: Home) -> list[Process]:
    try:
        noted = json.loads((home.root / "stack.json").read_text())
    except (FileNotFoundError, ValueError):
        return []
    return [Process(**entry) for entry in noted]


def server_answers(settings: Settings) -> bool:
    """Whether the Prefect server of the settings answers."""
    return healthy(f"{settings.prefect_api}/health")


def _start_servers(settings: Settings, home: Home) -> None:
    from flows.tracking import open_tracker

    prefect = start_prefect_server(settings, home, port=settings.prefect_port, tied=False)
    _note(home, "prefect-server", prefect.pid)
    # Its tables must be there before the server and any worker look for them.
    open_tracker(settings.model_copy(update={"mlflow_uri": None}), home)
    mlflow = start_mlflow_server(settings, home)
    _note(home, "mlflow-server", mlflow.pid)
    wait_healthy(f"{settings.prefect_api}/health", prefect, home.logs / "prefect-server.log")
    wait_healthy(f"{settings.mlflow_address}/health", mlflow, home.logs / "mlflow-server.log")


def _deploy(settings: Settings, home: Home) -> None:
    """Make the pools, the automation and the deployments of prefect.yaml."""
    environment = {**os.environ, **prefect_environment(settings, home)}
    os.environ.update(prefect_environment(settings, home))
    from prefect.client.schemas.actions import WorkPoolCreate

    with prefect_client(settings) as client:
        for pool in (CONTROL_POOL, TRAIN_POOL):
            client.create_work_pool(WorkPoolCreate(name=pool, type="process"), overwrite=True)
        if not client.read_automations_by_name(_ZOMBIES):
            client.create_automation(_zombie_automation())
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StackError(f"prefect deploy failed: {(done.stderr or done.stdout).strip()[-500:]}")


def _zombie_automation() -> "AutomationCore":
    """Crash a run that sent no heartbeat for 90 s: its worker or machine died."""
    from datetime import timedelta

    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    return AutomationCore(
        name=_ZOMBIES,
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.*"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=_ZOMBIE_AFTER_S),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"no heartbeat for {_ZOMBIE_AFTER_S} s: its worker is gone",
            )
        ],
    )


def _start_workers(settings: Settings, home: Home, *, workers: int, gpus: list[int]) -> None:
    slots = [{"CUDA_VISIBLE_DEVICES": str(gpu)} for gpu in gpus] or [{} for _ in range(workers)]
    wanted: list[tuple[str, str, int, dict[str, str]]] = [
        ("control-worker", CONTROL_POOL, _SWEEPS_AT_ONCE, {})
    ]
    wanted += [(f"train-worker-{number}", TRAIN_POOL, 1, slot) for number, slot in enumerate(slots)]
    # Prefect keeps the runs' files in a folder of the temporary directory that only the first
    # user of a machine may write to.
    scratch = home.root / "tmp"
    scratch.mkdir(exist_ok=True)
    since = datetime.now(UTC)
    started = {}
    for name, pool, limit, extra in wanted:
        command = [
            *("-m", "prefect", "worker", "start", "--pool", pool, "--name", name),
            *("--limit", str(limit), "--type", "process"),
        ]
        environment = {
            **prefect_environment(settings, home),
            "ISOFLOP_HOME": str(home.root),
            "TMPDIR": str(scratch),
            # What our modules log is shown beside the flow run.
            "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,llama_core",
            "PREFECT_LOGGING_ROOT_LEVEL": "INFO",
            **({} if gpus else {"OMP_NUM_THREADS": "1"}),
            **extra,
        }
        log = home.logs / f"{name}.log"
        process = start(command, environment, log)
        _note(home, name, process.pid)
        started[name] = process
    _wait_for_workers(home, started, since)


def _wait_for_workers(
    home: Home, started: dict[str, "subprocess.Popen[bytes]"], since: datetime
) -> None:
    """Wait until the server has heard from every worker.

    Raises:
        StackError: a worker ended, or said nothing for half a minute.
    """
    from prefect.client.orchestration import get_client

    deadline = time.monotonic() + _WORKERS_START_S
    silent = set(started)
    while silent:
        for name, process in started.items():
            if process.poll() is not None:
                log = home.logs / f"{name}.log"
                raise StackError(f"{name} did not start (exit {process.returncode}); see {log}")
        if time.monotonic() > deadline:
            raise StackError(f"{', '.join(sorted(silent))} did not report; see {home.logs}")
        time.sleep(0.2)
        with get_client(sync_client=True) as client:
            for pool in (CONTROL_POOL, TRAIN_POOL):
                for worker in client.read_workers_for_work_pool(pool):
                    heard = worker.last_heartbeat_time
                    if heard is not None and heard >= since:
                        silent.discard(worker.name)


def _crash_runs_in_flight(settings: Settings, home: Home) -> None:
    """Tell Prefect that the workers' runs have ended: it would believe them running for ever."""
    os.environ.update(prefect_environment(settings, home))
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import State, StateType
    from prefect.states import Crashed

    in_flight = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=in_flight))
    with prefect_client(settings) as client:
        for flow_run in client.read_flow_runs(flow_run_filter=FlowRunFilter(state=state)):
            ended: State[Any] = Crashed(message="its worker was stopped by isoflop down")
            client.set_flow_run_state(flow_run.id, ended, force=True)


def alive(process: Process) -> bool:
    """Whether it still runs."""
    try:
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.started_at) < 1.0
        return same and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def process_of(name: str, pid: int) -> Process:
    """A running process with the time it started, by which a reused pid is told apart."""
    return Process(name=name, pid=pid, started_at=psutil.Process(pid).create_time())


def _note(home: Home, name: str, pid: int) -> None:
    """Remember a process as soon as it runs, so that `down` finds it whatever happens next."""
    noted = [asdict(entry) for entry in [*_noted(home), process_of(name, pid)]]
    write_whole(home.root / "stack.json", json.dumps(noted, indent=1))
