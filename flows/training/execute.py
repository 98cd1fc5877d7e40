"""Train one planned run in its directory: lock, resume, append, finish."""

import logging

from flows.files import no_room, set_aside
from flows.runs.attempts import recording_attempt
from flows.runs.curve import CurveBehindError
from flows.runs.directory import RunDir, RunResult
from flows.runs.lease import heartbeat
from flows.settings import Home
from flows.training.failures import DiskPatience, smaller_batches
from flows.training.loop import train_in_process
from flows.training.ranks import train_together
from flows.training.signals import interruptible

log = logging.getLogger(__name__)


def execute(run: RunDir, home: Home) -> RunResult:
    """Train a run as it is placed, from its newest checkpoint to its end.

    If another process trains the run, wait for it; return the result of a settled run as it is.
    The curve holds every step once, also after kills. Out of memory, the run resumes with smaller
    micro-batches; on a full disk, when there is room again.

    Raises:
        Interrupted: SIGTERM or SIGINT arrived; a training under way has written a checkpoint.
        OSError: among others, the disk stayed full.
        llama_core.corpus.documents.CorpusError: the corpus is not in this home, or is damaged.
    """
    with run.waited_for():
        result = run.result()
        if result is not None and run.settled():
            return result
        # The heartbeat of a killed attempt tells the record when that ended.
        with interruptible(), recording_attempt(run, home), heartbeat(run):
            return _train_and_retry(run, home)


def _train_and_retry(run: RunDir, home: Home) -> RunResult:
    """Train, and retry here where that can help."""
    patience, restarted = DiskPatience(run), False
    while True:
        try:
            together = run.placement().ranks > 1
            result = train_together(run, home) if together else train_in_process(run, home)
        except CurveBehindError as error:
            if restarted:
                raise
            # Steps without rows would be a hole in the curve: train from the start.
            log.warning("%s: checkpoints set aside, training starts again", error)
            set_aside(run.checkpoints)
            restarted = True
            continue
        except OSError as error:
            if no_room(error) and patience.wait(error):
                continue
            raise
        smaller = smaller_batches(run) if result.status == "out_of_memory" else None
        if smaller is None:
            return result
        log.warning(
            "run %s is out of memory (%s); it resumes with micro-batches of %s rows",
            *(run.id, result.reason, smaller.micro_batch_rows),
        )
        run.set_result_aside()
        run.place(smaller)
