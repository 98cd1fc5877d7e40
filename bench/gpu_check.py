"""Everything this project wants to know of a GPU, in under eight minutes.

    python bench/gpu_check.py --json out.json
    python bench/gpu_check.py --device cpu --tiny        # tries the script itself

For a bare machine with Python 3.12, PyTorch, numpy, safetensors, sentencepiece and transformers.
Pydantic travels as wheels, made where there is a network:

    pip download --only-binary=:all: --python-version 3.12 --platform manylinux2014_x86_64 \
        --implementation cp -d wheels pydantic zstandard pytest
    # there: pip install --no-index --no-deps --target site wheels/*.whl; export PYTHONPATH=site

Each part prints a line as soon as it knows it and is an entry of the JSON; a part that fails is
named with its error and the next one runs; none starts after `--limit-s`.
"""

import argparse
import importlib.util
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
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
from llama_core.records import EvalRecord, StepRecord
from llama_core.stacked.course import Training
from llama_core.stacked.train import train_stacked
from llama_core.train import build, losses, train

ROOT = Path(__file__).resolve().parents[1]
# Width, layers, heads, SwiGLU width, vocabulary, sequence length, rows a step.
SHAPES = {
    "124M": (768, 12, 12, 2048, 32_000, 2048, 32),
    "1B": (2048, 18, 16, 5632, 32_000, 2048, 16),
    "10M": (320, 8, 5, 864, 4096, 512, 16),
    "1M": (128, 4, 4, 352, 1024, 256, 16),
    "tiny": (64, 2, 2, 176, 512, 128, 4),
}


@dataclass(frozen=True)
class Setting:
    """Where the check runs and how much of it."""

    device: str
    tiny: bool

    @property
    def cuda(self) -> bool:
        """Whether this is the real thing."""
        return self.device != "cpu"

    def wait(self) -> None:
        """Until the device has done what it was asked."""
        if self.cuda:
            torch.cuda.synchronize()


def shape(name: str) -> tuple[ModelConfig, int, int]:
    """A model, its sequence length and the rows of a step."""
    width, layers, heads, d_ffn, vocab, seq_len, rows = SHAPES[name]
    model = ModelConfig(
        vocab_size=vocab, d_model=width, n_layers=layers, n_heads=heads, n_kv_heads=heads,
        head_dim=width // heads, d_ffn=d_ffn,
    )  # fmt: skip
    return model, seq_len, rows


def recipe(name: str, *horizon_steps: int, lr: float = 3e-4) -> tuple[TrainConfig, Batches]:
    """A recipe for a shape, and random tokens that a model can learn the frequencies of."""
    model, seq_len, rows = shape(name)
    cfg = TrainConfig(
        seq_len=seq_len, batch_tokens=seq_len * rows, warmup_tokens=0,
        schedule=Wsd(horizons=tuple(steps * seq_len * rows for steps in horizon_steps)),
        optimizer=AdamW(lr=lr), dtype="bfloat16", eval_tokens=seq_len * 4,
    )  # fmt: skip
    draws = np.random.default_rng(0).zipf(1.5, 400_000) % model.vocab_size
    data = draws.astype(np.uint16)
    batches = Batches(
        sources=[TokenSource("random", [data])], validation_shards=[data],
        piece_bytes=np.ones(model.vocab_size, np.int64), seq_len=seq_len,
        batch_tokens=seq_len * rows, seed=0, eval_tokens=cfg.eval_tokens,
    )  # fmt: skip
    return cfg, batches


def ours(name: str, setting: Setting, compiled: str, lr: float = 3e-4) -> Callable[[], object]:
    """A step of our whole loop."""
    cfg, batches = recipe(name, 1_000_000, lr=lr)
    placement = Placement(device=setting.device, compile=compiled)
    records = train(shape(name)[0], cfg, batches, placement=placement)
    return lambda: next(records)


