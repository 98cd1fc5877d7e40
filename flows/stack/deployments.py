"""What `isoflop up` deploys, and when it has to be deployed again."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from flows.files import read_object, write_whole
from flows.settings import CONTROL_POOL, ROOT, TRAIN_POOL, Home, Settings, checkout
from flows.stack.flow_runs import prefect_client
from flows.stack.servers import StackError, prefect_environment

_FILE = ROOT / "flows" / "deploy" / "prefect.yaml"
_ZOMBIE_AFTER_S = 90
# Importing torch on a machine that is short of memory takes minutes.
_STUCK_AFTER_S = 300


def deploy(settings: Settings, home: Home) -> None:
    """Make the pools, the automations and the deployments of prefect.yaml."""
    os.environ.update(prefect_environment(settings, home))
    with prefect_client(settings) as client:
        for pool in (CONTROL_POOL, TRAIN_POOL):
            client.create_work_pool(WorkPoolCreate(name=pool, type="process"), overwrite=True)
        for automation in _automations():
            if not client.read_automations_by_name(automation.name):
                client.create_automation(automation)
        if is_deployed(home):
            if _on_server(client):
                return
        else:
            # Running workers may be another version's, even after this deployment.
            _stamp(home).unlink(missing_ok=True)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"),
            *("--prefect-file", _FILE),
        ],
        # Also the working directory of every sweep and training.
        cwd=checkout() or home.root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StackError(f"prefect deploy failed: {(done.stderr or done.stdout).strip()[-500:]}")


def record_version(home: Home) -> None:
    """Record that this code made the deployments and started all workers."""
    write_whole(_stamp(home), json.dumps(_version()))


def is_deployed(home: Home) -> bool:
    """Whether this code made the deployments and started the workers of this home's stack."""
    return read_object(_stamp(home)) == _version()


def _stamp(home: Home) -> Path:
    return home.root / "deployed.json"


def _version() -> dict[str, str]:
    """The path of this code, and a digest of the files that define flows and their parameters."""
    digest = hashlib.sha256(_FILE.read_bytes())
    for package in ("flows", "sweeps", "llama_core"):
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(path.read_bytes())
    return {"root": str(ROOT), "sha256": digest.hexdigest()}


def _on_server(client: SyncPrefectClient) -> bool:
    """Whether the server has the deployments, on the pools of prefect.yaml."""
    try:
        return all(
            client.read_deployment_by_name(name).work_pool_name == pool
            for name, pool in (("sweep/chinchilla", CONTROL_POOL), ("train/run", TRAIN_POOL))
        )
    except ObjectNotFound:
        return False


def _automations() -> list[AutomationCore]:
    """Crash runs whose worker died, before it started them or while they ran."""
    progress = ("Running", "Completed", "Failed", "Crashed", "Cancelled", "Cancelling", "Scheduled")
    return [
        _crash_unless(
            "isoflop: crash runs without a heartbeat",
            after="heartbeat",
            unless=["*"],
            seconds=_ZOMBIE_AFTER_S,
            message=f"no heartbeat for {_ZOMBIE_AFTER_S} s: its worker is gone",
        ),
        _crash_unless(
            "isoflop: crash runs that were picked up and not started",
            after="Pending",
            unless=progress,
            seconds=_STUCK_AFTER_S,
            message=f"picked up and not started for {_STUCK_AFTER_S} s: its worker is gone",
        ),
    ]


def _crash_unless(
    name: str, *, after: str, unless: Sequence[str], seconds: int, message: str
) -> AutomationCore:
    """Crash a flow run when no event of `unless` follows the event `after` within `seconds`."""
    return AutomationCore(
        name=name,
        trigger=EventTrigger(
            after={f"prefect.flow-run.{after}"},
            expect={f"prefect.flow-run.{event}" for event in unless},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=seconds),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=message)],
    )
