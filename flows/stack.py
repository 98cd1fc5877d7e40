"""The local stack as a whole: up, down, status. What runs is noted in HOME/stack.json."""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
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
from flows.settings import (
    ADDRESSES,
    CONTROL_POOL,
    TRAIN_POOL,
    Home,
    Settings,
    note_addresses,
)

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.events.schemas.automations import AutomationCore

ROOT = Path(__file__).resolve().parent.parent
_ZOMBIES = "isoflop: crash runs without a heartbeat"
_ZOMBIE_AFTER_S = 90
_STUCK = "isoflop: crash runs that were picked up and not started"
# Importing torch on a machine that is short of memory takes minutes.
_STUCK_AFTER_S = 300
# A sweep only waits, so several fit one worker.
_SWEEPS_AT_ONCE = 4
_WORKERS_START_S = 30.0


def up(
    settings: Settings, home: Home, *, slots: Sequence[str | None], say: Callable[[str], None]
) -> None:
    """Start server, MLflow, pools and workers, and deploy prefect.yaml.

    Args:
        slots: a training worker each: the GPUs it is pinned to, as in `0` or `0,1`; None is a CPU.

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
            # Nobody else may make the tables of a fresh tracking database meanwhile.
            with (home.root / "mlflow.lock").open("w") as tables:
                fcntl.flock(tables, fcntl.LOCK_EX)
                _start_all(settings, home, slots, say)
        except BaseException:
            down(settings, home)
            raise


def _start_all(
    settings: Settings, home: Home, slots: Sequence[str | None], say: Callable[[str], None]
) -> None:
    """Everything at once, as far as nobody must wait for another: it takes as long as MLflow."""
    say("starting the Prefect and MLflow servers")
    note_addresses(settings, home)
    prefect = start_server(settings, home, "prefect-server")
    mlflow = start_server(settings, home, "mlflow-server")
    wait_healthy(f"{settings.prefect_api}/health", prefect, home.logs / "prefect-server.log")
    say("making pools and deployments")
    _deploy(settings, home)
    say(f"starting {len(slots)} training workers, and one for sweeps")
    since = datetime.now(UTC)
    wanted: dict[str, str | None] = {"control-worker": None}
    wanted |= {f"train-worker-{number}": gpus for number, gpus in enumerate(slots)}
    started = {name: start_worker(settings, home, name, gpus) for name, gpus in wanted.items()}
    wait_healthy(f"{settings.mlflow_address}/health", mlflow, home.logs / "mlflow-server.log")
    wait_for_workers(settings, home, started, since)


def down(settings: Settings, home: Home) -> list[Process]:
    """Stop what `up` started; returns what was still running."""
    living = running(home)
    # Workers first, so that no server is missing while they say goodbye.
    stop([process for process in living if "worker" in process.name], alive)
    if server_answers(settings):
        _crash_runs_in_flight(settings, home)
    stop([process for process in living if "worker" not in process.name], alive)
    for left_behind in ("stack.json", ADDRESSES):
        (home.root / left_behind).unlink(missing_ok=True)
    return living


def running(home: Home) -> list[Process]:
    """Processes of the stack that are alive now."""
    return [process for process in noted(home) if alive(process)]


def _whole(home: Home) -> bool:
    known = noted(home)
    return bool(known) and all(alive(process) for process in known)


def noted(home: Home) -> list[Process]:
    """Processes that `up` started and `down` has not stopped, alive or not."""
    try:
        known = json.loads((home.root / "stack.json").read_text())
    except (FileNotFoundError, ValueError):
        return []
    return [Process(**entry) for entry in known]


def server_answers(settings: Settings) -> bool:
    """Whether the Prefect server of the settings answers."""
    return healthy(f"{settings.prefect_api}/health")


def start_server(settings: Settings, home: Home, name: str) -> "subprocess.Popen[bytes]":
    """Start one of the two servers, `prefect-server` or `mlflow-server`, and note it."""
    if name == "prefect-server":
        process = start_prefect_server(settings, home, port=settings.prefect_port, tied=False)
    else:
        process = start_mlflow_server(settings, home)
    note(home, process_of(name, process.pid))
    return process


def _deploy(settings: Settings, home: Home) -> None:
    """Make the pools, the automation and the deployments of prefect.yaml."""
    environment = {**os.environ, **prefect_environment(settings, home)}
    os.environ.update(prefect_environment(settings, home))
    from prefect.client.schemas.actions import WorkPoolCreate

    with prefect_client(settings) as client:
        for pool in (CONTROL_POOL, TRAIN_POOL):
            client.create_work_pool(WorkPoolCreate(name=pool, type="process"), overwrite=True)
        for automation in (_zombie_automation(), _stuck_automation()):
            if not client.read_automations_by_name(automation.name):
                client.create_automation(automation)
        note_path, wanted = home.root / "deployed.json", _deployed()
        if _read_json(note_path) == wanted and _stands(client):
            return
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
    write_whole(note_path, json.dumps(wanted))


def _deployed() -> dict[str, str]:
    """What a deployment is made of: the code's place, version and every file with a parameter."""
    digest = hashlib.sha256((ROOT / "prefect.yaml").read_bytes())
    for package in ("flows", "sweeps", "llama_core"):
        for path in sorted((ROOT / package).glob("*.py")):
            digest.update(path.read_bytes())
    return {"root": str(ROOT), "sha256": digest.hexdigest()}


