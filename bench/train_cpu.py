"""Training throughput on a CPU against peers: same shapes, tokens and precision, in one run.

    OMP_NUM_THREADS=1 taskset -c 0 python bench/train_cpu.py --threads 1 --json out.json

Contenders take turns, slice by slice, so that a noisy machine is noisy for all; every ratio is the
median over rounds of ours against the peer in the same round. Peers run as shipped (fp32 with
torch's own matmul) and at their best: the better of torch's and oneDNN's fp32, and bf16 autocast.
litgpt takes part where it can be imported.
"""

import argparse
import importlib.util
import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llama_core.config import AdamW, ModelConfig, Placement, TrainConfig, Wsd
from llama_core.counting import count_params, train_flops
from llama_core.data import Batches, TokenSource
from llama_core.machine import fp32_matmul
from llama_core.optim import adamw
from llama_core.train import train

VOCAB, SEQ_LEN, ROWS = 1024, 256, 8
BATCH_TOKENS = SEQ_LEN * ROWS
# Width, layers, heads; about 0.1, 0.4, 1.8 and 7.6 M parameters without embedding and head.
SHAPES = {"0.1M": (64, 2, 2), "0.5M": (128, 2, 4), "2M": (192, 4, 6), "8M": (320, 6, 5)}


@dataclass
class Contender:
    """Something that takes training steps.

    Attributes:
        step: one step on rows of (ROWS, SEQ_LEN + 1) ids.
        onednn: whether fp32 products may go to oneDNN.
    """

    name: str
    step: Callable[[Tensor], object]
    onednn: bool


def shape(size: str) -> ModelConfig:
    """The model of a size, LLaMA's proportions."""
    width, layers, heads = SHAPES[size]
    return ModelConfig(
        vocab_size=VOCAB, d_model=width, n_layers=layers, n_heads=heads, n_kv_heads=heads,
        head_dim=width // heads, d_ffn=round(8 * width / 3 / 16) * 16,
    )  # fmt: skip


def ours(model: ModelConfig, dtype: str, data: np.ndarray) -> Callable[[Tensor], object]:
    """Our whole loop, records included, one record a step."""
    cfg = TrainConfig(
        seq_len=SEQ_LEN, batch_tokens=BATCH_TOKENS, warmup_tokens=0,
        schedule=Wsd(horizons=(BATCH_TOKENS * 1_000_000,)), optimizer=AdamW(lr=1e-3),
        eval_tokens=SEQ_LEN, dtype=dtype,
    )  # fmt: skip
    batches = Batches(
        sources=[TokenSource("random", [data])], validation_shards=[data],
        piece_bytes=np.ones(VOCAB, np.int64), seq_len=SEQ_LEN, batch_tokens=BATCH_TOKENS,
        seed=0, eval_tokens=SEQ_LEN,
    )  # fmt: skip
    records = train(model, cfg, batches, placement=Placement(device="cpu"))
    return lambda rows: next(records)


def plain(net: nn.Module, dtype: str, logits_of: Callable[[object], Tensor]):
    """A usual loop: forward, loss, backward, clip, fused AdamW with the same groups."""
    optimizer = adamw(net, AdamW(lr=1e-3))
    weights = list(net.parameters())

    def step(rows: Tensor) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = logits_of(net(rows[:, :-1]))
        loss = F.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


