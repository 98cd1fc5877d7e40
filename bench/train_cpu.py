"""Training throughput on a CPU against peers: same shapes and tokens, in one run.

    taskset -c 0 python bench/train_cpu.py --threads 1 --json out.json

Every contender has a process of its own. They take turns, slice by slice, so that a noisy machine
is noisy for all; a ratio is the median over rounds of ours against the contender in the same round.
Peers run as they come, and with everything our loop sets in its process: its library for fp32
matmuls, an allocator that keeps its pages, denormals flushed. With our settings they run compiled
too, as a whole, and so does ours (`--compiled no` leaves that out); the time of compiling is
printed and is in no ratio. litgpt takes part if it can be imported.
"""

import argparse
import importlib.util
import json
import multiprocessing
import platform
import re
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


# Our best over the best of a LLaMA-shaped peer.
TARGETS = {"0.1M": 1.2, "0.5M": 1.2, "2M": 1.2, "8M": 1.05}
PEERS = ("transformers sdpa", "transformers eager", "plain GPT", "litgpt")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Contender:
    """An implementation of training and its settings.

    Attributes:
        what: "ours" or one of `PEERS`.
        settings: whether its process has our loop's settings.
        compiled: whether it runs through torch.compile.
    """

    what: str
    dtype: str
    settings: bool
    compiled: bool = False

    @property
    def name(self) -> str:
        """Its name in the table."""
        extra = ", our settings" if self.settings and self.what != "ours" else ""
        return f"{self.what}, {self.dtype}{extra}{', compiled' if self.compiled else ''}"


def shape(size: str) -> ModelConfig:
    """The model of a size, with LLaMA's proportions."""
    width, layers, heads = SHAPES[size]
    return ModelConfig(
        vocab_size=VOCAB, d_model=width, n_layers=layers, n_heads=heads, n_kv_heads=heads,
        head_dim=width // heads, d_ffn=round(8 * width / 3 / 16) * 16,
    )  # fmt: skip


def ours(
    model: ModelConfig, dtype: str, data: np.ndarray, compiled: bool
) -> Callable[[Tensor], object]:
    """Our whole loop, records included, one record a step."""
    cfg = TrainConfig(
        seq_len=SEQ_LEN, batch_tokens=BATCH_TOKENS, warmup_tokens=0,
        schedule=Wsd(horizons=(BATCH_TOKENS * 1_000_000,)), optimizer=AdamW(lr=1e-3),
        eval_tokens=SEQ_LEN, dtype=dtype,
    )  # fmt: skip
    batches = Batches(
        sources=[TokenSource("random", [data], validation=[data])],
        piece_bytes=np.ones(VOCAB, np.int64), seq_len=SEQ_LEN, batch_tokens=BATCH_TOKENS,
        seed=0, eval_tokens=SEQ_LEN,
    )  # fmt: skip
    placement = Placement(device="cpu", compile="on" if compiled else "off")
    records = train(model, cfg, batches, placement=placement)
    return lambda rows: next(records)


def plain(net: nn.Module, dtype: str, logits_of: Callable[[object], Tensor], compiled: bool):
    """A step of a plain loop: forward, loss, backward, clip, fused AdamW with the same groups."""
    if compiled:
        net.compile(dynamic=False)
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
    """litgpt's GPT with Llama's components."""
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


def peer(contender: Contender, model: ModelConfig) -> Callable[[Tensor], object]:
    """A step of a peer."""
    what, dtype, compiled = contender.what, contender.dtype, contender.compiled
    if what == "plain GPT":
        return plain(PlainGpt(model), dtype, lambda out: out, compiled)
    if what == "litgpt":
        return plain(litgpt(model), dtype, lambda out: out, compiled)
    net = huggingface(model, what.split()[1])
    return plain(net, dtype, lambda out: out.logits, compiled)


def contenders(dtypes: list[str], *, bare: bool, compiled: bool) -> Iterator[Contender]:
    """Ours first, then every peer: as it comes if `bare`, with our settings, and compiled."""
    ways = [False, True] if compiled else [False]
    for dtype in dtypes:
        for way in ways:
            yield Contender("ours", dtype, settings=True, compiled=way)
    peers = [what for what in PEERS if what != "litgpt" or importlib.util.find_spec("litgpt")]
    for dtype in dtypes:
        for what in peers:
            if bare:
                yield Contender(what, dtype, settings=False)
            for way in ways:
                yield Contender(what, dtype, settings=True, compiled=way)


