"""The training of one run in this process: from the loop's records to curve and result."""

import logging
import time

from flows.files import now, write_whole
from flows.runs.attempts import steps_kept
from flows.runs.curve import CurveBehindError, CurveWriter
from flows.runs.directory import Observation, RunDir, RunResult
from flows.runs.words import Ending
from flows.settings import Home
from flows.training.compiling import settled
from flows.training.failures import out_of_memory
from flows.training.signals import Interrupted, stop_requested
from llama_core.records import (
    CheckpointRecord,
    DivergedRecord,
    EvalRecord,
    Record,
    ResumeRecord,
    StepRecord,
    StoppedRecord,
)

log = logging.getLogger(__name__)


def train_in_process(run: RunDir, home: Home) -> RunResult:
    """Train a run here and write its curve and its result; the caller holds the run."""
    from llama_core.corpus.prepared import find_corpus
    from llama_core.machine import resolve_device
    from llama_core.train import train

    spec = run.planned().run
    batches = find_corpus(home.root, spec.data.digest).open(spec.train, spec.data.mixture)
    device = str(resolve_device(run.placement().device))
    listener, started = Listener(run), time.monotonic()
    try:
        placement = settled(run, home, batches)
        with stop_requested() as stop:
            for record in train(
                spec.model,
                spec.train,
                batches,
                placement=placement,
                checkpoints=run.checkpoints,
                stop=stop.is_set,
            ):
                listener.hear(record)
                match record:
                    case DivergedRecord():
                        return finish(run, "diverged", started, device, reason=record.reason)
                    case StoppedRecord():
                        raise Interrupted(f"at step {record.step}, with a checkpoint")
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        return finish(run, "out_of_memory", started, device, reason=reason)
    finally:
        listener.close()
    return finish(run, "finished", started, device)


class Listener:
    """Keeps the records of a run's training on its curve."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._curve = CurveWriter(run.curve_path, steps_kept(run))
        if self._curve.steps and not run.newest_checkpoint():
            log.info("run %s starts again: %d steps are trained again", run.id, self._curve.steps)

    def hear(self, record: Record) -> None:
        """Write what belongs on the curve, durably before a checkpoint.

        Raises:
            CurveBehindError: rows before the record are missing.
        """
        match record:
            case StepRecord() | EvalRecord() | DivergedRecord():
                self._curve.append(record)
            case CheckpointRecord():
                self._curve.sync()
            case ResumeRecord():
                for damage in record.skipped:
                    log.warning("run %s: %s", self._run.id, damage)
                # The first row of a branch may be of any step, so that its hole would stay.
                self._curve.require(record.horizon, record.step)
                again = self._curve.steps - record.steps_taken
                log.info(
                    "run %s resumes from step %d: %d steps are trained again",
                    *(self._run.id, record.step, again),
                )

    def close(self) -> None:
        """Close the curve."""
        self._curve.close()


def finish(run: RunDir, status: Ending, started: float, device: str, reason: str = "") -> RunResult:
    """Write the result of a run, with the losses on its curve.

    Args:
        started: by `time.monotonic`.

    Raises:
        CurveBehindError: it finished, and the curve lacks the loss of a horizon.
    """
    # Horizons that an earlier attempt evaluated are on the curve, not among these records.
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
                sources=row.get("sources", ()),
            )
            for horizon, row in sorted(run.curve.evals().items())
        ),
        train_s=time.monotonic() - started,
        device=device,
        finished_at=now(),
    )
    planned = [cell.tokens for cell in run.planned().cells]
    evaluated = [observation.tokens for observation in result.observations]
    if status == "finished" and evaluated != planned:
        raise CurveBehindError(
            f"{run.curve_path} has the losses of horizons {evaluated}, and {planned} were trained"
        )
    write_whole(run.result_path, result.model_dump_json(indent=1))
    return result
