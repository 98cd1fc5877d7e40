"""Training throughput on a CPU against peers: same shapes and tokens, in one run.

    taskset -c 0 python bench/train_cpu.py --threads 1 --json out.json

Every contender has a process of its own and they take turns, slice by slice, so that a noisy
machine is noisy for all; every ratio is the median over rounds of ours against the contender in
the same round. Peers run as they come, and with everything our loop sets in its process: exact
fp32 products by oneDNN, an allocator that keeps its pages, denormals flushed. litgpt takes part
where it can be imported.
"""

import argparse
import importlib.util
import json
import multiprocessing
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llama_core.config import AdamW, ModelConfig, Placement, TrainConfig, Wsd
from llama_core.corpus.batches import Batches, TokenSource
from llama_core.counting import count_params, train_flops
from llama_core.machine import fp32_matmul, machine_settings
from llama_core.optim import adamw
from llama_core.train import train

VOCAB, SEQ_LEN, ROWS = 1024, 256, 8
BATCH_TOKENS = SEQ_LEN * ROWS
# Width, layers, heads; about 0.1, 0.4, 1.8 and 7.6 M parameters without embedding and head.
SHAPES = {"0.1M": (64, 2, 2), "0.5M": (128, 2, 4), "2M": (192, 4, 6), "8M": (320, 6, 5)}


PEERS = ("transformers sdpa", "transformers eager", "plain GPT", "litgpt")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Contender:
    """Something that trains.

    Attributes:
        what: "ours" or one of `PEERS`.
        settings: whether the process has the settings of our loop.
    """

    what: str
    dtype: str
    settings: bool

    @property
    def name(self) -> str:
        """As it stands in the table."""
        extra = ", our settings" if self.settings and self.what != "ours" else ""
        return f"{self.what}, {self.dtype}{extra}"


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

    from llama_core.exchange.hf import hf_config

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


def peer(what: str, model: ModelConfig, dtype: str) -> Callable[[Tensor], object]:
    """A step of a peer."""
    if what == "plain GPT":
        return plain(PlainGpt(model), dtype, lambda out: out)
    if what == "litgpt":
        return plain(litgpt(model), dtype, lambda out: out)
    return plain(huggingface(model, what.split()[1]), dtype, lambda out: out.logits)


def contenders(dtypes: list[str]) -> Iterator[Contender]:
    """Ours first, then every peer bare and with our settings."""
    for dtype in dtypes:
        yield Contender("ours", dtype, settings=True)
    here = [what for what in PEERS if what != "litgpt" or importlib.util.find_spec("litgpt")]
    for dtype in dtypes:
        for what in here:
            yield Contender(what, dtype, settings=False)
            yield Contender(what, dtype, settings=True)


def serve(one: Contender, size: str, threads: int, turns: Connection) -> None:
    """A contender's process: take as many steps as asked for, answer with the seconds."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(threads)
    clock = seconds(threads)
    model = shape(size)
    draws = np.random.default_rng(0)
    rows = torch.from_numpy(draws.integers(0, VOCAB, (ROWS, SEQ_LEN + 1)))
    if one.what == "ours":
        data = draws.integers(0, VOCAB, 2_000_000).astype(np.uint16)
        step = ours(model, one.dtype, data)
    else:
        step = peer(one.what, model, one.dtype)
    placed = Placement(device="cpu", threads=threads)
    # Our loop sets its own.
    bare = one.what == "ours" or not one.settings
    with nullcontext() if bare else machine_settings(placed, CPU, one.dtype):
        while count := turns.recv():
            started = clock()
            for _ in range(count):
                step(rows)
            turns.send(clock() - started)


def seconds(threads: int) -> Callable[[], float]:
    """One thread's CPU time does not see what else the machine does; several need the wall."""
    return time.thread_time if threads == 1 else time.perf_counter


