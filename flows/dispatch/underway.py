"""Which processes run a sweep at this moment, noted in the sweep's folder for `isoflop cancel`."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.files import write_whole
from flows.stack.processes import Process, alive, process_of


@dataclass(frozen=True, slots=True)
class Controller:
    """A process that runs a sweep.

    Attributes:
        flow_run: id of its Prefect flow run; None outside of Prefect.
        deployed: whether a worker started it, so that Prefect is who stops it.
    """

    host: str
    process: Process
    flow_run: str | None
    deployed: bool

    @property
    def alive(self) -> bool:
        """Whether it still runs; of another host's nobody here can tell, so yes."""
        return self.host != socket.gethostname() or alive(self.process)


@contextmanager
def noted(folder: Path) -> Iterator[None]:
    """Note that this process runs the sweep of the folder, as long as it does."""
    from prefect.runtime import deployment, flow_run

    controller = Controller(
        host=socket.gethostname(),
        process=process_of("sweep", os.getpid()),
        flow_run=flow_run.id,
        deployed=deployment.id is not None,
    )
    path = folder / "underway" / f"{controller.host}-{os.getpid()}.json"
    path.parent.mkdir(exist_ok=True)
    write_whole(path, json.dumps(asdict(controller), indent=1))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def controllers(folder: Path) -> list[Controller]:
    """Who noted that it runs the sweep: living ones, and dead ones that left their note."""
    found = []
    for path in sorted(folder.glob("underway/*.json")):
        try:
            data = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            continue  # it has just ended
        found.append(Controller(**{**data, "process": Process(**data["process"])}))
    return found


def forget(folder: Path, controller: Controller) -> None:
    """Remove the note of a process that is gone."""
    path = folder / "underway" / f"{controller.host}-{controller.process.pid}.json"
    path.unlink(missing_ok=True)
