"""The processes that run a sweep or a study now, registered in its folder for `isoflop cancel`."""

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.files import write_whole
from flows.stack.processes import Process, alive, process_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Controller:
    """A process that runs a sweep or a study.

    Attributes:
        path: the file that registers it.
        flow_run: id of its Prefect flow run; None outside of Prefect.
        deployed: whether a worker started it, so that Prefect must stop it.
    """

    path: Path
    host: str
    process: Process
    flow_run: str | None
    deployed: bool

    @property
    def here(self) -> bool:
        """Whether it runs on this host."""
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        """Whether it is still running; assumed so for another host's process."""
        return not self.here or alive(self.process)


@contextmanager
def registered(folder: Path) -> Iterator[None]:
    """Register this process as one that runs the sweep or study of the folder."""
    from prefect.runtime import deployment, flow_run

    host = socket.gethostname()
    content = {
        "host": host,
        "process": asdict(process_of("sweep", os.getpid())),
        "flow_run": flow_run.id,
        "deployed": deployment.id is not None,
    }
    path = folder / "underway" / f"{host}-{os.getpid()}.json"
    path.parent.mkdir(exist_ok=True)
    write_whole(path, json.dumps(content, indent=1))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def controllers(folder: Path) -> list[Controller]:
    """The registered processes: running ones, and dead ones that left their file."""
    registrations = []
    for path in sorted(folder.glob("underway/*.json")):
        try:
            content = json.loads(path.read_bytes())
            process = Process(**content.pop("process"))
            registrations.append(Controller(path=path, process=process, **content))
        except FileNotFoundError:
            continue  # it has just ended
        except (ValueError, TypeError, KeyError, AttributeError):
            log.warning("%s is damaged or of another version: skipped", path)
    return registrations
