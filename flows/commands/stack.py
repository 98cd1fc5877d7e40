"""Commands up, down, status, doctor."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.commands.common import open_all, refusals, say

if TYPE_CHECKING:
    from flows.settings import Home, Settings


def up(
    *,
    workers: Annotated[int | None, Parameter(help="training workers; default one per CPU")] = None,
    gpus: Annotated[str | None, Parameter(help="one worker for each, as in 0,1,3")] = None,
    ranks: Annotated[int, Parameter(help="GPUs of each worker, for placement.ranks")] = 1,
) -> None:
    """Start Prefect, MLflow, pools and workers on this machine, and deploy prefect.yaml."""
    from flows.commands.common import fail
    from flows.settings import Settings, checkout, cpu_slots
    from flows.stack.processes import running
    from flows.stack.servers import PortTakenError, StackError
    from flows.stack.up import up as start

    if workers is not None and workers < 1:
        fail(f"--workers {workers} is less than one.")
    pinned = _pinned(gpus, ranks) if gpus else [None] * (workers or cpu_slots())
    settings, home = _open()
    if not running(home):
        # What a stack that is gone noted of its addresses binds nobody.
        settings = Settings()
    try:
        start(settings, home, slots=pinned, say=_say)
    except PortTakenError as error:
        fail(str(error))
    except StackError as error:
        print(f"isoflop: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    print(f"Prefect  {settings.prefect_address}")
    print(f"MLflow   {settings.mlflow_address}")
    # In a checkout pyproject.toml gives `prefect` the default address; otherwise a variable must.
    known = settings.prefect_port == 4200 and settings.host == "127.0.0.1"
    known = known and checkout() == Path.cwd()
    api = "" if known else f"PREFECT_API_URL={settings.prefect_api} "
    print(f"next:    {api}prefect deployment run sweep/chinchilla     (stop all: isoflop down)")


def _pinned(gpus: str, ranks: int) -> list[str | None]:
    """The GPUs of each worker, as CUDA_VISIBLE_DEVICES has them; a bad list is refused."""
    from flows.commands.common import fail

    try:
        numbers = [int(gpu) for gpu in gpus.split(",")]
    except ValueError:
        fail(f"--gpus {gpus!r} is not a list of numbers such as 0,1,3.")
    import torch

    there = torch.cuda.device_count()
    if max(numbers) >= there or min(numbers) < 0:
        fail(f"--gpus {gpus}: this machine has {there} GPUs, numbered from 0.")
    if ranks < 1 or len(numbers) % ranks:
        fail(f"--gpus {gpus} are {len(numbers)}, which do not make groups of --ranks {ranks}.")
    groups = [numbers[first : first + ranks] for first in range(0, len(numbers), ranks)]
    return [",".join(map(str, group)) for group in groups]


def down() -> None:
    """Stop what `isoflop up` started; runs in flight resume when started again."""
    from flows.stack.up import down as stop

    stopped = stop(*_open())
    print(f"stopped {len(stopped)} processes" if stopped else "nothing was running")


def status(
    *,
    json: Annotated[
        str | None, Parameter(allow_leading_hyphen=True, help="file, or - for standard output")
    ] = None,
) -> None:
    """Servers, workers, sweeps and runs of this home, with the age of each sign of life."""
    from flows.commands.output import emit, table
    from flows.health.status import read_status
    from flows.watch.progress import ago

    found = read_status(*_open())
    if json is not None:
        emit(found, json)
        return
    if found["processes"]:
        table(
            "processes",
            ["process", "pid", "state", "heard of"],
            [
                [one["process"], str(one["pid"]), one["state"], ago(one["heartbeat_s"])]
                for one in found["processes"]
            ],
        )
    else:
        print("no stack is up here; to start one: isoflop up")
    if found["sweeps"]:
        table(
            "sweeps",
            ["sweep", "finished", "failed", "running", "to do"],
            [list(one.values()) for one in found["sweeps"]],
        )
    else:
        print("no sweep was started in this home yet")
    if found["runs"]:
        table(
            "runs in flight",
            ["sweep", "run", "id", "step", "nats/token", "tokens/s", "newest row"],
            [
                [
                    *(one["sweep"], one["name"], one["run_id"]),
                    f"{one['step']:,}/{one['steps']:,}",
                    "" if one["loss"] is None else f"{one['loss']:.4f}",
                    "" if one["tokens_per_s"] is None else f"{one['tokens_per_s']:,.0f}",
                    ago(one["heartbeat_s"]),
                ]
                for one in found["runs"]
            ],
        )
    print(f"Prefect  {found['prefect']}\nMLflow   {found['mlflow']}")
    print(
        f"disk     {found['disk_free_gib']:.1f} of {found['disk_total_gib']:.1f} GiB free "
        f"in {found['home']}"
    )
    if any(one["state"] != "running" for one in found["processes"]):
        print("Something of the stack is not well: isoflop doctor")


def doctor(
    *,
    dry_run: Annotated[bool, Parameter(negative=(), help="only look, touch nothing")] = False,
    json: Annotated[
        str | None, Parameter(allow_leading_hyphen=True, help="file, or - for standard output")
    ] = None,
) -> None:
    """Find what is wrong with this home and its stack, and mend it.

    Nothing that was paid for is removed: what is in the way is set aside. Exit status 0 when all
    is well or mended, 1 when something is left to do.
    """
    from dataclasses import asdict

    from flows.commands.output import emit
    from flows.health.examine import examine

    checks = examine(*_open(), mend=not dry_run)
    left = sum(bool(finding.remedy) for _, findings in checks for finding in findings)
    if json is not None:
        named = {name: [asdict(finding) for finding in findings] for name, findings in checks}
        emit({"checks": named, "left": left}, json)
    else:
        for name, findings in checks:
            if not findings:
                print(f"well     {name}")
            for finding in findings:
                print(f"{'to do' if finding.remedy else 'mended':8} {name}: {finding.what}")
                for words in (finding.done, finding.remedy):
                    if words:
                        print(f"         {words}")
    if left:
        raise SystemExit(1)


def _open() -> "tuple[Settings, Home]":
    from pydantic import ValidationError

    from flows.commands.common import fail
    from flows.settings import HomeError, open_home, open_settings

    try:
        settings = open_settings()
        return settings, open_home(settings)
    except ValidationError as error:
        [fault, *_] = error.errors()
        fail(f"ISOFLOP_{str(fault['loc'][0]).upper()}={fault['input']}: {fault['msg']}")
    except HomeError as error:
        fail(str(error))


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def sync() -> None:
    """Write to MLflow whatever its mirror lacks; writing twice changes nothing."""
    from flows.mirror.client import mirror_error
    from flows.mirror.sync import sync_all
    from flows.settings import masked

    with refusals():
        settings, home = open_all()
    where = masked(settings.tracking_uri(home))
    try:
        count = sync_all(settings, home)
    except mirror_error() as error:
        reason = str(error).partition("\n")[0][:200]
        say(f"isoflop: MLflow at {where} cannot be written ({reason}). Try: isoflop doctor")
        raise SystemExit(1) from None
    print(f"{count} runs are up to date in {where}")