def peer(name: str, setting: Setting, compiled: str) -> Callable[[], object]:
    """A step of transformers' Llama with PyTorch's flash attention, in a plain loop."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from llama_core.exchange.hf import hf_config

    model, seq_len, rows = shape(name)
    config = LlamaConfig.from_dict(hf_config(model, seq_len))
    config._attn_implementation = "sdpa"
    net = LlamaForCausalLM(config).to(setting.device)
    optimizer = adamw(net, AdamW(lr=3e-4))
    called = torch.compile(net) if compiled == "on" else net
    weights = list(net.parameters())

    def step() -> None:
        ids = torch.randint(0, model.vocab_size, (rows, seq_len + 1), device=setting.device)
        with torch.autocast(setting.device.split(":")[0], torch.bfloat16):
            logits = called(ids[:, :-1]).logits
        F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def seconds_a_step(step: Callable[[], object], setting: Setting, steps: int) -> list[float]:
    """Seconds of a step in five rounds, after a warm-up."""
    rounds = []
    for number in range(2 if setting.tiny else 6):
        setting.wait()
        started = time.perf_counter()
        for _ in range(steps):
            step()
        setting.wait()
        if number:
            rounds.append((time.perf_counter() - started) / steps)
    return rounds


def gpu_tests(setting: Setting) -> dict[str, object]:
    """The tests marked `gpu`; all skip on a CPU."""
    if importlib.util.find_spec("pytest") is None:
        return {"skipped": "pytest is not installed"}
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider",
               str(ROOT / "tests/unit/llama_core/test_gpu.py")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    return {"exit": done.returncode, "said": done.stdout.strip().splitlines()[-1:]}


def resume(setting: Setting) -> dict[str, object]:
    """A run stopped twice has the records of one that was not, to the bit."""
    model = shape("tiny")[0]
    cfg, batches = recipe("tiny", 4, 8)

    def values(folder: Path, stops: tuple[int, ...]) -> list[tuple[object, ...]]:
        placement = Placement(device=setting.device, compile="off", deterministic=setting.cuda)
        kept: list[tuple[object, ...]] = []
        for stop in (*stops, math.inf):
            records = train(
                model, cfg, batches, placement=placement, checkpoints=folder,
                stop=partial(lambda stop: len(kept) >= stop, stop),
            )  # fmt: skip
            for record in records:
                if isinstance(record, StepRecord):
                    kept.append((record.step, record.horizon, record.loss, record.grad_norm))
                elif isinstance(record, EvalRecord):
                    kept.append((record.step, record.val_loss, record.weights_sha256))
        return kept

    with tempfile.TemporaryDirectory() as folder:
        whole = values(Path(folder) / "a" / "c", ())
        parts = values(Path(folder) / "b" / "c", (2, 7))
    return {"to_the_bit": whole == parts, "records": len(whole)}


def speed(setting: Setting) -> dict[str, object]:
    """Tokens/s and MFU of ours and transformers, with and without compilation."""
    table = {}
    field = {"ours": ours}
    if importlib.util.find_spec("transformers"):
        field["transformers"] = peer
    for name in ("tiny",) if setting.tiny else ("124M", "1B"):
        model, seq_len, rows = shape(name)
        for compiled in ("off",) if setting.tiny else ("on", "off"):
            for who, make in field.items():
                if setting.cuda:
                    torch.cuda.empty_cache()
                    torch.cuda.reset_peak_memory_stats()
                label = f"{name} {who} compile {compiled}"
                try:
                    rounds = seconds_a_step(make(name, setting, compiled), setting, 5)
                except torch.cuda.OutOfMemoryError:
                    table[label] = {"failed": "out of memory"}
                    continue
                second = statistics.median(rounds)
                peak = peak_flops(torch.device(setting.device), "bfloat16")
                flops = train_flops(model, seq_len, seq_len * rows) / second
                table[label] = {
                    "n_params": count_params(model).n_params,
                    "tokens_per_s": seq_len * rows / second,
                    "slowest_and_fastest": [seq_len * rows / each for each in
                                            (max(rounds), min(rounds))],
                    "mfu": flops / peak if peak else None,
                    "memory_gib": torch.cuda.max_memory_allocated() / 2**30
                    if setting.cuda else None,
                }  # fmt: skip
                print(f"   {label}: {table[label]}", flush=True)
    return table


def sweep(setting: Setting) -> dict[str, object]:
    """A small sweep: sizes with a trunk and two branches each; every loss and the seconds."""
    started = time.perf_counter()
    names, steps = (("tiny",), (6, 12)) if setting.tiny else (("tiny", "1M", "10M"), (100, 200))
    losses = {}
    for name in names:
        cfg, batches = recipe(name, *steps, lr=1e-3)
        with tempfile.TemporaryDirectory() as folder:
            records = train(shape(name)[0], cfg, batches, checkpoints=Path(folder) / "c",
                            placement=Placement(device=setting.device))  # fmt: skip
            losses[name] = [r.val_loss for r in records if isinstance(r, EvalRecord)]
    return {"val_loss": losses, "seconds": time.perf_counter() - started}


def many(setting: Setting) -> dict[str, object]:
    """Model-steps per second of many small models: one by one, stacked, graphs, processes."""
    table: dict[str, object] = {}
    count, steps = (2, 2) if setting.tiny else (16, 10)
    for name in ("tiny",) if setting.tiny else ("1M", "10M"):
        ways: dict[str, Callable[[], list[float]]] = {
            "alone": partial(alone, name, setting, "off", steps),
            "alone compiled": partial(alone, name, setting, "on", steps),
            "stacked": partial(stacked, name, setting, count, steps),
            "graph": partial(graphed, name, setting, steps),
            "processes": partial(processes, name, setting, 4, steps),
        }
        for way, measured in ways.items():
            if setting.tiny and way in ("alone compiled", "graph", "processes"):
                continue
            try:
                rates = [1 / second for second in measured()]
            except Exception as error:
                table[f"{name} {way}"] = {"failed": repr(error)}
            else:
                table[f"{name} {way}"] = {
                    "model_steps_per_s": statistics.median(rates),
                    "slowest_and_fastest": [min(rates), max(rates)],
                }
            print(f"   {name} {way}: {table[f'{name} {way}']}", flush=True)
    return table


def alone(name: str, setting: Setting, compiled: str, steps: int) -> list[float]:
    """Seconds of a step of one model."""
    return seconds_a_step(ours(name, setting, compiled), setting, steps)


def stacked(name: str, setting: Setting, count: int, steps: int) -> list[float]:
    """Seconds of a model's step where `count` of them are one program."""
    pairs = [recipe(name, 1_000_000, lr=1e-4 * (place + 1)) for place in range(count)]
    batches = pairs[0][1]
    trainings = [Training(cfg, batches) for cfg, _ in pairs]
    records = train_stacked(shape(name)[0], trainings, placement=Placement(device=setting.device))

    def step() -> None:
        for _ in range(count):
            next(records)

    return [second / count for second in seconds_a_step(step, setting, steps)]


