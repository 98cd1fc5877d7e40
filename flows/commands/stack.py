"""Commands up, down, status."""

import os
import sys
from typing import Annotated

from cyclopts import Parameter


def up(
    *,
    workers: Annotated[int | None, Parameter(help="training workers; default one per CPU")] = None,
    gpus: Annotated[str | None, Parameter(help="one worker for each, as in 0,1,3")] = None,
) -> None:
    """Start Prefect, MLflow, pools and workers on this machine, and deploy prefect.yaml."""
    from flows.cli import fail
    from flows.servers import PortTakenError, StackError
    from flows.settings import HomeError, Settings, open_home
    from flows.stack import up as start

    settings = Settings()
    try:
        slots = [int(gpu) for gpu in gpus.split(",")] if gpus else []
    except ValueError:
        fail(f"--gpus {gpus!r} is not a list of numbers such as 0,1,3.")
    if workers is not None and workers < 1:
        fail(f"--workers {workers} is less than one.")
    count = workers or len(os.sched_getaffinity(0))
    try:
        home = open_home(settings)
        start(settings, home, workers=count, gpus=slots, say=_say)
    except (HomeError, PortTakenError) as error:
        fail(str(error))
    except StackError as error:
        print(f"isoflop: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    print(f"Prefect  {settings.prefect_address}")
    print(f"MLflow   {settings.mlflow_address}")
    print("next:    prefect deployment run sweep/chinchilla     (stop all: isoflop down)")


def down() -> None:
    """Stop what `isoflop up` started; runs in flight resume when started again."""
    from flows.settings import open_home
    from flows.stack import down as stop

    stopped = stop(open_home())
    print(f"stopped {len(stopped)} processes" if stopped else "nothing was running")


def status(
    *,
    json: Annotated[
        str | None, Parameter(allow_leading_hyphen=True, help="file, or - for standard output")
    ] = None,
) -> None:
    """Servers, workers, sweeps and runs of this home."""
    from flows.output import emit, table
    from flows.settings import Settings, open_home
    from flows.status import read_status

    found = read_status(Settings(), open_home())
    if json is not None:
        emit(found, json)
        return
    table("processes", ["process", "pid", "state"], found["processes"])
    table("sweeps", ["sweep", "finished", "failed", "running", "to do"], found["sweeps"])
    print(f"disk free {found['disk_free_gib']:.1f} GiB in {found['home']}")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
