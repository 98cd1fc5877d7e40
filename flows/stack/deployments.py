"""What `isoflop up` deploys, and when it has to be deployed again."""

import hashlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from flows.files import write_whole
from flows.settings import CONTROL_POOL, ROOT, TRAIN_POOL, Home, Settings, checkout
from flows.stack.flow_runs import prefect_client
from flows.stack.servers import StackError, prefect_environment

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

_FILE = ROOT / "flows" / "deploy" / "prefect.yaml"
_ZOMBIES = "isoflop: crash runs without a heartbeat"
_ZOMBIE_AFTER_S = 90
_STUCK = "isoflop: crash runs that were picked up and not started"
# Importing torch on a machine that is short of memory takes minutes.
_STUCK_AFTER_S = 300


def deploy(settings: Settings, home: Home) -> None:
    """Make the pools, the automations and the deployments of prefect.yaml."""
    environment = {**os.environ, **prefect_environment(settings, home)}
    os.environ.update(prefect_environment(settings, home))
    from prefect.client.schemas.actions import WorkPoolCreate

    with prefect_client(settings) as client:
        for pool in (CONTROL_POOL, TRAIN_POOL):
            client.create_work_pool(WorkPoolCreate(name=pool, type="process"), overwrite=True)
        for automation in (_zombie_automation(), _stuck_automation()):
            if not client.read_automations_by_name(automation.name):
                client.create_automation(automation)
        if is_deployed(home) and _on_server(client):
            return
    done = subprocess.run(
        [
            *(sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"),
            *("--prefect-file", _FILE),
        ],
        # Also the working directory of every sweep and training.
        cwd=checkout() or home.root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StackError(f"prefect deploy failed: {(done.stderr or done.stdout).strip()[-500:]}")
    write_whole(home.root / "deployed.json", json.dumps(_version()))


def is_deployed(home: Home) -> bool:
    """Whether the deployments of this home's server were made by this code."""
    try:
        return bool(json.loads((home.root / "deployed.json").read_text()) == _version())
    except (FileNotFoundError, ValueError):
        return False


def _version() -> dict[str, str]:
    """Where this code lies, and a digest of prefect.yaml and of every module a flow imports."""
    digest = hashlib.sha256(_FILE.read_bytes())
    for package in ("flows", "sweeps", "llama_core"):
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(path.read_bytes())
    return {"root": str(ROOT), "sha256": digest.hexdigest()}


def _on_server(client: "SyncPrefectClient") -> bool:
    """Whether the server has the deployments, on the pools of prefect.yaml."""
    from prefect.exceptions import ObjectNotFound

    try:
        return all(
            client.read_deployment_by_name(name).work_pool_name == pool
            for name, pool in (("sweep/chinchilla", CONTROL_POOL), ("train/run", TRAIN_POOL))
        )
    except ObjectNotFound:
        return False


def _zombie_automation() -> "AutomationCore":
    """Crash a run that sends no heartbeat for 90 s: its worker or machine has died."""
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
    """Crash a run that a worker picked up and did not start: the worker has died."""
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
