"""The directory of one run, the record of it: spec, curve, checkpoints, result."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from pydantic import Field, ValidationError

from flows.files import first_free, try_lock, write_whole
from flows.runs.curve import Curve
from flows.runs.words import Ending
from llama_core.checkpoints.place import checkpoint_names
from llama_core.config import Frozen, Placement
from llama_core.records import SourceLoss
from sweeps.spec import PlannedRun

log = logging.getLogger(__name__)

_WAIT_S = 0.5


class RunBusyError(RuntimeError):
    """Another process is training this run at this moment."""


class Observation(Frozen):
    """The loss at one horizon of a finished training, see `llama_core.records.EvalRecord`."""

    tokens: int
    val_loss: float
    val_bpb: float | None
    weights_sha256: str
    sources: tuple[SourceLoss, ...] = Field(default=(), exclude_if=lambda sources: not sources)


class RunResult(Frozen):
    """How a training ended.

    Attributes:
        reason: what happened, for a person; empty when finished.
        observations: one for each horizon; complete only when finished.
        train_s: seconds inside the training loop, of the last attempt alone.
    """

    run_id: str
    status: Ending
    reason: str = ""
    observations: tuple[Observation, ...] = ()
    train_s: float
    device: str
    finished_at: float


class RunDir:
    """Paths and files of one run. Nothing is cached: other processes write here too."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def id(self) -> str:
        """The run's id, which is the folder's name."""
        return self.path.name

    @property
    def spec_path(self) -> Path:
        """The run as it was first planned."""
        return self.path / "spec.json"

    @property
    def curve_path(self) -> Path:
        """The rows of its curve."""
        return self.path / "curve.jsonl"

    @property
    def placement_path(self) -> Path:
        """Where and how fast it trains."""
        return self.path / "placement.json"

    @property
    def result_path(self) -> Path:
        """How it ended."""
        return self.path / "result.json"

    @property
    def provenance_path(self) -> Path:
        """What made it."""
        return self.path / "provenance.json"

    @property
    def attempts_path(self) -> Path:
        """Which processes trained it."""
        return self.path / "attempts.jsonl"

    @property
    def lease_path(self) -> Path:
        """The heartbeat of the process that trains it."""
        return self.path / "lease.json"

    @property
    def left_lease_path(self) -> Path:
        """The heartbeat of an earlier one."""
        return self.path / "lease-left.json"

    @property
    def checkpoints(self) -> Path:
        """The folder of its checkpoints."""
        return self.path / "checkpoints"

    @property
    def curve(self) -> Curve:
        """Its curve."""
        return Curve(self.curve_path)

    def create(self, planned: PlannedRun) -> None:
        """Make the folder and write the spec, unless it is there and whole."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self.planned()
        except (FileNotFoundError, ValueError):
            write_whole(self.spec_path, planned.model_dump_json(indent=1))

    def placement(self) -> Placement:
        """Where and how fast the run trains; the default where nothing was written."""
        try:
            return Placement.model_validate_json(self.placement_path.read_bytes())
        except FileNotFoundError:
            return Placement()
        except ValidationError:
            log.warning("%s is damaged: the default placement is taken", self.placement_path)
            return Placement()

    def place(self, placement: Placement) -> None:
        """Write where and how fast the run is to train."""
        write_whole(self.placement_path, placement.model_dump_json(indent=1))

    def planned(self) -> PlannedRun:
        """The run as it was first planned.

        Raises:
            ValueError: its file is damaged; a sweep that plans the run writes it again.
        """
        try:
            return PlannedRun.model_validate_json(self.spec_path.read_bytes())
        except ValidationError as error:
            raise ValueError(
                f"{self.spec_path} is damaged or of another version. "
                "The sweep that planned the run writes it again, if the file is moved away."
            ) from error

    def result(self) -> RunResult | None:
        """How the run ended; None before that, or when the file is damaged."""
        try:
            return RunResult.model_validate_json(self.result_path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def settled(self) -> bool:
        """Whether training again would change nothing: finished, or diverged."""
        result = self.result()
        return result is not None and result.status in ("finished", "diverged")

    def retire_result(self) -> None:
        """Set the result of a failure aside, so that the run trains again.

        A run that another process holds is training again already.
        """
        try:
            with self.locked():
                self.set_result_aside()
        except RunBusyError:
            log.info("run %s is being trained by another process", self.id)

    def set_result_aside(self) -> None:
        """Rename the result of a failure; the caller holds the run."""
        if self.result_path.exists() and not self.settled():
            names = (self.path / f"result-{number}.json" for number in count())
            self.result_path.rename(first_free(names))

    def newest_checkpoint(self) -> str:
        """Name of the newest checkpoint, which sorts after all older ones; empty without one."""
        return max(checkpoint_names(self.checkpoints), default="")

    def finished(self) -> bool:
        """Whether the run ended with every observation planned for it."""
        result = self.result()
        return result is not None and result.status == "finished"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run. The kernel frees the lock when the process dies, however it dies.

        Raises:
            RunBusyError: another process holds it.
        """
        with (self.path / "lock").open("a+") as handle:
            # `busy` holds the lock for a moment, a training for longer.
            deadline = time.monotonic() + _WAIT_S
            while not try_lock(handle):
                if time.monotonic() > deadline:
                    raise RunBusyError(f"run {self.id} is being trained by another process")
                time.sleep(_WAIT_S / 20)
            yield

    @contextmanager
    def waited_for(self) -> Iterator[None]:
        """Hold the run as soon as no other process does."""
        logged = False
        while True:
            try:
                with self.locked():
                    yield
                    return
            except RunBusyError as busy:
                if not logged:
                    log.info("%s; waiting for it", busy)
                logged = True

    def busy(self) -> bool:
        """Whether a process holds the run now."""
        if not (self.path / "lock").exists():
            return False
        with (self.path / "lock").open() as handle:
            return not try_lock(handle, shared=True)
