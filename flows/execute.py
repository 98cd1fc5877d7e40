"""Train one planned run in its directory: lock, resume, append, finish."""

import logging
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Literal

from flows import ranks
from flows.attempts import attempted
from flows.failures import DiskPatience, no_room, out_of_memory, smaller_batches
from flows.lease import beating
from flows.rundir import (
    CurveBehindError,
    CurveWriter,
    Observation,
    RunDir,
    RunResult,
    now,
    write_whole,
)
from flows.settings import Home
from llama_core.config import Placement
from llama_core.records import (
    CheckpointRecord,
    DivergedRecord,
    EvalRecord,
    ResumeRecord,
    StepRecord,
    StoppedRecord,
)

log = logging.getLogger(__name__)

_SAME_REQUEST_S = 3.0


class Interrupted(BaseException):
    """The process was asked to stop; called again, the run goes on from its last checkpoint."""


def execute(run: RunDir, home: Home, placement: Placement) -> RunResult:
    """Train a run to its end, from wherever it stands.

    A run that another process trains is waited for and not doubled; a settled one is returned
    as it is. The curve holds every step once, also after kills. Out of memory it goes on with
    smaller micro-batches, on a full disk when there is room again.

    Raises:
        Interrupted: SIGTERM or SIGINT came; a training under way has written a checkpoint.
        OSError: among others, the disk stayed full.
        llama_core.corpus.CorpusError: the corpus is not in this home, or is damaged.
    """
    with run.waited_for():
        result = run.result()
        if result is not None and run.settled():
            return result
        with _interruptible(), beating(run), attempted(run, home, placement):
            return _insist(run, home, placement)


def _insist(run: RunDir, home: Home, placement: Placement) -> RunResult:
    """Train, and try again here where that can help."""
    patience, anew = DiskPatience(run), False
    while True:
        try:
            result = _train(run, home, placement)
        except CurveBehindError as error:
            if anew:
                raise
            # Steps without rows would be a hole in the curve: train from the start.
            log.warning("%s: checkpoints set aside, training starts again", error)
            _set_aside(run.checkpoints)
            anew = True
            continue
        except OSError as error:
            if no_room(error) and patience.wait(error):
                continue
            raise
        smaller = smaller_batches(run, placement) if result.status == "out_of_memory" else None
        if smaller is None:
            return result
        log.warning(
            "run %s is out of memory (%s); going on with %s rows at once",
            *(run.id, result.reason, smaller.micro_batch_rows),
        )
        run.set_result_aside()
        run.place(smaller)
        placement = smaller


def _train(run: RunDir, home: Home, placement: Placement) -> RunResult:
    if placement.ranks > 1 and not ranks.is_rank():
        return ranks.train_together(run, home, placement)
    return train_in_process(run, home, placement)


def train_in_process(run: RunDir, home: Home, placement: Placement) -> RunResult:
    """Train a run here, writing its curve and its result; the caller holds the run."""
    from llama_core.corpus import find_corpus
    from llama_core.train import resolve_device, train

    spec = run.planned().run
    batches = find_corpus(home.root, spec.data.digest).open(spec.train)
    device = str(resolve_device(placement.device))
    curve = CurveWriter(run.curve_path)
    started = now()
    if curve.steps and not run.standing():
        log.info("run %s begins again: %d steps are trained again", run.id, curve.steps)
    try:
        with _stop_asked() as stop:
            for record in train(
                spec.model,
                spec.train,
                batches,
                placement=placement,
                checkpoints=run.checkpoints,
                stop=stop.is_set,
            ):
                match record:
                    case StepRecord() | EvalRecord():
                        curve.append(record)
                    case CheckpointRecord():
                        curve.sync()
                    case ResumeRecord():
                        for damage in record.skipped:
                            log.warning("run %s: %s", run.id, damage)
                        # A checkpoint's name begins with the steps walked until it.
                        again = curve.steps - int(record.checkpoint.partition("-")[0])
                        log.info(
                            "run %s resumes from step %d: %d steps are trained again",
                            *(run.id, record.step, again),
                        )
                    case DivergedRecord():
                        curve.append(record)
                        return _finish(run, "diverged", started, device, reason=record.reason)
                    case StoppedRecord():
                        raise Interrupted(f"at step {record.step}, which is kept")
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        return _finish(run, "out_of_memory", started, device, reason=reason)
    finally:
        curve.close()
    return _finish(run, "finished", started, device)


def _finish(
    run: RunDir,
    status: Literal["finished", "diverged", "out_of_memory"],
    started: float,
    device: str,
    *,
    reason: str = "",
) -> RunResult:
    # Horizons evaluated in an earlier sitting are on the curve, not in this one's records.
    evals = {row["horizon"]: row for row in run.rows() if row["kind"] == "eval"}
    result = RunResult(
        run_id=run.id,
        status=status,
        reason=reason,
        observations=tuple(
            Observation(
                tokens=horizon,
                val_loss=row["val_loss"],
                val_bpb=row["val_bpb"],
                weights_sha256=row["weights_sha256"],
            )
            for horizon, row in sorted(evals.items())
        ),
        train_s=now() - started,
        device=device,
        finished_at=now(),
    )
    planned = [cell.tokens for cell in run.planned().cells]
    found = [observation.tokens for observation in result.observations]
    if status == "finished" and found != planned:
        raise CurveBehindError(
            f"{run.curve_path} tells the losses of horizons {found}, and {planned} were trained"
        )
    write_whole(run.result_path, result.model_dump_json(indent=1))
    return result


def _set_aside(checkpoints: Path) -> None:
    number = len(list(checkpoints.parent.glob("checkpoints-set-aside-*")))
    shutil.move(checkpoints, checkpoints.with_name(f"checkpoints-set-aside-{number}"))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turn SIGTERM and SIGINT into `Interrupted`."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupted(signal.Signals(number).name)

    with _handling(stop):
        yield


@contextmanager
def _stop_asked() -> Iterator[threading.Event]:
    """An event that SIGTERM or SIGINT sets; one much later does not wait for the step to end."""
    asked, asked_at = threading.Event(), 0.0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked_at
        if not asked.is_set():
            asked_at = time.monotonic()
        # Whoever ends a whole service signals this process and the one that started it, too.
        elif time.monotonic() - asked_at > _SAME_REQUEST_S:
            raise Interrupted(f"{signal.Signals(number).name} twice")
        asked.set()

    with _handling(stop):
        yield asked


@contextmanager
def _handling(stop: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        # Python allows handlers in the main thread only; the caller there has its own.
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
