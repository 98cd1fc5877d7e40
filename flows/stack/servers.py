"""Start, await and stop the processes of the local stack."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

from flows.processes import SAFE_PATH, die_with_parent
from flows.settings import Home, Settings
from flows.stack.processes import Process, group_members

_PROGRAMS = {
    "prefect-server": "Prefect",
    "mlflow-server": "MLflow",
    "dashboard-server": "Dashboard",
}
# A server that exits is noticed at once; this is for a busy machine.
_START_S = 180.0
_STOP_S = 15.0
# A port without a server refuses at once; this is for a server that is busy.
_ANSWER_S = 5.0
# Less than a server's database takes.
_NO_ROOM_BYTES = 2**20
# Services of the Prefect server that only matter with workers.
_FOR_WORKERS = (
    "CANCELLATION_CLEANUP",
    "FOREMAN",
    "LATE_RUNS",
    "PAUSE_EXPIRATIONS",
    "REPOSSESSOR",
    "SCHEDULER",
    "TRIGGERS",
)


class StackError(RuntimeError):
    """A server or worker did not start; the message names its log."""


class PortTakenError(ValueError):
    """A port that a server needs is in use."""


def prefect_environment(
    settings: Settings, home: Home, *, port: int | None = None
) -> dict[str, str]:
    """Environment of this home's Prefect server and of every process that talks to it.

    The database's address is the server's alone, see `start_prefect_server`.
    """
    port = port or settings.prefect_port
    return {
        "PREFECT_HOME": str(home.root / "prefect"),
        "PREFECT_API_URL": f"http://{settings.host}:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        # Missing heartbeats show that a run's worker died; Prefect allows no less than 30 s.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "1",
    }


def start_prefect_server(
    settings: Settings, home: Home, *, port: int, tied: bool
) -> subprocess.Popen[bytes]:
    """Start a Prefect server on this home's database.

    Args:
        tied: end it when this process ends, even by SIGKILL (Linux).
    """
    command = ["-m", "prefect", "server", "start", "--host", settings.host, "--port", str(port)]
    environment = {
        **prefect_environment(settings, home, port=port),
        "PREFECT_API_DATABASE_CONNECTION_URL": settings.prefect_database(home),
    }
    if tied:
        # It only records: without workers nothing has to be scheduled or cleaned up, and the CPU
        # time goes to the trainings. Blocks are for automations, and `isoflop up` registers them
        # unless a memo says that they are.
        environment |= {
            "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
            "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
            **{f"PREFECT_SERVER_SERVICES_{service}_ENABLED": "false" for service in _FOR_WORKERS},
        }
    return start(command, environment, home.logs / "prefect-server.log", tied=tied)


def start_mlflow_server(settings: Settings, home: Home) -> subprocess.Popen[bytes]:
    """Start an MLflow server on the tracking database, with one worker and no job processes.

    MLflow's defaults take three times as long to start and five times the memory.
    """
    command = [
        *("-m", "mlflow", "server", "--host", settings.host, "--port", str(settings.mlflow_port)),
        *("--workers", "1", "--default-artifact-root", "mlflow-artifacts:/"),
        *("--artifacts-destination", home.artifacts.as_uri()),
    ]
    environment = {
        # Not on the command line, which every user can read: the address may hold a password.
        "MLFLOW_BACKEND_STORE_URI": settings.mlflow_database(home),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
    }
    return start(command, environment, home.logs / "mlflow-server.log")


def start_dashboard_server(settings: Settings, home: Home) -> subprocess.Popen[bytes]:
    """Start the dashboard, which reads the home and links to the other two."""
    environment = {
        "ISOFLOP_HOME": str(home.root),
        "ISOFLOP_HOST": settings.host,
        **{
            f"ISOFLOP_{program.upper()}_PORT": str(getattr(settings, f"{program.lower()}_port"))
            for program in _PROGRAMS.values()
        },
    }
    log = home.logs / "dashboard-server.log"
    return start(["-m", "flows.dashboard.server"], environment, log)


def start(
    arguments: list[str], environment: dict[str, str], log: Path, *, tied: bool = False
) -> subprocess.Popen[bytes]:
    """Start this Python with arguments, in a session of its own; its output goes to a log."""
    parent = os.getpid()

    def prepare() -> None:
        # A process started from a non-interactive shell ignores SIGINT. Prefect turns the first
        # SIGTERM into SIGINT, which would be ignored too: only SIGKILL would stop it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if tied:
            die_with_parent(parent)

    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **SAFE_PATH, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=prepare,
        )


def wait_healthy(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the address answers.

    Raises:
        StackError: the process exited, or did not answer for three minutes.
    """
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            full = shutil.disk_usage(log.parent).free < _NO_ROOM_BYTES
            reason = "the disk is full" if full else f"exit {process.returncode}"
            raise StackError(f"{address} did not start ({reason}); see {log}")
        if healthy(address):
            return
        time.sleep(0.1)
    raise StackError(f"{address} did not answer within {_START_S:.0f} s; see {log}")


def healthy(address: str) -> bool:
    """Whether a GET of the address succeeds."""
    try:
        with urllib.request.urlopen(address, timeout=_ANSWER_S) as answer:  # noqa: S310 - our own address
            return bool(answer.status < 400)
    except (urllib.error.URLError, OSError):
        return False


def check_ports(settings: Settings) -> None:
    """Refuse two servers on one port, before one of them waits in vain.

    Raises:
        PortTakenError: two ports are equal.
    """
    names: dict[int, str] = {}
    for program in _PROGRAMS.values():
        name = f"{program.lower()}_port"
        port = getattr(settings, name)
        if port in names:
            first, second = (f"ISOFLOP_{each.upper()}" for each in (names[port], name))
            raise PortTakenError(f"{first} and {second} are both {port}: give each its own.")
        names[port] = name


def require_free(settings: Settings, name: str) -> None:
    """Check that no program listens on the port of a server, by its name in stack.json.

    Raises:
        PortTakenError: one does; the message names the setting that chooses another port.
    """
    program, port = _PROGRAMS[name], getattr(settings, f"{_PROGRAMS[name].lower()}_port")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, port))
        except OSError as error:
            raise PortTakenError(
                f"port {port} for {program} is in use ({error.strerror}). Stop the program that "
                f"listens there, or set ISOFLOP_{program.upper()}_PORT to another port."
            ) from error


def free_port(host: str) -> int:
    """A port that no program listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def stop(processes: list[Process]) -> None:
    """Stop process groups with SIGINT; kill those that keep running.

    It returns when no member runs: the child of a killed server holds its port a moment longer.
    """
    for signal_number in (signal.SIGINT, signal.SIGKILL):
        groups = [process.pid for process in processes if group_members(process)]
        for group in groups:
            # It may have ended since the check above.
            with suppress(ProcessLookupError):
                os.killpg(group, signal_number)
        deadline = time.monotonic() + _STOP_S
        while any(map(group_members, processes)) and time.monotonic() < deadline:
            time.sleep(0.1)


def health_pages(settings: Settings) -> dict[str, str]:
    """Address that answers while a server is well, by the server's name in stack.json."""
    return {
        "prefect-server": f"{settings.prefect_api}/health",
        "mlflow-server": f"{settings.mlflow_address}/health",
        "dashboard-server": f"{settings.dashboard_address}/health",
    }


def server_answers(settings: Settings) -> bool:
    """Whether the Prefect server of the settings answers."""
    return healthy(health_pages(settings)["prefect-server"])
