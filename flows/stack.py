"""The local stack as a whole: up, down, status. What runs is noted in HOME/stack.json."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

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
from flows.settings import Home, Settings

if TYPE_CHECKING:
    from prefect.events.schemas.automations import AutomationCore

ROOT = Path(__file__).resolve().parent.parent
_ZOMBIES = "isoflop: crash runs without a heartbeat"
_ZOMBIE_AFTER_S = 90


def up(
    settings: Settings, home: Home, *, workers: int, gpus: list[int], say: Callable[[str], None]
) -> None:
    """Start server, MLflow, pools and workers, and deploy prefect.yaml.

    Already running is fine: what is there stays. Anything that fails stops the rest again.

    Raises:
        PortTakenError: a stranger listens on a port we need.
        StackError: something did not start.
    """
    if running(home):
        say("the stack is already up")
        return
    require_free(
        settings.host, settings.prefect_port, what="Prefect", setting="ISOFLOP_PREFECT_PORT"
    )
    require_free(settings.host, settings.mlflow_port, what="MLflow", setting="ISOFLOP_MLFLOW_PORT")
    started: list[Process] = []
    try:
        say("starting the Prefect and MLflow servers")
        _start_servers(settings, home, started)
        say("making pools and deployments")
        _deploy(settings, home)
        say(f"starting {1 + (len(gpus) or workers)} workers")
        _start_workers(settings, home, started, workers=workers, gpus=gpus)
    except BaseException:
        stop(started, _alive)
        raise
    _note(home, started)


def down(home: Home) -> list[Process]:
    """Stop what `up` started; returns what was still running."""
    living = running(home)
    # Workers first, so that no server is missing while they say goodbye.
    stop([process for process in living if "worker" in process.name], _alive)
    stop([process for process in living if "worker" not in process.name], _alive)
    (home.root / "stack.json").unlink(missing_ok=True)
    return living


def running(home: Home) -> list[Process]:
    """Processes of the stack that are alive now."""
    try:
        noted = json.loads((home.root / "stack.json").read_text())
    except (FileNotFoundError, ValueError):
        return []
    return [process for process in (Process(**entry) for entry in noted) if _alive(process)]


def server_answers(settings: Settings) -> bool:
    """Whether the Prefect server of the settings answers."""
    return healthy(f"{settings.prefect_api}/health")


def _start_servers(settings: Settings, home: Home, started: list[Process]) -> None:
    from flows.tracking import open_tracker

    prefect = start_prefect_server(settings, home, port=settings.prefect_port, tied=False)
    started.append(_process("prefect-server", prefect.pid))
    # Its tables must be there before the server and any worker look for them.
    if settings.mlflow_uri is None:
        open_tracker(settings, home)
    mlflow = start_mlflow_server(settings, home)
    started.append(_process("mlflow-server", mlflow.pid))
    wait_healthy(f"{settings.prefect_api}/health", prefect, home.logs / "prefect-server.log")
    wait_healthy(f"{settings.mlflow_address}/health", mlflow, home.logs / "mlflow-server.log")


def _deploy(settings: Settings, home: Home) -> None:
    """Make the pools, the automation and the deployments of prefect.yaml."""
    environment = {**os.environ, **prefect_environment(settings, home)}
    os.environ.update(prefect_environment(settings, home))
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    with get_client(sync_client=True) as client:
        for pool in (settings.control_pool, settings.train_pool):
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


def _start_workers(
    settings: Settings, home: Home, started: list[Process], *, workers: int, gpus: list[int]
) -> None:
    slots = [{"CUDA_VISIBLE_DEVICES": str(gpu)} for gpu in gpus] or [{}] * workers
    wanted: list[tuple[str, str, int, dict[str, str]]] = [
        ("control-worker", settings.control_pool, 4, {})
    ] + [
        (f"train-worker-{number}", settings.train_pool, 1, slot)
        for number, slot in enumerate(slots)
    ]
    for name, pool, limit, extra in wanted:
        command = [
            *("-m", "prefect", "worker", "start", "--pool", pool, "--name", name),
            *("--limit", str(limit), "--type", "process"),
        ]
        environment = {
            **prefect_environment(settings, home),
            "ISOFLOP_HOME": str(home.root),
            "OMP_NUM_THREADS": "1" if not gpus else os.environ.get("OMP_NUM_THREADS", "8"),
            **extra,
        }
        process = start(command, environment, home.logs / f"{name}.log")
        started.append(_process(name, process.pid))


def _process(name: str, pid: int) -> Process:
    return Process(name=name, pid=pid, started_at=psutil.Process(pid).create_time())


def _alive(process: Process) -> bool:
    try:
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.started_at) < 1.0
        return same and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _note(home: Home, processes: list[Process]) -> None:
    noted = [
        {"name": process.name, "pid": process.pid, "started_at": process.started_at}
        for process in processes
    ]
    write_whole(home.root / "stack.json", json.dumps(noted, indent=1))