def race(
    field: list[Contender], size: str, threads: int, rounds: int, slice_s: float
) -> dict[Contender, list[float]]:
    """Tokens per second of every contender in every round."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["transformers.models.llama.modeling_llama", "__main__"])
    speeds: dict[Contender, list[float]] = {one: [] for one in field}
    with ExitStack() as stack:
        lines: dict[Contender, Connection] = {}
        steps: dict[Contender, int] = {}
        for one in field:
            lines[one], theirs = processes.Pipe()
            child = processes.Process(target=serve, args=(one, size, threads, theirs), daemon=True)
            child.start()
            theirs.close()  # so that a process that died ends the wait for it
            stack.callback(child.join)
            stack.callback(lines[one].send, 0)
            took(lines[one], 2)
            steps[one] = max(2, round(slice_s / (took(lines[one], 2) / 2)))
        for _ in range(rounds):
            for one in field:
                spent = took(lines[one], steps[one])
                speeds[one].append(steps[one] * BATCH_TOKENS / spent)
    return speeds


def took(line: Connection, steps: int) -> float:
    """Seconds of so many steps in a contender's process."""
    line.send(steps)
    return float(line.recv())


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


def over(mine: list[float], theirs: list[float]) -> float:
    """Median over rounds of ours against theirs."""
    return statistics.median(a / b for a, b in zip(mine, theirs, strict=True))


def report(
    size: str, threads: int, speeds: dict[Contender, list[float]], peaks: dict[str, float]
) -> list[dict[str, object]]:
    """Rows for people and for JSON."""
    model = shape(size)
    flops = train_flops(model, SEQ_LEN, SEQ_LEN) / SEQ_LEN
    mine = {one.dtype: rates for one, rates in speeds.items() if one.what == "ours"}
    print(f"\n{size} ({count_params(model).non_embedding:,}), {threads} thread(s)")
    found: list[dict[str, object]] = []
    for one, theirs in speeds.items():
        median = statistics.median(theirs)
        ratio = over(mine[one.dtype], theirs)
        share = median * flops / peaks[one.dtype] if one.what == "ours" else None
        ending = f"ours x{ratio:.2f}" if share is None else f"{share:.0%} of matmul peak"
        spread = f"{min(theirs):9,.0f} {median:9,.0f} {max(theirs):9,.0f}"
        print(f"  {one.name:44s} {spread} tok/s   {ending}")
        found.append({
            "size": size, "threads": threads, "contender": one.what, "dtype": one.dtype,
            "our_settings": one.settings, "tokens_per_s": theirs,
            "ours_over_this": ratio, "share_of_matmul_peak": share,
        })  # fmt: skip
    best = max(mine.values(), key=statistics.median)
    peers = {one: rates for one, rates in speeds.items() if one.what != "ours"}
    fastest = max(peers, key=lambda one: statistics.median(peers[one]))
    print(f"  our best over the fastest, {fastest.name}: x{over(best, peers[fastest]):.2f}")
    shipped = [one for one in peers if one.dtype == "float32" and not one.settings]
    listed = ", ".join(f"{one.what} x{over(best, peers[one]):.2f}" for one in shipped)
    print(f"  our best over each as shipped: {listed}")
    return found


def main() -> None:
    """Race every size asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slice-s", type=float, default=1.0, help="seconds a turn")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    exact = fp32_matmul(CPU)
    processor = platform.processor() or platform.machine()
    print(f"{processor}, torch {torch.__version__}, fp32 by {exact}")
    peaks = {}
    for dtype in asked.dtypes:
        with machine_settings(Placement(threads=asked.threads), CPU, "float32"):
            peaks[dtype] = matmul_peak(getattr(torch, dtype), seconds(asked.threads))
        print(f"matmul peak {dtype}: {peaks[dtype] / 1e9:.0f} GFLOP/s")
    results: list[dict[str, object]] = []
    for size in asked.sizes:
        field = list(contenders(asked.dtypes))
        speeds = race(field, size, asked.threads, asked.rounds, asked.slice_s)
        results += report(size, asked.threads, speeds, peaks)
    if asked.json:
        document = {"torch": torch.__version__, "fp32_matmul": exact, "results": results}
        asked.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