def graphed(name: str, setting: Setting, steps: int) -> list[float]:
    """Seconds of a step of the model captured once as a CUDA graph: what launching costs."""
    cfg, batches = recipe(name, 1_000_000)
    device = torch.device(setting.device)
    net = build(shape(name)[0], cfg, Placement(compile="off"), device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-4, fused=True, capturable=True)
    weights, ids = list(net.parameters()), torch.from_numpy(batches.at(0)).to(device)

    def step() -> None:
        # The cache would keep copies that belong to the graph.
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            logits = net(ids[:, :-1])
        (losses(logits, ids[:, 1:], 0.0)[0] / cfg.batch_tokens).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return seconds_a_step(graph.replay, setting, steps)


def processes(name: str, setting: Setting, count: int, steps: int) -> list[float]:
    """Seconds of a model's step with several processes on the device at once."""
    command = [sys.executable, __file__, "--device", setting.device, "--alone", name,
               "--steps", str(10 * steps)]  # fmt: skip
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    outputs = [each.communicate()[0] for each in running]
    return [statistics.median(float(out.split()[-1]) for out in outputs) / count]


PARTS = {"tests": gpu_tests, "resume": resume, "speed": speed, "sweep": sweep, "many": many}


def results_of(parts: list[str], setting: Setting, limit_s: float) -> Iterator[tuple[str, object]]:
    """Each part's answer, or why it has none."""
    started = time.perf_counter()
    for name in parts:
        if time.perf_counter() - started > limit_s:
            yield name, {"skipped": f"it would have started after {limit_s:.0f} s"}
            continue
        try:
            yield name, PARTS[name](setting)
        except Exception as error:
            traceback.print_exc()
            yield name, {"failed": repr(error)}


def main() -> None:
    """Run the parts that are named, in order."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="shapes of seconds")
    parser.add_argument("--limit-s", type=float, default=420, help="no part starts later")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--alone", choices=SHAPES, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=10, help=argparse.SUPPRESS)
    options = parser.parse_args()
    setting = Setting(options.device, options.tiny)
    if setting.cuda and not torch.cuda.is_available():
        parser.error("no CUDA device here; `--device cpu --tiny` tries the script itself.")
    if options.alone:
        print(statistics.median(alone(options.alone, setting, "off", options.steps)))
        return
    name = torch.cuda.get_device_name() if setting.cuda else "cpu"
    document: dict[str, object] = {"device": name, "torch": torch.__version__}
    print(f"{name}, torch {torch.__version__}, bf16", flush=True)
    for part, answer in results_of(options.parts, setting, options.limit_s):
        document[part] = answer
        print(f"{part}: {json.dumps(answer)}", flush=True)
        if options.json:
            # After every part: a machine may be taken away.
            options.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
