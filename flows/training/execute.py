"""Train one planned run in its directory: lock, resume, append, finish."""

import logging
import shutil
from pathlib import Path

from flows.runs.attempts import attempted
from flows.runs.curve import CurveBehindError
from flows.runs.directory import RunDir, RunResult
from flows.runs.lease import beating
from flows.settings import Home
from flows.training import ranks
from flows.training.failures import DiskPatience, no_room, smaller_batches
from flows.training.loop import train_in_process
from flows.training.signals import interruptible
from llama_core.config import Placement

log = logging.getLogger(__name__)


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
        with interruptible(), beating(run), attempted(run, home, placement):
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


def _set_aside(checkpoints: Path) -> None:
    number = len(list(checkpoints.parent.glob("checkpoints-set-aside-*")))
    shutil.move(checkpoints, checkpoints.with_name(f"checkpoints-set-aside-{number}"))
