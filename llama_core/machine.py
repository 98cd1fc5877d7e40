"""The machine a training runs on: device, threads, memory, arithmetic."""

import ctypes
import logging
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch

from llama_core.compiling import compile_obstacle
from llama_core.config import ModelConfig, Placement, TrainConfig, require_equal_shares
from llama_core.layers.attention import AttentionBackend
from llama_core.memory import MEMORY_SHARE, rows_that_fit

log = logging.getLogger(__name__)

# Dense bf16 matmul peaks, FLOP/s, by words of the device's name, from the vendors' data sheets
# (sparsity off; sources in analysis/tables/devices.csv, PCIe and NVL as pytorch/torchtitan quotes
# them). The first that fits counts. An unknown device gets no MFU rather than a wrong one.
_BF16_PEAKS = {
    "B200": 2.25e15,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "MI300X": 1.3e15,
    "L40S": 362e12,
    "RTX 4090": 165.2e12,
    "A10": 125e12,
    "L4": 121e12,
}
# On a CPU throughput is level from 2,048 tokens on; more only takes memory.
_CPU_MICRO_BATCH_TOKENS = 4_096
# For longer sequences the quadratic scores cost more than SDPA's slower kernels.
_CPU_EAGER_SEQ_LEN = 1_024
# Largest relative error of an fp32 matmul: fp32 leaves about 3e-7, bf16 2e-3. Shapes from those of
# a head to those of the output layer, as (batch, rows, inner, columns).
_FP32_ERROR = 3e-6
_PROBED_SHAPES = ((1, 256, 256, 256), (1, 1024, 64, 512), (1, 64, 1024, 48), (8, 128, 16, 128))


def resolve_device(name: str) -> torch.device:
    """The device a placement names; `auto` is CUDA if there is a GPU, else the CPU.

    Raises:
        ValueError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ValueError(f"there is no device {name!r}: use auto, cpu, cuda or cuda:0.")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"there is no device {name!r}: this machine has {torch.cuda.device_count()} GPUs. "
            f"Use auto to train on what it has."
        )
    return device


def attention_backend(placement: Placement, device: torch.device, seq_len: int) -> AttentionBackend:
    """Eager attention where it is faster, on CPUs up to 1,024 tokens; SDPA elsewhere."""
    if placement.attention != "auto":
        return placement.attention
    return "eager" if device.type == "cpu" and seq_len <= _CPU_EAGER_SEQ_LEN else "sdpa"


def compiles(placement: Placement, device: torch.device) -> bool:
    """Whether the model is compiled; `auto`, where nothing was measured, on a GPU alone."""
    if placement.compile != "auto":
        return placement.compile == "on"
    return device.type == "cuda" and compile_obstacle(device) is None


def micro_batch_rows(
    model: ModelConfig, cfg: TrainConfig, placement: Placement, device: torch.device, ranks: int
) -> int:
    """Rows that go through the model at once on each rank.

    Raises:
        ValueError: the batch's rows cannot be shared equally among the ranks.
    """
    require_equal_shares(cfg, ranks)
    rows = cfg.batch_tokens // cfg.seq_len // ranks
    if placement.micro_batch_rows is not None:
        return min(placement.micro_batch_rows, rows)
    if device.type == "cpu":
        return min(rows, max(1, _CPU_MICRO_BATCH_TOKENS // cfg.seq_len))
    eager = attention_backend(placement, device, cfg.seq_len) == "eager"
    free, _ = torch.cuda.mem_get_info(device)
    return rows_that_fit(model, cfg, placement, rows=rows, eager=eager, budget=free * MEMORY_SHARE)


def peak_flops(device: torch.device, dtype: str) -> float | None:
    """Dense peak of the device in FLOP/s for bf16; None if it is unknown."""
    if device.type != "cuda" or dtype != "bfloat16":
        return None
    name = torch.cuda.get_device_name(device)
    # Whole ends, so that an L40 is no L4 and a GH200 has the peak of its H200.
    return next((peak for part, peak in _BF16_PEAKS.items() if re.search(rf"{part}\b", name)), None)


def memory_gib(device: torch.device) -> float:
    """Peak memory so far: allocated on the device, or the process's resident set on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return _peak_resident() / 2**30


def _peak_resident() -> int:
    """Peak resident set of this process in bytes."""
    peak = _max_rss()
    if peak <= _RSS_AT_IMPORT and sys.platform == "linux":
        # In getrusage, but not here, a process on Linux inherits its parent's peak.
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    return peak


