"""Responses to a failed training: smaller micro-batches, waiting for disk space, a retry, none."""

import gc
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from flows.runs.directory import RunDir
from llama_core.config import Placement

log = logging.getLogger(__name__)

# How long a full disk is waited for; a person has to make room.
_PATIENCE_S = 600.0
_LOOK_S = 1.0
# torch's words in a plain RuntimeError when the machine, not the GPU, has no memory.
_CPU_ALLOCATION = "can't allocate memory"


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or on the machine."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _CPU_ALLOCATION in str(error)


def may_pass(error: BaseException) -> bool:
    """Whether a retry of the same training can succeed: the machine failed, not the code."""
    import torch

    return isinstance(error, OSError | torch.AcceleratorError)


def smaller_batches(run: RunDir) -> Placement | None:
    """The run's placement with micro-batches of half the rows; None below a single row.

    Gradients are summed over a step's micro-batches, so only rounding changes.
    """
    import torch

    from llama_core.machine import micro_batch_rows, resolve_device

    # The failed training still holds its memory.
    gc.collect()
    torch.cuda.empty_cache()
    spec, placement = run.planned().run, run.placement()
    device = resolve_device(placement.device)
    rows = micro_batch_rows(spec.model, spec.train, placement, device, placement.ranks)
    if rows == 1:
        return None
    return placement.model_copy(update={"micro_batch_rows": rows // 2})


class DiskPatience:
    """Waits for room on the disk of a run, at most ten minutes in all."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._left_s = _PATIENCE_S

    def wait(self, error: OSError) -> bool:
        """Wait until there is room for a checkpoint again; False after the ten minutes."""
        needed = 2 * max(_sizes(self._run.path), default=0) + 2**20
        log.warning("run %s: %s; waiting for %.0f MiB", self._run.id, error, needed / 2**20)
        while self._left_s > 0:
            time.sleep(_LOOK_S)
            self._left_s -= _LOOK_S
            if shutil.disk_usage(self._run.path).free >= needed:
                log.info("run %s: there is room again", self._run.id)
                return True
        return False


def _sizes(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        # The heartbeat's drafts come and go meanwhile.
        with suppress(FileNotFoundError):
            if path.is_file():
                yield path.stat().st_size
