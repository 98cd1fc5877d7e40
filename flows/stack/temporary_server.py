"""A Prefect server that lives as long as a sweep in this process."""

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from flows.files import file_lock
from flows.settings import Home, Settings
from flows.stack.processes import process_of, running
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
def prefect_server(
    settings: Settings, home: Home, say: Callable[[str], None]
) -> Iterator[Callable[[], None]]:
    """Use the server of PREFECT_API_URL, else that of `isoflop up`, else start a temporary one.

    Yields at once, so that other things can be prepared meanwhile, a function that waits until
    the server answers.

    Sets the environment, so it must run before Prefect is imported. A temporary server uses a free
    port and this home's database, so that the next `isoflop up` shows what it recorded. It ends
    with this process, even if that is killed (Linux).

    Raises:
        StackError: the server did not start; from the function.
    """
    # The live table uses the terminal; Prefect's own log lines go to its server only.
    os.environ["PREFECT_LOGGING_LEVEL"] = "ERROR"
    given = os.environ.get("PREFECT_API_URL")
    if given and healthy(f"{given}/health"):
        yield lambda: None
        return
    if running(home) and server_answers(settings):
        os.environ.update(prefect_environment(settings, home))
        yield lambda: None
        return
    port = free_port(settings.host)
    os.environ.update(prefect_environment(settings, home, port=port))
    address = f"http://{settings.host}:{port}/api/health"
    # Two servers must not create the tables of a fresh database at once.
    with ThreadPoolExecutor(1, thread_name_prefix="prefect") as thread, ExitStack() as lock:
        lock.enter_context(file_lock(home.root / "prefect.lock"))
        server = start_prefect_server(settings, home, port=port, tied=True)

        def until_healthy() -> None:
            with lock.pop_all():
                wait_healthy(address, server, home.logs / "prefect-server.log")

        healthy_now = thread.submit(until_healthy)

        def wait() -> None:
            if not healthy_now.done():
                say("starting Prefect")
            healthy_now.result()

        try:
            yield wait
        finally:
            # Queued log lines would be retried for a minute after the server is gone.
            for name in ("prefect.flow_runs", "prefect.task_runs"):
                for handler in logging.getLogger(name).handlers:
                    handler.flush()
            stop([process_of("prefect-server", server.pid)])


def process_tag(pid: int) -> str:
    """The tag of a sweep run by `isoflop sweep`; shows the doctor whether its process is alive."""
    return f"process {os.uname().nodename}:{pid}"
