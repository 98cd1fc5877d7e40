"""What a training gets from its machine: device, rows at once, arithmetic, measured memory."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from llama_core import machine as module
from llama_core.config import AdamW, Cosine, ModelConfig, Placement, TrainConfig
from llama_core.machine import (
    attention_backend,
    compiles,
    fp32_matmul,
    machine_settings,
    memory_gib,
    micro_batch_rows,
    peak_flops,
    resolve_device,
)
from llama_core.memory import MEMORY_SHARE, step_memory

CPU, GPU = torch.device("cpu"), torch.device("cuda")
MODEL = ModelConfig(
    vocab_size=512, d_model=32, n_layers=2, n_heads=2, n_kv_heads=2, head_dim=16, d_ffn=88
)


def recipe(*, seq_len=128, rows=64):
    batch = seq_len * rows
    return TrainConfig(
        seq_len=seq_len, batch_tokens=batch, warmup_tokens=0, schedule=Cosine(tokens=batch),
        optimizer=AdamW(lr=0.01), eval_tokens=seq_len,
    )  # fmt: skip


@pytest.fixture
def gpus(monkeypatch):
    def there_are(count, name="", free=0):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10 * free))

    return there_are


def test_auto_is_the_gpu_where_there_is_one(gpus):
    gpus(0)
    assert resolve_device("auto") == CPU
    gpus(2)
    assert resolve_device("auto") == GPU
    assert resolve_device("cpu") == CPU
    assert resolve_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("cuda", 0, "has 0 GPUs"),
        ("cuda:2", 2, "has 2 GPUs"),
        ("disk", 1, "use auto, cpu, cuda"),
        # A device of torch's for which nothing here was made.
        ("mps", 1, "use auto, cpu, cuda"),
    ],
)
def test_a_device_that_is_not_there_is_refused(gpus, name, count, message):
    gpus(count)
    with pytest.raises(ValueError, match=f"there is no device '{name}'.*{message}"):
        resolve_device(name)


def test_attention_is_eager_on_a_cpu_up_to_1024_tokens():
    auto = Placement()
    assert attention_backend(auto, CPU, 1024) == "eager"
    assert attention_backend(auto, CPU, 1025) == "sdpa"
    assert attention_backend(auto, GPU, 128) == "sdpa"
    assert attention_backend(Placement(attention="sdpa"), CPU, 128) == "sdpa"
    assert attention_backend(Placement(attention="eager"), GPU, 4096) == "eager"


def test_a_model_is_compiled_on_a_gpu_or_when_told_to(monkeypatch):
    monkeypatch.setattr(module, "compile_obstacle", lambda device: None)
    for compile, on_cpu, on_gpu in (
        ("auto", False, True),
        ("on", True, True),
        ("off", False, False),
    ):
        placement = Placement(compile=compile)
        assert (compiles(placement, CPU), compiles(placement, GPU)) == (on_cpu, on_gpu)


@pytest.mark.parametrize(
    ("seq_len", "rows", "ranks", "given", "at_once"),
    [
        # 4,096 tokens at once on a CPU, and one row at least.
        (128, 64, 1, None, 32),
        (128, 16, 1, None, 16),
        (4096, 4, 1, None, 1),
        (8192, 4, 1, None, 1),
        (128, 64, 4, None, 16),
        (128, 64, 1, 5, 5),
        (128, 64, 16, 5, 4),
    ],
)
def test_rows_at_once_on_a_cpu(seq_len, rows, ranks, given, at_once):
    cfg, placement = recipe(seq_len=seq_len, rows=rows), Placement(micro_batch_rows=given)
    assert micro_batch_rows(MODEL, cfg, placement, CPU, ranks) == at_once


def test_on_a_gpu_as_many_rows_go_at_once_as_the_usable_share_of_free_memory_holds(gpus):
    cfg = recipe()
    half = step_memory(MODEL, cfg, Placement(), rows=32, eager=False).peak
    gpus(1, free=round(half / MEMORY_SHARE * 1.01))
    assert micro_batch_rows(MODEL, cfg, Placement(), GPU, 1) == 32
    gpus(1, free=round(half / MEMORY_SHARE * 0.99))
    assert micro_batch_rows(MODEL, cfg, Placement(), GPU, 1) == 16


def test_rows_that_ranks_cannot_share_are_refused_with_a_batch_that_they_can():
    with pytest.raises(
        ValueError, match=r"8,192 is 64 rows of seq_len=128, which 3 ranks"
    ) as error:
        micro_batch_rows(MODEL, recipe(), Placement(), CPU, 3)
    assert "Make it a multiple of 384" in str(error.value)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA L40", None),
        ("NVIDIA A10G", None),
        ("Tesla T4", None),
    ],
)
def test_a_peak_is_that_of_the_data_sheet_or_unknown(gpus, name, peak):
    gpus(1, name=name)
    assert peak_flops(GPU, "bfloat16") == peak
    assert peak_flops(GPU, "float32") is None
    assert peak_flops(CPU, "bfloat16") is None


def test_memory_is_in_gib_of_the_device_or_of_this_process(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**29)
    assert memory_gib(GPU) == 1.5
    monkeypatch.setattr(module, "_RSS_AT_IMPORT", 0)
    monkeypatch.setattr(
        module.resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=2 * 2**20)
    )
    for platform, gib in (("linux", 2.0), ("darwin", 2.0 / 1024)):
        monkeypatch.setattr(module.sys, "platform", platform)
        assert memory_gib(CPU) == gib


def test_settings_of_a_training_hold_inside_and_are_restored(monkeypatch):
    matmul = SimpleNamespace(fp32_precision="ieee")
    flushed, exact = [], []
    # torch's own imports its compiler, which takes seconds.
    monkeypatch.setattr(torch, "use_deterministic_algorithms", exact.append)
    monkeypatch.setattr(module, "_matmul_switch", lambda: matmul)
    monkeypatch.setattr(torch, "set_flush_denormal", flushed.append)
    threads = torch.get_num_threads()
    for library, precision in (("onednn", "bf16"), ("torch", "ieee")):
        monkeypatch.setattr(module, "fp32_matmul", lambda device, library=library: library)
        with machine_settings(Placement(threads=3, deterministic=True), CPU, "float32"):
            assert torch.get_num_threads() == 3
            assert exact == [True]
            assert matmul.fp32_precision == precision
        assert torch.get_num_threads() == threads
        assert exact == [True, False]
        exact.clear()
        assert matmul.fp32_precision == "ieee"
    assert flushed == [True, False] * 2
    with machine_settings(Placement(), CPU, "float32"):
        assert torch.get_num_threads() == threads
    assert exact == []


@pytest.mark.parametrize(("error", "library"), [(2.9e-6, "onednn"), (3.1e-6, "torch")])
def test_onednn_multiplies_only_where_it_is_exact(monkeypatch, error, library):
    matmul = SimpleNamespace(fp32_precision="ieee")
    seen = []

    def fp32_error(*shape):
        seen.append(matmul.fp32_precision)
        # The last of the shapes alone is inexact.
        return error if shape == module._PROBED_SHAPES[-1] else 1e-7

    monkeypatch.setattr(module, "_matmul_switch", lambda: matmul)
    monkeypatch.setattr(module, "_fp32_error", fp32_error)
    monkeypatch.setattr(torch._C, "_has_mkldnn", True)
    monkeypatch.setattr(module, "_has_intels_mkl", lambda: False)
    fp32_matmul.cache_clear()
    try:
        assert fp32_matmul(CPU) == library
        assert set(seen) == {"bf16"}
        assert matmul.fp32_precision == "ieee"
        assert fp32_matmul(GPU) == "torch"
        monkeypatch.setattr(torch._C, "_has_mkldnn", False)
        fp32_matmul.cache_clear()
        assert fp32_matmul(CPU) == "torch"
    finally:
        fp32_matmul.cache_clear()


@pytest.mark.parametrize("mkl", [True, False])
def test_on_an_intel_processor_mkl_multiplies_where_torch_has_it(monkeypatch, tmp_path, mkl):
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: mkl)
    cpuinfo = tmp_path / "cpuinfo"
    assert not module._has_intels_mkl(cpuinfo)
    cpuinfo.write_text("vendor_id\t: AuthenticAMD\n")
    assert not module._has_intels_mkl(cpuinfo)
    cpuinfo.write_text("vendor_id\t: GenuineIntel\n")
    assert module._has_intels_mkl(cpuinfo) == mkl

    def fp32_error(*shape):
        raise AssertionError("oneDNN needs no test where MKL multiplies")

    monkeypatch.setattr(module, "_fp32_error", fp32_error)
    monkeypatch.setattr(module, "_has_intels_mkl", lambda: True)
    fp32_matmul.cache_clear()
    try:
        assert fp32_matmul(CPU) == "torch"
    finally:
        fp32_matmul.cache_clear()


def test_an_error_of_arithmetic_is_relative_to_the_product(monkeypatch):
    for shape in ((1, 16, 64, 8), (3, 16, 64, 8)):
        # Rounding of fp32 sums of 64 products.
        assert 1e-8 < module._fp32_error(*shape) < 1e-6
    bmm = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda left, right: bmm(left, right) * 1.01)
    assert module._fp32_error(3, 16, 64, 8) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="a kernel with huge pages"
)
def test_a_training_on_a_cpu_asks_for_huge_pages_under_its_heap():
    with machine_settings(Placement(), CPU, "float32"):
        mappings = re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
    flags = [each.partition("VmFlags:")[2].split() for each in mappings if "[heap]" in each]
    assert any("hg" in each for each in flags)