def serve(contender: Contender, size: str, threads: int, turns: Connection) -> None:
    """A contender's process: receive a number of steps, take them, send the seconds."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(threads)
    clock = seconds(threads)
    model = shape(size)
    draws = np.random.default_rng(0)
    rows = torch.from_numpy(draws.integers(0, VOCAB, (ROWS, SEQ_LEN + 1)))
    if contender.what == "ours":
        data = draws.integers(0, VOCAB, 2_000_000).astype(np.uint16)
        step = ours(model, contender.dtype, data, contender.compiled)
    else:
        step = peer(contender, model)
    placed = Placement(device="cpu", threads=threads)
    # Our loop makes these settings itself.
    bare = contender.what == "ours" or not contender.settings
    with nullcontext() if bare else machine_settings(placed, CPU, contender.dtype):
        while count := turns.recv():
            started = clock()
            for _ in range(count):
                step(rows)
            turns.send(clock() - started)


def seconds(threads: int) -> Callable[[], float]:
    """The clock: CPU time of one thread, which other work does not change; wall time of several."""
    return time.thread_time if threads == 1 else time.perf_counter


def race(
    field: list[Contender], size: str, threads: int, rounds: int, slice_s: float
) -> dict[Contender, list[float]]:
    """Tokens per second of every contender in every round."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["transformers.models.llama.modeling_llama", "__main__"])
    speeds: dict[Contender, list[float]] = {contender: [] for contender in field}
    with ExitStack() as stack:
        lines: dict[Contender, Connection] = {}
        steps: dict[Contender, int] = {}
        for each in field:
            lines[each], theirs = processes.Pipe()
            child = processes.Process(target=serve, args=(each, size, threads, theirs), daemon=True)
            child.start()
            theirs.close()  # so that receiving from a dead process fails at once
            stack.callback(child.join)
            stack.callback(lines[each].send, 0)
            first = took(lines[each], 2)
            if each.compiled:
                print(f"  {each.name}: {first:.0f} s to the second step", flush=True)
            steps[each] = max(2, round(slice_s / (took(lines[each], 2) / 2)))
        for _ in range(rounds):
            for each in field:
                elapsed = took(lines[each], steps[each])
                speeds[each].append(steps[each] * BATCH_TOKENS / elapsed)
    return speeds


def took(line: Connection, steps: int) -> float:
    """Seconds of this many steps in a contender's process."""
    line.send(steps)
    return float(line.recv())


def matmul_peak(dtype: torch.dtype, clock: Callable[[], float]) -> float:
    """Best FLOP/s of square matmuls."""
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
    """Print the table of a size; return its rows for JSON."""
    model = shape(size)
    flops = train_flops(model, SEQ_LEN, SEQ_LEN) / SEQ_LEN
    median = {each: statistics.median(rates) for each, rates in speeds.items()}
    best = max((each for each in speeds if each.what == "ours"), key=lambda each: median[each])
    print(f"\n{size} ({count_params(model).non_embedding:,}), {threads} thread(s)")
    rows: list[dict[str, object]] = []
    for each, theirs in speeds.items():
        ratio, mine = over(speeds[best], theirs), each.what == "ours"
        share = median[each] * flops / peaks[each.dtype] if mine else None
        ending = f"our best x{ratio:.2f}" if share is None else f"{share:.0%} of matmul peak"
        spread = f"{min(theirs):9,.0f} {median[each]:9,.0f} {max(theirs):9,.0f}"
        print(f"  {each.name:54s} {spread} tok/s   {ending}")
        rows.append({
            "size": size, "threads": threads, "contender": each.what, "dtype": each.dtype,
            "our_settings": each.settings, "compiled": each.compiled, "tokens_per_s": theirs,
            "our_best_over_this": ratio, "share_of_matmul_peak": share,
        })  # fmt: skip
    print(f"  our best ({best.name}) over the best of each:")
    for what in dict.fromkeys(each.what for each in speeds if each.what != "ours"):
        rival = max((each for each in speeds if each.what == what), key=lambda each: median[each])
        ratio = over(speeds[best], speeds[rival])
        target = TARGETS[size] if what != "plain GPT" else 1.05
        verdict = "" if ratio >= target else "   WE LOSE" if ratio < 1 else "   BELOW THE TARGET"
        print(f"    x{ratio:.2f} over {rival.name} (target {target}){verdict}")
    shipped = [each for each in speeds if each.dtype == "float32" and not each.settings]
    if shipped:
        listed = (f"{each.what} x{over(speeds[best], speeds[each]):.2f}" for each in shipped)
        print(f"  our best over each as shipped: {', '.join(listed)}")
    return rows


def processor_facts() -> str:
    """Name, instructions that matter here, and kernel, as far as Linux tells."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    name = re.search(r"model name\s*: (.*)", text)
    flags = set(text.partition("flags")[2].partition("\n")[0].split())
    known = [each for each in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if each in flags]
    given = name[1] if name else platform.processor() or platform.machine()
    return f"{given} ({', '.join(known)}), {platform.system()} {platform.release()}"


def main() -> None:
    """Race every size that is named."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slice-s", type=float, default=1.0, help="seconds a turn")
    parser.add_argument("--compiled", choices=["yes", "no"], default="yes")
    parser.add_argument("--bare", choices=["yes", "no"], default="yes", help="peers as they come")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    exact = fp32_matmul(CPU)
    print(f"{processor_facts()}, torch {torch.__version__}, fp32 by {exact}")
    peaks = {}
    for dtype in options.dtypes:
        with machine_settings(Placement(threads=options.threads), CPU, "float32"):
            peaks[dtype] = matmul_peak(getattr(torch, dtype), seconds(options.threads))
        print(f"matmul peak {dtype}: {peaks[dtype] / 1e9:.0f} GFLOP/s")
    results: list[dict[str, object]] = []
    for size in options.sizes:
        field = list(
            contenders(
                options.dtypes, bare=options.bare == "yes", compiled=options.compiled == "yes"
            )
        )
        speeds = race(field, size, options.threads, options.rounds, options.slice_s)
        results += report(size, options.threads, speeds, peaks)
    if options.json:
        document = {"torch": torch.__version__, "fp32_matmul": exact, "results": results}
        options.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
