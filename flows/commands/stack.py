"""Commands up, down, status, doctor, sync."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from analysis.words import counted
from flows.commands.common import (
    Json,
    fail,
    failures,
    open_all,
    open_all_to_read,
    refusals,
    say,
)

if TYPE_CHECKING:
    from flows.stack.slurm import SlurmWorkers


def up(
    *,
    workers: Annotated[int | None, Parameter(help="training workers; default one per CPU")] = None,
    gpus: Annotated[str | None, Parameter(help="one worker for each, as in 0,1,3")] = None,
    ranks: Annotated[int, Parameter(help="GPUs of each worker, for placement.ranks")] = 1,
    slurm: Annotated[
        str | None, Parameter(help="a partition: workers are --workers jobs of Slurm there")
    ] = None,
    gpus_per_worker: Annotated[
        int | None, Parameter(help="with --slurm: GPUs of each job on each node; 0: CPU; default 1")
    ] = None,
    nodes_per_worker: Annotated[
        int | None, Parameter(help="with --slurm: nodes of each job; default 1")
    ] = None,
) -> None:
    """Start Prefect, MLflow, the dashboard, pools and workers, and deploy prefect.yaml.

    The servers run on this machine, and so do the workers, or they are jobs of Slurm.
    """
    from flows.settings import Settings, checkout
    from flows.stack.processes import running
    from flows.stack.servers import StackError, check_ports
    from flows.stack.slurm import SlurmError, check_slurm
    from flows.stack.up import up as start
    from llama_core.cores import usable_cores

    if workers is not None and workers < 1:
        fail(f"--workers {workers} is less than one.")
    pinned: list[str | None] = []
    wanted = None
    if slurm is not None:
        if gpus or ranks != 1:
            fail("--gpus and --ranks are of this machine; with --slurm give --gpus-per-worker.")
        wanted = _slurm_workers(slurm, workers, gpus_per_worker, nodes_per_worker)
    elif gpus_per_worker is not None or nodes_per_worker is not None:
        fail("--gpus-per-worker and --nodes-per-worker belong to --slurm PARTITION.")
    else:
        pinned = _pinned(gpus, ranks) if gpus else [None] * (workers or usable_cores())
    with refusals(), failures(StackError, SlurmError):
        settings, home = open_all()
        if not running(home):
            # Addresses that an earlier stack recorded no longer count.
            settings = Settings()
        check_ports(settings)
        if wanted is not None:
            check_slurm(wanted, settings)
        start(settings, home, slots=pinned, slurm=wanted, say=say)
    print(f"Prefect    {settings.prefect_address}")
    print(f"MLflow     {settings.mlflow_address}")
    print(f"dashboard  {settings.dashboard_address}")
    # `prefect` reads the default address from a checkout's pyproject.toml, else its environment.
    default = settings.prefect_port == 4200 and settings.host == "127.0.0.1"
    known = default and checkout() == Path.cwd()
    address = "" if known else f"PREFECT_API_URL={settings.prefect_api} "
    print(
        f"next:      {address}prefect deployment run sweep/chinchilla     (stop all: isoflop down)"
    )
    print("or:        isoflop submit chinchilla")


def _slurm_workers(
    partition: str, workers: int | None, gpus: int | None, nodes: int | None
) -> "SlurmWorkers":
    """The workers wanted of Slurm; refuses numbers out of range."""
    from flows.stack.slurm import SlurmWorkers

    if workers is None:
        fail(f"--slurm {partition} needs --workers: how many jobs, as in --workers 8.")
    if gpus is not None and gpus < 0:
        fail(f"--gpus-per-worker {gpus} is less than 0, which trains on the CPU.")
    if nodes is not None and nodes < 1:
        fail(f"--nodes-per-worker {nodes} is less than one.")
    return SlurmWorkers(partition, workers, 1 if gpus is None else gpus, nodes or 1)


def _pinned(gpus: str, ranks: int) -> list[str | None]:
    """CUDA_VISIBLE_DEVICES of each worker; refuses a bad list."""
    try:
        numbers = [int(gpu) for gpu in gpus.split(",")]
    except ValueError:
        fail(f"--gpus {gpus!r} is not a list of numbers such as 0,1,3.")
    import torch

    count = torch.cuda.device_count()
    if not count:
        fail(f"--gpus {gpus}: this machine has no GPU.")
    if max(numbers) >= count or min(numbers) < 0:
        fail(f"--gpus {gpus}: this machine has {counted(count, 'GPU')}, numbered from 0.")
    if ranks < 1 or len(numbers) % ranks:
        fail(f"--gpus {gpus}: {len(numbers)} GPUs do not divide into groups of --ranks {ranks}.")
    groups = [numbers[first : first + ranks] for first in range(0, len(numbers), ranks)]
    return [",".join(map(str, group)) for group in groups]


def down() -> None:
    """Stop what `isoflop up` started, Slurm jobs too; runs in flight resume when started again."""
    from flows.stack.slurm import SlurmError
    from flows.stack.up import down as stop

    with refusals(), failures(SlurmError):
        settings, home = open_all()
        stopped = stop(settings, home)
    if not stopped.processes and not stopped.jobs:
        print("nothing was running")
        return
    jobs = f" and {counted(stopped.jobs, 'Slurm job')}" if stopped.jobs else ""
    print(f"stopped {counted(stopped.processes, 'process', 'processes')}{jobs}")


def status(*, json: Json = None) -> None:
    """Servers, workers, sweeps and runs of this home, with the age of each heartbeat."""
    from flows.commands.output import emit, table
    from flows.health.status import read_status

    with refusals():
        settings, home = open_all_to_read()
    document = read_status(settings, home)
    if json is not None:
        emit(document, json)
        return
    _print_processes(document["processes"])
    if document["slurm"]:
        _print_slurm(document["slurm"])
    if document["sweeps"]:
        table(
            "sweeps",
            ["sweep", "finished", "failed", "running", "to do"],
            [list(sweep.values()) for sweep in document["sweeps"]],
        )
    else:
        print("no sweep was started in this home yet")
    _print_in_flight(document["runs"])
    for name, words in (("prefect", "Prefect"), ("mlflow", "MLflow"), ("dashboard", "dashboard")):
        print(f"{words:<10} {document[name]}")
    print(
        f"disk       {document['disk_free_gib']:.1f} of {document['disk_total_gib']:.1f} GiB free "
        f"in {document['home']}"
    )
    if any(process["state"] != "running" for process in document["processes"]):
        print("A part of the stack is not well. To find out which: isoflop doctor")


def _print_processes(processes: list[dict[str, Any]]) -> None:
    from flows.commands.output import table
    from flows.watch.progress import ago

    if not processes:
        print("no stack is up here; to start one: isoflop up")
        return
    table(
        "processes",
        ["process", "pid", "state", "last heard of"],
        [
            [each["process"], str(each["pid"]), each["state"], ago(each["heartbeat_s"])]
            for each in processes
        ],
    )


def _print_in_flight(runs: list[dict[str, Any]]) -> None:
    from flows.commands.output import table
    from flows.watch.progress import ago

    if not runs:
        return
    table(
        "runs in flight",
        ["sweep", "run", "id", "step", "nats/token", "tokens/s", "newest row"],
        [
            [
                *(run["sweep"], run["name"], run["run_id"]),
                f"{run['step']:,}/{run['steps']:,}",
                "" if run["loss"] is None else f"{run['loss']:.4f}",
                "" if run["tokens_per_s"] is None else f"{run['tokens_per_s']:,.0f}",
                ago(run["heartbeat_s"]),
            ]
            for run in runs
        ],
    )


def _print_slurm(slurm: dict[str, Any]) -> None:
    from flows.commands.output import table
    from flows.watch.progress import ago

    started = [job for job in slurm["jobs"] if job["state"] != "PENDING"]
    reasons = [job["reason"] for job in slurm["jobs"] if job["state"] == "PENDING"]
    if started:
        table(
            "Slurm jobs",
            ["job", "node", "state", "time left", "last heard of"],
            [
                [job["id"], job["node"], job["state"].lower(), job["left"], ago(job["heartbeat_s"])]
                for job in started
            ],
        )
    why = f" ({', '.join(sorted(set(reasons)))})" if reasons else ""
    running = sum(job["state"] == "RUNNING" for job in started)
    print(
        f"Slurm      {running} of {counted(slurm['count'], 'job')} in {slurm['partition']} "
        f"running, {len(reasons)} pending{why}"
    )
    if slurm["error"]:
        print(f"           unknown: {slurm['error']}")


def doctor(
    *,
    dry_run: Annotated[bool, Parameter(help="only look, change nothing")] = False,
    json: Json = None,
) -> None:
    """Find faults of this home and its stack, and repair them.

    No result is ever removed: a file that is in the way is set aside. Exit status 0 when no fault
    is left, 1 otherwise.
    """
    from dataclasses import asdict

    from flows.commands.output import emit
    from flows.health.examine import examine
    from flows.settings import is_writable

    with refusals():
        settings, home = open_all_to_read()
        if not home.root.exists():
            settings, home = open_all()
    writable = is_writable(home)
    if not writable:
        say(f"isoflop: {home.root} cannot be written: nothing is repaired, MLflow not checked")
    checks = examine(settings, home, repair=writable and not dry_run)
    left = sum(bool(finding.remedy) for _, findings in checks for finding in findings)
    if json is not None:
        named = {name: [asdict(finding) for finding in findings] for name, findings in checks}
        emit({"checks": named, "left": left}, json)
    else:
        for name, findings in checks:
            if not findings:
                print(f"ok       {name}")
            for finding in findings:
                print(f"{'to do   ' if finding.remedy else 'repaired'} {name}: {finding.what}")
                for words in (finding.done, finding.remedy):
                    if words:
                        print(f"         {words}")
    if left:
        raise SystemExit(1)


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
    print(f"up to date in {where}: {counted(count, 'run')}")
