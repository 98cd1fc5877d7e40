"""Training throughput on a GPU: our loop against transformers, 124M and 1B, bf16, in one run.

    python bench/train_gpu.py --json out.json

Needs torch with CUDA, numpy, pydantic and safetensors; transformers takes part if it can be
imported, with PyTorch's flash attention and torch.compile. Prints tokens/s, MFU (counted FLOPs
over the dense bf16 peak) and peak memory.
"""

import argparse
import importlib.util
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from llama_core.config import AdamW, ModelConfig, Placement, TrainConfig, Wsd
from llama_core.corpus.batches import Batches, TokenSource
from llama_core.counting import count_params, train_flops
from llama_core.machine import peak_flops
from llama_core.optim import adamw
from llama_core.train import train

# Width, layers, heads, SwiGLU width, vocabulary, sequence length, rows a step.
SHAPES = {
    "124M": (768, 12, 12, 2048, 32_000, 2048, 32),
    "1B": (2048, 18, 16, 5632, 32_000, 2048, 16),
    "tiny": (64, 2, 2, 176, 512, 128, 4),
}


def shape(name: str) -> tuple[ModelConfig, int, int]:
    """A model, its sequence length and the rows of a step."""
    width, layers, heads, d_ffn, vocab, seq_len, rows = SHAPES[name]
    model = ModelConfig(
        vocab_size=vocab, d_model=width, n_layers=layers, n_heads=heads, n_kv_heads=heads,
        head_dim=width // heads, d_ffn=d_ffn,
    )  # fmt: skip
    return model, seq_len, rows


def ours(model: ModelConfig, seq_len: int, rows: int, device: str) -> Callable[[], object]:
    """Our whole loop, one record a step."""
    cfg = TrainConfig(
        seq_len=seq_len, batch_tokens=seq_len * rows, warmup_tokens=0,
        schedule=Wsd(horizons=(seq_len * rows * 1_000_000,)), optimizer=AdamW(lr=3e-4),
        dtype="bfloat16", eval_tokens=seq_len,
    )  # fmt: skip
    data = np.random.default_rng(0).integers(0, model.vocab_size, 4_000_000).astype(np.uint16)
    batches = Batches(
        sources=[TokenSource("random", [data])], validation_shards=[data],
        piece_bytes=np.ones(model.vocab_size, np.int64), seq_len=seq_len,
        batch_tokens=seq_len * rows, seed=0, eval_tokens=seq_len,
    )  # fmt: skip
    records = train(model, cfg, batches, placement=Placement(device=device))
    return lambda: next(records)


def huggingface(model: ModelConfig, seq_len: int, rows: int, device: str) -> Callable[[], object]:
    """transformers' Llama with SDPA and torch.compile in a plain loop."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from llama_core.exchange.hf import hf_config

    config = LlamaConfig.from_dict(hf_config(model, seq_len))
    config._attn_implementation = "sdpa"
    net = LlamaForCausalLM(config).to(device)
    optimizer = adamw(net, AdamW(lr=3e-4))
    compiled = torch.compile(net) if device != "cpu" else net
    weights = list(net.parameters())

    def step() -> None:
        ids = torch.randint(0, model.vocab_size, (rows, seq_len + 1), device=device)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            logits = compiled(ids[:, :-1]).logits
        F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def measure(step: Callable[[], object], tokens: int, device: str, rounds: int) -> list[float]:
    """Tokens per second of each round of ten steps, after warming up."""
    cuda = device != "cpu"
    speeds = []
    for number in range(rounds + 1):
        if cuda:
            torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(10):
            step()
        if cuda:
            torch.cuda.synchronize()
        if number:
            speeds.append(10 * tokens / (time.perf_counter() - started))
    return speeds


def main() -> None:
    """Measure every shape and contender."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["124M", "1B"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cuda = options.device != "cpu"
    if cuda and not torch.cuda.is_available():
        parser.error("no CUDA device here; `--device cpu --shapes tiny` tries the script itself.")
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if cuda else "cpu"
    print(f"{name}, torch {torch.__version__}, bf16")
    field = {"ours": ours}
    if importlib.util.find_spec("transformers"):
        field["transformers"] = huggingface
    results = []
    for size, (contender, make) in itertools.product(options.shapes, field.items()):
        model, seq_len, rows = shape(size)
        if cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        speeds = measure(make(model, seq_len, rows, options.device), seq_len * rows, options.device,
                         options.rounds)  # fmt: skip
        flops = statistics.median(speeds) * train_flops(model, seq_len, seq_len) / seq_len
        peak = peak_flops(device, "bfloat16")
        memory = torch.cuda.max_memory_allocated() / 2**30 if cuda else None
        mfu = flops / peak if peak else None
        shown = f"{mfu:.1%}" if mfu else "unknown peak"
        print(
            f"{size:5s} N={count_params(model).n_params:,} {contender:13s} "
            f"{min(speeds):,.0f} {statistics.median(speeds):,.0f} {max(speeds):,.0f} tok/s, "
            f"{flops / 1e12:.1f} TFLOP/s, MFU {shown}"
        )
        results.append({
            "size": size, "contender": contender, "tokens_per_s": speeds, "flops_per_s": flops,
            "mfu": mfu, "memory_gib": memory,
        })  # fmt: skip
    if options.json:
        document = {"device": name, "torch": torch.__version__, "results": results}
        options.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
