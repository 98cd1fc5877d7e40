"""A Prefect server for as long as a sweep runs in this process."""

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flows.settings import Home, Settings
from flows.stack.processes import alive, process_of, running
from flows.stack.servers import (
    free_port,
    healthy,
    prefect_environment,
    server_answers,
    start_prefect_server,
    stop,
    wait_healthy,
)


@contextmanager
def prefect_here(settings: Settings, home: Home, say: Callable[[str], None]) -> Iterator[None]:
    """Point Prefect at the server of `isoflop up`, or at one of our own on this home's database.

    A server named by PREFECT_API_URL is used as it is.

    The environment is set before Prefect is imported. Our own server uses a free port, ends with
    this process, also when that is killed (Linux), and what it recorded is shown by the next
    `isoflop up`.

    Raises:
        StackError: the server did not start.
    """
    # The live table has the terminal; Prefect's own log lines go to its server only.
    os.environ["PREFECT_LOGGING_LEVEL"] = "ERROR"
    theirs = os.environ.get("PREFECT_API_URL")
    if theirs and healthy(f"{theirs}/health"):
        yield
        return
    if running(home) and server_answers(settings):
        os.environ.update(prefect_environment(settings, home))
        yield
        return
    say("starting Prefect")
    port = free_port(settings.host)
    os.environ.update(prefect_environment(settings, home, port=port))
    with (home.root / "prefect.lock").open("w") as lock:
        # A fresh database must not be made by two servers at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        server = start_prefect_server(settings, home, port=port, tied=True)
        address = f"http://{settings.host}:{port}/api/health"
        wait_healthy(address, server, home.logs / "prefect-server.log")
    try:
        yield
    finally:
        # Log lines still queued would be sent, in vain and for a minute, after the server is gone.
        for name in ("prefect.flow_runs", "prefect.task_runs"):
            for handler in logging.getLogger(name).handlers:
                handler.flush()
        stop([process_of("prefect-server", server.pid)], alive)


def process_tag(pid: int) -> str:
    """The tag of a sweep that runs in a process of its own, by which its death can be seen."""
    return f"process {os.uname().nodename}:{pid}"
