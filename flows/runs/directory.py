"""The directory of one run: the truth about it. spec, curve, checkpoints, result."""

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from flows.files import flock, write_whole
from flows.runs.curve import parse
from llama_core.config import Frozen, Placement
from sweeps.spec import PlannedRun

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger(__name__)

_TAIL_BYTES = 4096
_WAIT_S = 0.5


class RunBusyError(RuntimeError):
    """Another process is training this run at this moment."""


class Observation(Frozen):
    """The loss at one horizon of a finished training."""

    tokens: int
    val_loss: float
    val_bpb: float
    weights_sha256: str


class RunResult(Frozen):
    """How a training ended.

    Attributes:
        status: `finished`, or the failure by its name.
        reason: what happened, for a person; empty when finished.
        observations: one for each horizon; complete only when finished.
        train_s: seconds inside the training loop in the sitting that ended it.
    """

    run_id: str
    status: Literal["finished", "diverged", "out_of_memory", "failed"]
    reason: str = ""
    observations: tuple[Observation, ...] = ()
    train_s: float
    device: str
    finished_at: float


class RunDir:
    """Paths and files of one run; nothing is cached, other processes write here too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spec_path = path / "spec.json"
        self.curve_path = path / "curve.jsonl"
        self.placement_path = path / "placement.json"
        self.result_path = path / "result.json"
        self.provenance_path = path / "provenance.json"
        self.attempts_path = path / "attempts.jsonl"
        self.lease_path = path / "lease.json"
        self.checkpoints = path / "checkpoints"

    @property
    def id(self) -> str:
        """The run's id, which is the folder's name."""
        return self.path.name

    def create(self, planned: PlannedRun) -> None:
        """Make the folder and write the spec, unless it is there."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.spec_path.exists():
            write_whole(self.spec_path, planned.model_dump_json(indent=1))

    def placement(self) -> Placement:
        """Where the run was last told to train; never part of what it is."""
        try:
            return Placement.model_validate_json(self.placement_path.read_text())
        except FileNotFoundError:
            return Placement()

    def place(self, placement: Placement) -> None:
        """Say where the run is to train."""
        write_whole(self.placement_path, placement.model_dump_json(indent=1))

    def planned(self) -> PlannedRun:
        """The run as it was first planned."""
        return PlannedRun.model_validate_json(self.spec_path.read_text())

    def result(self) -> RunResult | None:
        """How the run ended; None while it has not, or when the file is damaged."""
        try:
            return RunResult.model_validate_json(self.result_path.read_text())
        except (FileNotFoundError, ValidationError):
            return None

    def settled(self) -> bool:
        """Whether training again would change nothing: finished, or diverged."""
        result = self.result()
        return result is not None and result.status in ("finished", "diverged")

    def retire_result(self) -> None:
        """Set the result of a failure aside, so that the run can be tried again.

        A run that another process holds is being tried again already.
        """
        try:
            with self.locked():
                self.set_result_aside()
        except RunBusyError:
            log.info("run %s is being trained by another process", self.id)

    def set_result_aside(self) -> None:
        """Keep the result of a failure under another name; the caller holds the run."""
        if self.result_path.exists() and not self.settled():
            number = len(list(self.path.glob("result-*.json")))
            self.result_path.rename(self.path / f"result-{number}.json")

    def standing(self) -> str:
        """Name of the newest checkpoint; the larger, the farther; empty when there is none."""
        return max((path.stem for path in self.checkpoints.glob("*.json")), default="")

    def finished(self) -> bool:
        """Whether the run ended with every observation it was planned for."""
        result = self.result()
        return result is not None and result.status == "finished"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run. The kernel lets go when the process dies, however it dies.

        Raises:
            RunBusyError: another process holds it.
        """
        with (self.path / "lock").open("a+") as handle:
            # Somebody who only looks (`busy`) holds it for a moment; a training for longer.
            deadline = time.monotonic() + _WAIT_S
            while not flock(handle, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise RunBusyError(f"run {self.id} is being trained by another process")
                time.sleep(_WAIT_S / 20)
            yield

    @contextmanager
    def waited_for(self) -> Iterator[None]:
        """Hold the run as soon as nobody else does."""
        told = False
        while True:
            try:
                with self.locked():
                    yield
                    return
            except RunBusyError as busy:
                if not told:
                    log.info("%s; waiting for it", busy)
                told = True

    def busy(self) -> bool:
        """Whether some process holds the run now."""
        if not (self.path / "lock").exists():
            return False
        with (self.path / "lock").open() as handle:
            return not flock(handle, fcntl.LOCK_SH)

    def last_row(self) -> dict[str, Any] | None:
        """The newest row of the curve."""
        rows = self.tail()
        return rows[-1] if rows else None

    def tail(self) -> list[dict[str, Any]]:
        """The newest rows of the curve, a dozen or so, read from the end of the file."""
        try:
            with self.curve_path.open("rb") as handle:
                skipped = max(0, self.curve_path.stat().st_size - _TAIL_BYTES)
                handle.seek(skipped)
                lines = handle.read().split(b"\n")
        except FileNotFoundError:
            return []
        # What stands behind the last line feed is empty or torn, and so is what stands before
        # the first one unless the file begins there.
        whole = lines[1 if skipped else 0 : -1]
        return [row for line in whole if (row := parse(line + b"\n")) is not None]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every whole row of the curve in the order of training."""
        if self.curve_path.exists():
            with self.curve_path.open("rb") as handle:
                for line in handle:
                    row = parse(line)
                    if row is not None:
                        yield row

    def sync_curve(self) -> None:
        """Make every row written so far durable, by whichever process it was written."""
        if self.curve_path.exists():
            with self.curve_path.open("rb") as handle:
                os.fsync(handle.fileno())

    def curve(self) -> "pl.DataFrame":
        """The step rows as a frame: step, tokens, horizon, loss, lr, grad_norm, …, at."""
        import polars as pl  # trainings have no need of it

        rows = [row for row in self.rows() if row.pop("kind") == "step"]
        return pl.DataFrame(rows, infer_schema_length=None)