def huggingface(model: ModelConfig, attention: str) -> nn.Module:
    """transformers' Llama of the same shape."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from llama_core.hf import hf_config

    config = LlamaConfig.from_dict(hf_config(model, SEQ_LEN))
    config._attn_implementation = attention
    return LlamaForCausalLM(config)


def litgpt(model: ModelConfig) -> nn.Module:
    """litgpt's GPT with Llama's parts."""
    from litgpt.config import Config
    from litgpt.model import GPT

    config = Config(
        name="bench", block_size=SEQ_LEN, vocab_size=VOCAB, padded_vocab_size=VOCAB,
        n_layer=model.n_layers, n_head=model.n_heads, n_embd=model.d_model, rotary_percentage=1.0,
        parallel_residual=False, bias=False, norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP",
        intermediate_size=model.d_ffn, norm_eps=1e-5,
    )  # fmt: skip
    return GPT(config)


class PlainGpt(nn.Module):
    """A GPT-2 as small training scripts write it: LayerNorm, GELU, learned positions, tied."""

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        width = model.d_model
        self.heads = model.n_heads
        self.tokens = nn.Embedding(VOCAB, width)
        self.places = nn.Embedding(SEQ_LEN, width)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({
                "norm1": nn.LayerNorm(width, bias=False),
                "qkv": nn.Linear(width, 3 * width, bias=False),
                "out": nn.Linear(width, width, bias=False),
                "norm2": nn.LayerNorm(width, bias=False),
                "up": nn.Linear(width, 4 * width, bias=False),
                "down": nn.Linear(4 * width, width, bias=False),
            })
            for _ in range(model.n_layers)
        )  # fmt: skip
        self.norm = nn.LayerNorm(width, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        b, t = ids.shape
        x = self.tokens(ids) + self.places.weight[:t]
        for block in self.blocks:
            qkv = block["qkv"](block["norm1"](x)).view(b, t, 3, self.heads, -1)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + block["out"](mixed.transpose(1, 2).reshape(b, t, -1))
            x = x + block["down"](F.gelu(block["up"](block["norm2"](x))))
        return F.linear(self.norm(x), self.tokens.weight)


def contenders(model: ModelConfig, dtype: str, data: np.ndarray) -> Iterator[Contender]:
    """Ours first, then every peer; in fp32 each peer with torch's products and with oneDNN's."""
    exact = fp32_matmul(torch.device("cpu")) == "onednn"
    yield Contender("ours", ours(model, dtype, data), onednn=exact)
    peers: dict[str, Callable[[], tuple[nn.Module, Callable]]] = {
        "transformers sdpa": lambda: (huggingface(model, "sdpa"), lambda out: out.logits),
        "transformers eager": lambda: (huggingface(model, "eager"), lambda out: out.logits),
        "plain GPT": lambda: (PlainGpt(model), lambda out: out),
    }
    if importlib.util.find_spec("litgpt"):
        peers["litgpt"] = lambda: (litgpt(model), lambda out: out)
    switches = [False, True] if dtype == "float32" and exact else [False]
    for name, make in peers.items():
        for onednn in switches:
            net, logits_of = make()
            label = f"{name}, oneDNN" if onednn else name
            yield Contender(label, plain(net, dtype, logits_of), onednn)


def race(
    model: ModelConfig, dtype: str, rounds: int, slice_s: float, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Tokens per second of every contender in every round."""
    draws = np.random.default_rng(0)
    data = draws.integers(0, VOCAB, 2_000_000).astype(np.uint16)
    rows = torch.from_numpy(draws.integers(0, VOCAB, (ROWS, SEQ_LEN + 1)))
    field = list(contenders(model, dtype, data))
    speeds: dict[str, list[float]] = {one.name: [] for one in field}
    steps: dict[str, int] = {}
    for number in range(rounds + 1):
        for one in field:
            torch.backends.mkldnn.matmul.fp32_precision = "bf16" if one.onednn else "none"
            torch.set_flush_denormal(True)
            if number == 0:  # warm up, and see how many steps fill a slice
                one.step(rows)
                started = clock()
                one.step(rows)
                steps[one.name] = max(2, round(slice_s / max(clock() - started, 1e-6)))
                continue
            started = clock()
            for _ in range(steps[one.name]):
                one.step(rows)
            spent = clock() - started
            speeds[one.name].append(steps[one.name] * BATCH_TOKENS / spent)
    return speeds


def matmul_peak(dtype: torch.dtype, clock: Callable[[], float]) -> float:
    """Best FLOP/s of square products."""
    best = 0.0
    for size in (1024, 2048):
        left, right = torch.randn(2, size, size).to(dtype)
        for _ in range(4):
            started = clock()
            left @ right
            best = max(best, 2 * size**3 / (clock() - started))
    return best


def report(size: str, dtype: str, threads: int, speeds: dict[str, list[float]], peak: float):
    """Rows for people and for JSON."""
    model = shape(size)
    flops = train_flops(model, SEQ_LEN, SEQ_LEN) / SEQ_LEN
    mine = speeds["ours"]
    print(f"\n{size} ({count_params(model).non_embedding:,}), {dtype}, {threads} thread(s)")
    found = []
    for name, theirs in speeds.items():
        median = statistics.median(theirs)
        ratio = statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
        share = f", {median * flops / peak:.0%} of matmul peak" if name == "ours" else ""
        spread = f"{min(theirs):9,.0f} {median:9,.0f} {max(theirs):9,.0f}"
        print(f"  {name:28s} {spread} tok/s   ours x{ratio:.2f}{share}")
        found.append({
            "size": size, "dtype": dtype, "threads": threads, "contender": name,
            "tokens_per_s": theirs, "ours_over_this": ratio,
            "share_of_matmul_peak": median * flops / peak if name == "ours" else None,
        })  # fmt: skip
    return found


def main() -> None:
    """Race every size and precision asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slice-s", type=float, default=1.0, help="seconds a turn")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(asked.threads)
    # One thread's CPU time does not see what else the machine does; several need the wall.
    clock = time.thread_time if asked.threads == 1 else time.perf_counter
    exact = fp32_matmul(torch.device("cpu"))
    print(
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, fp32 by {exact}"
    )
    results = []
    for dtype in asked.dtypes:
        torch.backends.mkldnn.matmul.fp32_precision = "bf16" if exact == "onednn" else "none"
        peak = matmul_peak(getattr(torch, dtype), clock)
        print(f"\nmatmul peak {dtype}: {peak / 1e9:.0f} GFLOP/s")
        for size in asked.sizes:
            speeds = race(shape(size), dtype, asked.rounds, asked.slice_s, clock)
            results += report(size, dtype, asked.threads, speeds, peak)
    if asked.json:
        document = {"torch": torch.__version__, "fp32_matmul": exact, "results": results}
        asked.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
