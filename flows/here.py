"""A Prefect server for as long as a sweep runs in this process."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flows.servers import (
    free_port,
    healthy,
    prefect_environment,
    start_prefect_server,
    wait_healthy,
)
from flows.settings import Home, Settings


@contextmanager
def prefect_here(settings: Settings, home: Home, say: Callable[[str], None]) -> Iterator[None]:
    """Point Prefect at the server of `isoflop up`, or at one of our own on this home's database.

    The environment is set before Prefect is imported. Our own server uses a free port, ends with
    this process, also when that is killed (Linux), and what it recorded is shown by the next
    `isoflop up`.

    Raises:
        StackError: the server did not start.
    """
    if healthy(f"{settings.prefect_api}/health"):
        os.environ.update(_quiet(prefect_environment(settings, home)))
        yield
        return
    say("starting Prefect")
    port = free_port(settings.host)
    os.environ.update(_quiet(prefect_environment(settings, home, port=port)))
    server = start_prefect_server(settings, home, port=port, tied=True)
    try:
        address = f"http://{settings.host}:{port}/api/health"
        wait_healthy(address, server, home.logs / "prefect-server.log")
        yield
    finally:
        # Log lines still queued would be sent, in vain and for a minute, after the server is gone.
        for name in ("prefect.flow_runs", "prefect.task_runs"):
            for handler in logging.getLogger(name).handlers:
                handler.flush()
        server.terminate()
        server.wait()


def _quiet(environment: dict[str, str]) -> dict[str, str]:
    """The live table has the terminal; Prefect's own log lines go to its server only."""
    return {**environment, "PREFECT_LOGGING_LEVEL": "ERROR"}
