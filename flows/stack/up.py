"""The local stack as a whole: start it, stop it, restart a server."""

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from analysis.words import counted
from flows.files import file_lock
from flows.settings import ADDRESSES, Home, Settings, note_addresses
from flows.stack.deployments import deploy, is_deployed, record_version
from flows.stack.flow_runs import crash_flow_runs, flow_runs_in_flight, prefect_client
from flows.stack.processes import alive, process_of, register, registered, running
from flows.stack.servers import (
    StackError,
    health_pages,
    prefect_environment,
    require_free,
    server_answers,
    start_dashboard_server,
    start_mlflow_server,
    start_prefect_server,
    stop,
    wait_healthy,
)
from flows.stack.slurm import SlurmError, SlurmWorkers, cancel_jobs, top_up, wait_for_jobs
from flows.stack.workers import start_worker, wait_for_workers


@dataclass(frozen=True, slots=True)
class Stopped:
    """What `down` stopped: processes of this machine and jobs of Slurm that were alive."""

    processes: int
    jobs: int


def up(
    settings: Settings,
    home: Home,
    *,
    slots: Sequence[str | None],
    slurm: SlurmWorkers | None = None,
    say: Callable[[str], None],
) -> None:
    """Start the servers, pools and workers, and deploy prefect.yaml.

    Args:
        slots: the GPUs of each training worker on this machine, such as `0` or `0,1`; None: CPU.
        slurm: training workers elsewhere; those missing are submitted to a stack that is up too.

    A stack that is up stays. A stack that another version started, or a part of which has died,
    is stopped and started whole. If a start fails, what had started is stopped again.

    Raises:
        PortTakenError: another program listens on a port we need.
        StackError: something did not start, or another version's stack is busy.
        SlurmError: Slurm refused the jobs; the rest of the stack is up.
    """
    with file_lock(home.root / "stack.lock"):
        _bring_up(settings, home, slots, say)
        if slurm is not None:
            if not server_answers(settings):
                # It was started with another ISOFLOP_HOST or port.
                raise StackError(
                    f"the stack that is up does not answer at {settings.prefect_api}, where the "
                    "workers would look for it. Stop it (isoflop down), then repeat isoflop up."
                )
            submitted = top_up(settings, home, slurm)
            logs = f"{home.logs}/slurm-{submitted}_*.log"
            say(f"submitted to Slurm: {submitted}, {logs}" if submitted else "its jobs are there")


def _bring_up(
    settings: Settings, home: Home, slots: Sequence[str | None], say: Callable[[str], None]
) -> None:
    """Start what runs on this machine, unless all of it does."""
    processes = registered(home)
    if processes and all(alive(process) for process in processes):
        if is_deployed(home):
            say("the stack is already up")
            return
        _require_idle(settings)
        say("another version of isoflop started this stack; starting all of it again")
        down(settings, home)
    elif running(home):
        say("a part of the stack has died; starting all of it again")
        down(settings, home)
    for name in health_pages(settings):
        require_free(settings, name)
    try:
        # No other process may create the tables of a fresh tracking database meanwhile.
        with file_lock(home.root / "mlflow.lock"):
            _start_all(settings, home, slots, say)
    except BaseException:
        say("stopping again what had started")
        down(settings, home)
        raise


def _start_all(
    settings: Settings, home: Home, slots: Sequence[str | None], say: Callable[[str], None]
) -> None:
    """Start all servers at once, deploy and start workers meanwhile: MLflow takes the longest."""
    say("starting the Prefect and MLflow servers and the dashboard")
    note_addresses(settings, home)
    pages = health_pages(settings)
    servers = {name: start_server(settings, home, name) for name in pages}

    def wait_for(name: str) -> None:
        wait_healthy(pages[name], servers[name], home.logs / f"{name}.log")

    wait_for("prefect-server")
    say("making pools and deployments")
    deploy(settings, home)
    here = f"{counted(len(slots), 'training worker')}, and one" if slots else "a worker"
    say(f"starting {here} for sweeps")
    since = datetime.now(UTC)
    wanted: dict[str, str | None] = {"control-worker": None}
    wanted |= {f"train-worker-{number}": gpus for number, gpus in enumerate(slots)}
    started = {name: start_worker(settings, home, name, gpus) for name, gpus in wanted.items()}
    wait_for("mlflow-server")
    wait_for("dashboard-server")
    wait_for_workers(settings, home, started, since, say=say)
    record_version(home)


def down(settings: Settings, home: Home) -> Stopped:
    """Stop what `up` started.

    Raises:
        SlurmError: Slurm does not answer, and its jobs may still run; all else is stopped.
    """
    living, started = running(home), registered(home)
    cancelled: int | SlurmError
    try:
        cancelled = cancel_jobs(home)
    except SlurmError as error:
        cancelled = error
    # Workers first: they report to the servers as they end.
    stop([process for process in started if "worker" in process.name])
    try:
        wait_for_jobs(home)
    except SlurmError as error:
        cancelled = error
    if server_answers(settings):
        os.environ.update(prefect_environment(settings, home))
        with prefect_client(settings) as client:
            ids = [flow_run.id for flow_run in flow_runs_in_flight(client)]
        crash_flow_runs(settings, ids, "its worker was stopped by isoflop down")
    stop([process for process in started if "worker" not in process.name])
    for name in ("stack.json", ADDRESSES):
        (home.root / name).unlink(missing_ok=True)
    if isinstance(cancelled, SlurmError):
        raise cancelled
    return Stopped(len(living), cancelled)


def _require_idle(settings: Settings) -> None:
    """Refuse to stop another version's stack while flow runs need it: they would not resume."""
    if not server_answers(settings):
        return
    with prefect_client(settings) as client:
        names = [flow_run.name for flow_run in flow_runs_in_flight(client)]
    if names:
        raise StackError(
            "another version of isoflop started this stack, and it must be started again, but "
            f"{counted(len(names), 'flow run')} in flight: {', '.join(names[:5])}. "
            "Wait until they end, or stop them (isoflop down); then isoflop up."
        )


def start_server(settings: Settings, home: Home, name: str) -> "subprocess.Popen[bytes]":
    """Start a server by its name in `health_pages`, and register it."""
    if name == "prefect-server":
        process = start_prefect_server(settings, home, port=settings.prefect_port, tied=False)
    elif name == "mlflow-server":
        process = start_mlflow_server(settings, home)
    else:
        process = start_dashboard_server(settings, home)
    register(home, process_of(name, process.pid))
    return process


def restart_server(settings: Settings, home: Home, name: str) -> None:
    """Start a server that died again, on the same database, and wait until it answers.

    Raises:
        PortTakenError: another program listens on its port.
        StackError: it did not start.
    """
    require_free(settings, name)
    server = start_server(settings, home, name)
    wait_healthy(health_pages(settings)[name], server, home.logs / f"{name}.log")
    if name == "prefect-server":
        # Its database may be new.
        deploy(settings, home)
