"""Memory of a run's training step, on this machine or on a GPU that is not here."""

from llama_core.config import Placement
from llama_core.machine import attention_backend, micro_batch_rows, resolve_device
from llama_core.memory import MEMORY_SHARE, rows_that_fit, step_memory
from sweeps.spec import PlannedRun

_GIB = 2**30


def memory_gib(run: PlannedRun, placement: Placement, gpu_bytes: float | None = None) -> float:
    """Estimated peak of weights, gradients, moments and activations, without the libraries.

    Args:
        gpu_bytes: memory of the GPU planned for; None: the device that the placement means here.
    """
    model, train = run.run.model, run.run.train
    if gpu_bytes is None:
        device = resolve_device(placement.device)
        eager = attention_backend(placement, device, train.seq_len) == "eager"
        rows = micro_batch_rows(model, train, placement, device, 1)
    else:
        eager = placement.attention == "eager"
        rows = train.batch_tokens // train.seq_len
        if placement.micro_batch_rows is not None:
            rows = min(rows, placement.micro_batch_rows)
        budget = gpu_bytes * MEMORY_SHARE
        rows = rows_that_fit(model, train, placement, rows=rows, eager=eager, budget=budget)
    return step_memory(model, train, placement, rows=rows, eager=eager).peak / _GIB
