"""What `isoflop up` deploys, and when it must be deployed again."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.files import write_whole
from flows.settings import CONTROL_POOL, TRAIN_POOL, Home, Settings
from flows.stack.flow_runs import prefect_client
from flows.stack.servers import StackError, prefect_environment

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore


ROOT = Path(__file__).resolve().parents[2]
_ZOMBIES = "isoflop: crash runs without a heartbeat"
_ZOMBIE_AFTER_S = 90
_STUCK = "isoflop: crash runs that were picked up and not started"
# Importing torch on a machine that is short of memory takes minutes.
_STUCK_AFTER_S = 300


def deploy(settings: Settings, home: Home) -> None:
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
        for path in sorted((ROOT / package).rglob("*.py")):
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