def _stands(client: "SyncPrefectClient") -> bool:
    """Whether the server has both deployments, on the pools of prefect.yaml."""
    from prefect.exceptions import ObjectNotFound

    try:
        return all(
            client.read_deployment_by_name(name).work_pool_name == pool
            for name, pool in (("sweep/chinchilla", CONTROL_POOL), ("train/run", TRAIN_POOL))
        )
    except ObjectNotFound:
        return False


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


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


def _stuck_automation() -> "AutomationCore":
    """Crash a run that a worker picked up and never started: the worker died in between."""
    from datetime import timedelta

    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    onward = ("Running", "Completed", "Failed", "Crashed", "Cancelled", "Cancelling", "Scheduled")
    return AutomationCore(
        name=_STUCK,
        trigger=EventTrigger(
            after={"prefect.flow-run.Pending"},
            expect={f"prefect.flow-run.{state}" for state in onward},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=_STUCK_AFTER_S),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"picked up and not started for {_STUCK_AFTER_S} s: its worker is gone",
            )
        ],
    )


def start_worker(
    settings: Settings, home: Home, name: str, gpus: str | None
) -> "subprocess.Popen[bytes]":
    """Start the worker of this name, pinned to its GPUs, and note it.

    `control-worker` takes sweeps; every other takes one training at a time.
    """
    sweeps = name == "control-worker"
    # Prefect keeps the runs' files in a folder of the temporary directory that only the first
    # user of a machine may write to.
    scratch = home.root / "tmp"
    scratch.mkdir(exist_ok=True)
    environment = {
        **prefect_environment(settings, home),
        "ISOFLOP_HOME": str(home.root),
        "TMPDIR": str(scratch),
        # A training's command is `python`: this one.
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
        # What our modules log is shown beside the flow run.
        "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,llama_core",
        "PREFECT_LOGGING_ROOT_LEVEL": "INFO",
        **({"OMP_NUM_THREADS": "1"} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus}),
    }
    command = [
        *("-m", "prefect", "worker", "start", "--type", "process", "--name", name),
        *("--pool", CONTROL_POOL if sweeps else TRAIN_POOL),
        *("--limit", str(_SWEEPS_AT_ONCE if sweeps else 1)),
    ]
    process = start(command, environment, home.logs / f"{name}.log")
    note(home, replace(process_of(name, process.pid), gpus=gpus))
    return process


def wait_for_workers(
    settings: Settings, home: Home, started: dict[str, "subprocess.Popen[bytes]"], since: datetime
) -> None:
    """Wait until the server has heard from every worker.

    Raises:
        StackError: a worker ended, or said nothing for half a minute.
    """
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
        silent -= {name for name, heard in worker_heartbeats(settings).items() if heard >= since}


def worker_heartbeats(settings: Settings) -> dict[str, datetime]:
    """When the server last heard from each worker of the two pools."""
    with prefect_client(settings) as client:
        return {
            worker.name: worker.last_heartbeat_time
            for pool in (CONTROL_POOL, TRAIN_POOL)
            for worker in client.read_workers_for_work_pool(pool)
            if worker.last_heartbeat_time is not None
        }


def restart_server(settings: Settings, home: Home, name: str) -> None:
    """Start a server that has died again, on its records, and wait until it answers.

    Raises:
        PortTakenError: a stranger listens on its port.
        StackError: it does not start.
    """
    if name == "prefect-server":
        port, what, page = settings.prefect_port, "Prefect", f"{settings.prefect_api}/health"
    else:
        port, what, page = settings.mlflow_port, "MLflow", f"{settings.mlflow_address}/health"
    require_free(settings.host, port, what=what, setting=f"ISOFLOP_{what.upper()}_PORT")
    wait_healthy(page, start_server(settings, home, name), home.logs / f"{name}.log")
    if name == "prefect-server":
        # Its database may be a new one.
        _deploy(settings, home)


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


def _crash_runs_in_flight(settings: Settings, home: Home) -> None:
    os.environ.update(prefect_environment(settings, home))
    with prefect_client(settings) as client:
        ids = [flow_run.id for flow_run in flow_runs_in_flight(client)]
    crash_flow_runs(settings, ids, "its worker was stopped by isoflop down")


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


def note(home: Home, process: Process) -> None:
    """Remember a process as soon as it runs, so that `down` finds it whatever happens next.

    It takes the place of an earlier one of its name.
    """
    others = [entry for entry in noted(home) if entry.name != process.name]
    entries = [asdict(entry) for entry in [*others, process]]
    write_whole(home.root / "stack.json", json.dumps(entries, indent=1))
