"""The slots of this machine: how many trainings at once, and the environment that pins each."""

import os

from sweeps.spec import SweepSpec

# The allocator keeps large buffers instead of returning them to the kernel every step: 10 to
# 20 % at 0.1M parameters on CPU.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "1073741824"}


def slot_environments(spec: SweepSpec, asked: int | None) -> list[dict[str, str]]:
    """The environment of each slot: as many as asked or specified, else one a CPU or GPU."""
    from flows.settings import cpu_slots

    gpus = 0
    if spec.placement.device != "cpu":
        import torch

        gpus = torch.cuda.device_count()
    count = asked or spec.slots or gpus or cpu_slots()
    if gpus:
        return [{"CUDA_VISIBLE_DEVICES": str(number % gpus)} for number in range(count)]
    return [{"OMP_NUM_THREADS": str(spec.placement.threads or 1)}] * count


def child_environment(slot: dict[str, str]) -> dict[str, str]:
    """What a child process of a slot gets."""
    return {**ALLOCATOR, **os.environ, **slot}
