"""The training loop of one run in this process: records to curve and checkpoints."""

import logging
from typing import Literal

from flows.files import now, write_whole
from flows.runs.curve import CurveBehindError, CurveWriter
from flows.runs.directory import Observation, RunDir, RunResult
from flows.settings import Home
from flows.training.failures import out_of_memory
from flows.training.signals import Interrupted, stop_asked
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


def train_in_process(run: RunDir, home: Home, placement: Placement) -> RunResult:
    """Train a run here, writing its curve and its result; the caller holds the run."""
    from llama_core.corpus.prepared import find_corpus
    from llama_core.machine import resolve_device
    from llama_core.train import train

    spec = run.planned().run
    batches = find_corpus(home.root, spec.data.digest).open(spec.train)
    device = str(resolve_device(placement.device))
    curve = CurveWriter(run.curve_path)
    started = now()
    if curve.steps and not run.standing():
        log.info("run %s begins again: %d steps are trained again", run.id, curve.steps)
    try:
        with stop_asked() as stop:
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
