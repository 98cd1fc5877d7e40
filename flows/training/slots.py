"""The slots of this machine: how many trainings at once, and the environment that pins each."""

import os

from analysis.words import counted
from flows.processes import SAFE_PATH
from llama_core.cores import usable_cores
from sweeps.spec import SweepSpec
from sweeps.tune_spec import TuneSpec

# The allocator keeps large buffers instead of returning them to the kernel every step: 10 to
# 20 % at 0.1M parameters on CPU.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "1073741824"}


def slot_environments(spec: SweepSpec | TuneSpec, slots: int | None) -> list[dict[str, str]]:
    """The environment of each slot: `slots` of them, or the spec's, or as CPUs or GPUs allow.

    Raises:
        ValueError: a training needs more GPUs than there are.
    """
    gpus, ranks = 0, spec.placement.ranks
    if spec.placement.device != "cpu":
        import torch

        gpus = torch.cuda.device_count()
    if gpus and gpus < ranks:
        raise ValueError(f"placement.ranks={ranks}, but this machine has {counted(gpus, 'GPU')}.")
    groups = gpus // ranks
    count = slots or spec.slots or groups or max(1, usable_cores() // ranks)
    if groups:
        # Each training gets as many GPUs as it has ranks.
        pinned = [range(first * ranks, (first + 1) * ranks) for first in range(groups)]
        return [
            {"CUDA_VISIBLE_DEVICES": ",".join(map(str, pinned[number % groups]))}
            for number in range(count)
        ]
    return [{"OMP_NUM_THREADS": str(spec.placement.threads or 1)}] * count


def child_environment(slot: dict[str, str]) -> dict[str, str]:
    """The environment of a child process of a slot."""
    return {**ALLOCATOR, **os.environ, **SAFE_PATH, **slot}