def _max_rss() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


_RSS_AT_IMPORT = _max_rss()


@contextmanager
def machine_settings(placement: Placement, device: torch.device, dtype: str) -> Iterator[None]:
    """Set threads, determinism and CPU arithmetic; restore them on exit."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    matmul = _matmul_switch()
    precision = matmul.fp32_precision
    if placement.threads is not None:
        torch.set_num_threads(placement.threads)
    if placement.deterministic:
        torch.use_deterministic_algorithms(True)
    if device.type == "cpu":
        _keep_pages()
        # Gradients of attention reach numbers below 1e-38, on which a CPU is ten times slower.
        torch.set_flush_denormal(True)
        if fp32_matmul(device) == "onednn":
            matmul.fp32_precision = "bf16"
        if dtype == "bfloat16" and not multiplies_bf16():
            log.warning(
                "this processor has no bf16 matmuls: dtype bfloat16 is many times slower here "
                "than float32. Set dtype to float32, or train elsewhere."
            )
    try:
        yield
    finally:
        if placement.threads is not None:
            torch.set_num_threads(threads)
        if placement.deterministic:
            torch.use_deterministic_algorithms(deterministic)
        if device.type == "cpu":
            matmul.fp32_precision = precision
            torch.set_flush_denormal(False)


@lru_cache(maxsize=1)
def fp32_matmul(device: torch.device) -> Literal["torch", "onednn"]:
    """The library for fp32 matmuls: oneDNN on a CPU where it is exact, else torch's own.

    torch sends fp32 matmuls to oneDNN when it is allowed to round them to bf16. On AMD
    processors oneDNN has no such kernel: it keeps full fp32 and is 1.3 to 2.2 times faster than
    MKL. On Intel's MKL is faster. Elsewhere oneDNN may round, so it is tested first, and used
    only if its errors are those of fp32. Nothing is timed: a resumed run must choose the same.
    """
    if device.type != "cpu" or not torch._C._has_mkldnn or _has_intels_mkl():
        return "torch"
    matmul = _matmul_switch()
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "bf16"
        exact = all(_fp32_error(*shape) < _FP32_ERROR for shape in _PROBED_SHAPES)
    finally:
        matmul.fp32_precision = before
    return "onednn" if exact else "torch"


def _has_intels_mkl(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether torch's own matmuls are MKL's, on a processor that MKL was written for."""
    available = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return available and cpuinfo.exists() and "GenuineIntel" in cpuinfo.read_text()


def multiplies_bf16() -> bool:
    """Whether the processor has bf16 matmuls; true if torch does not know."""
    return not torch._C._has_mkldnn or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _matmul_switch() -> Any:
    # The submodule is made at run time, so type checkers do not see it.
    return getattr(torch.backends.mkldnn, "matmul")  # noqa: B009


def _fp32_error(batch: int, rows: int, inner: int, columns: int) -> float:
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(batch, rows, inner, generator=generator)
    right = torch.randn(batch, inner, columns, generator=generator)
    exact = left.double() @ right.double()
    product = torch.bmm(left, right) if batch > 1 else (left[0] @ right[0]).unsqueeze(0)
    return float((product - exact).norm() / exact.norm())


def _keep_pages() -> None:
    """Make glibc keep freed memory instead of returning it after every step.

    Activations are allocated and freed in every step; unmapping their pages and faulting them in
    again cost tiny models 10 to 20 % of the step.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3
        mallopt(mmap_threshold, 1 << 25)
        mallopt(trim_threshold, (1 << 31) - 1)
        _ask_for_huge_pages()


@lru_cache(maxsize=1)
def _ask_for_huge_pages() -> None:
    """Let the kernel back the next 256 MiB of glibc's heap with pages of 2 MiB.

    Looking up pages of 4 KiB costs tiny models 4 % of the step. A kernel may refuse.
    """
    top_pad, advice = -2, 14  # M_TOP_PAD, MADV_HUGEPAGE
    length, page = 1 << 28, 1 << 21
    libc = ctypes.CDLL(None)
    libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
    libc.mallopt(top_pad, length)
    # More than is free, so that the heap grows.
    libc.free(ctypes.c_void_p(libc.malloc(ctypes.c_size_t(24 << 20))))
    libc.mallopt(top_pad, 1 << 17)
    first = -(-(libc.sbrk(0) - length) // page) * page
    libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(length - page), advice)
