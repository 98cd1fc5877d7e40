"""A worker's command and environment, on this machine or in a Slurm job. Loads no Prefect."""

import os
import sys
from pathlib import Path

from flows.settings import Home, Settings
from flows.stack.servers import prefect_environment


def worker_command(name: str, pool: str, limit: int) -> list[str]:
    """Arguments of Python that start a worker which runs up to `limit` flow runs at once."""
    return [
        *("-m", "prefect", "worker", "start", "--type", "process"),
        *("--name", name, "--pool", pool, "--limit", str(limit)),
    ]


def worker_environment(settings: Settings, home: Home) -> dict[str, str]:
    """What a worker of this home needs in its environment, on whatever machine."""
    # Prefect keeps files of runs in a folder of the temporary directory that belongs to the first
    # user of the machine.
    scratch = home.root / "tmp"
    scratch.mkdir(exist_ok=True)
    return {
        **prefect_environment(settings, home),
        "ISOFLOP_HOME": str(home.root),
        "TMPDIR": str(scratch),
        # The command of a training starts with `python`: it must be this one.
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
        # Show the log lines of our modules beside the flow run.
        "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,llama_core",
        "PREFECT_LOGGING_ROOT_LEVEL": "INFO",
    }
