"""What there is: processes of the stack, sweeps with their runs, disk."""

import shutil
from typing import Any

from flows.plan import read_plans
from flows.rundir import RunDir
from flows.servers import healthy
from flows.settings import Home, Settings
from flows.stack import running
from sweeps.plan import Plan

_GIB = 2**30


def read_status(settings: Settings, home: Home) -> dict[str, Any]:
    """Processes, sweeps and disk as plain data."""
    addresses = {
        "prefect-server": f"{settings.prefect_api}/health",
        "mlflow-server": f"{settings.mlflow_address}/health",
    }
    processes = [
        (
            process.name,
            process.pid,
            "running"
            if process.name not in addresses or healthy(addresses[process.name])
            else "not answering",
        )
        for process in running(home)
    ]
    return {
        "home": str(home.root),
        "prefect": settings.prefect_address,
        "mlflow": settings.mlflow_address,
        "processes": processes,
        "sweeps": [(plan.spec.name, *_count(plan, home)) for plan in read_plans(home)],
        "disk_free_gib": shutil.disk_usage(home.root).free / _GIB,
    }


def run_state(run: RunDir) -> str:
    """The result's status, or `training`, `interrupted`, `planned` while there is no result."""
    result = run.result()
    if result is not None:
        return result.status
    if run.busy():
        return "training"
    return "interrupted" if run.curve_path.exists() else "planned"


def _count(plan: Plan, home: Home) -> tuple[int, int, int, int]:
    """Runs of a plan that are finished, failed, training, and still to do."""
    states = [run_state(RunDir(home.runs / planned.id)) for planned in plan.runs]
    finished, training = states.count("finished"), states.count("training")
    to_do = states.count("interrupted") + states.count("planned")
    return finished, len(states) - finished - training - to_do, training, to_do
