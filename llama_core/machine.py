"""The machine under a training: device, threads, memory, and what each choice is good for."""

import ctypes
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from llama_core.config import ModelConfig, Placement, TrainConfig
from llama_core.model import AttentionBackend

# Dense bf16 matmul peaks, FLOP/s, by a part of the device's name, from NVIDIA's data sheets
# (sparsity off). A device that is not here has no MFU rather than a wrong one.
_BF16_PEAKS = {"H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12}
# On a CPU throughput is level from 2,048 tokens on; more only takes memory.
_CPU_MICRO_BATCH_TOKENS = 4_096
# From here the square of the scores costs more than SDPA's slower kernels.
_CPU_EAGER_SEQ_LEN = 1_024


def resolve_device(name: str) -> torch.device:
    """The device a placement means; `auto` is CUDA where there is one.

    Raises:
        ValueError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is none: take auto, cpu, cuda or cuda:0.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r}: this machine has {torch.cuda.device_count()} GPUs.")
    return device


def attention_backend(placement: Placement, device: torch.device, seq_len: int) -> AttentionBackend:
    """Eager products where they win, on CPUs up to 1,024 tokens; SDPA elsewhere."""
    if placement.attention != "auto":
        return placement.attention
    return "eager" if device.type == "cpu" and seq_len <= _CPU_EAGER_SEQ_LEN else "sdpa"


def micro_batch_rows(
    model: ModelConfig, cfg: TrainConfig, placement: Placement, device: torch.device
) -> int:
    """Rows that go through the model at once."""
    rows = cfg.batch_tokens // cfg.seq_len
    if placement.micro_batch_rows is not None:
        return min(placement.micro_batch_rows, rows)
    if device.type == "cpu":
        return min(rows, max(1, _CPU_MICRO_BATCH_TOKENS // cfg.seq_len))
    return rows


def peak_flops(device: torch.device, dtype: str) -> float | None:
    """Dense peak of the device in FLOP/s for bf16; None where it is not known."""
    if device.type != "cuda" or dtype != "bfloat16":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in _BF16_PEAKS.items() if part in name), None)


def memory_gib(device: torch.device) -> float:
    """Peak memory so far: allocated on the device, or the process's resident set on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20


@contextmanager
def machine_settings(placement: Placement, device: torch.device) -> Iterator[None]:
    """Threads and determinism as placed, put back afterwards; the allocator told to keep pages."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    if placement.threads is not None:
        torch.set_num_threads(placement.threads)
    if placement.deterministic:
        torch.use_deterministic_algorithms(True)
    if device.type == "cpu":
        _keep_pages()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


def _keep_pages() -> None:
    """Have glibc keep freed memory instead of returning it after every step.

    Activations come and go each step; unmapping and faulting their pages in again cost tiny
    models 10 to 20 % of the step.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, (1 << 31) - 1)
