"""Trainings of one shape stacked, against one after another: seconds of the same steps.

    taskset -c 0 env OMP_NUM_THREADS=1 python bench/stacked.py --json out.json
    python bench/stacked.py --device cuda --layers 4 --vocab 4096 --widths 128 --counts 8 64 \\
        --batches 4096 16384 --dtypes bfloat16

Seconds are of the processor's work on a CPU and by the clock on a GPU, where the single training
is compiled, as it is by default.

Both take turns in one process, slice by slice; a ratio is K times the seconds of a step of one
training over the seconds of a step of K stacked ones, in the same round.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch

from llama_core.config import AdamW, ModelConfig, Placement, TrainConfig, Wsd
from llama_core.corpus.batches import Batches, TokenSource
from llama_core.records import StepRecord
from llama_core.stacked.member import Training
from llama_core.stacked.train import train_stacked
from llama_core.train import train

SEQ_LEN = 128


@dataclass(frozen=True)
class Setting:
    """What all rows of the table share."""

    device: str
    layers: int
    vocab: int
    rounds: int
    steps: int

    @property
    def placement(self) -> Placement:
        """On the device, without checkpoints."""
        return Placement(device=self.device, checkpoint_every_s=1e9)

    def clock(self) -> float:
        """Seconds of work, or by the clock."""
        return time.process_time() if self.device == "cpu" else time.perf_counter()


def shape(width: int, setting: Setting) -> ModelConfig:
    """The demo's shape of a width, unless layers or vocabulary are given."""
    return ModelConfig(
        vocab_size=setting.vocab, d_model=width, n_layers=setting.layers,
        n_heads=width // 16, n_kv_heads=width // 16,
        head_dim=16, d_ffn=round(8 * width / 3 / 8) * 8, qk_norm=True, rope_theta=100.0,
    )  # fmt: skip


def recipe(batch: int, dtype: str, lr: float) -> TrainConfig:
    """A long trunk at a rate."""
    return TrainConfig(
        seq_len=SEQ_LEN, batch_tokens=batch, warmup_tokens=0,
        schedule=Wsd(horizons=(batch * 1_000_000,)), optimizer=AdamW(lr=lr), eval_tokens=SEQ_LEN,
        dtype=dtype,
    )  # fmt: skip


def batches(cfg: TrainConfig, data: np.ndarray) -> Batches:
    """Random tokens for a recipe."""
    return Batches(
        sources=[TokenSource("random", [data], validation=[data])],
        piece_bytes=np.ones(int(data.max()) + 1, np.int64), seq_len=SEQ_LEN,
        batch_tokens=cfg.batch_tokens, seed=0, eval_tokens=SEQ_LEN,
    )  # fmt: skip


def seconds(records: Iterator[object], steps: int, setting: Setting) -> float:
    """Seconds that `steps` steps take."""
    started = setting.clock()
    while steps:
        record = next(records)
        steps -= isinstance(record[1] if isinstance(record, tuple) else record, StepRecord)
    return setting.clock() - started


def ratios(
    width: int, sizes: list[int], dtype: str, data: np.ndarray, setting: Setting
) -> list[float]:
    """One after another over stacked, for every round; equal numbers of tokens of each batch."""
    model, longest = shape(width, setting), max(sizes)
    configs = [recipe(size, dtype, 1e-3 + 1e-5 * place) for place, size in enumerate(sizes)]
    trainings = [Training(cfg, batches(cfg, data)) for cfg in configs]
    first = {each.cfg.batch_tokens: each for each in trainings}
    alone = {
        size: train(model, each.cfg, each.batches, placement=setting.placement)
        for size, each in first.items()
    }
    together = train_stacked(model, trainings, placement=setting.placement)
    # Steps of each batch that read as many tokens as `steps` of the longest.
    own = {size: setting.steps * longest // size for size in sizes}
    found = []
    for number in range(setting.rounds + 1):
        each = {size: seconds(alone[size], own[size], setting) for size in alone}
        stacked = seconds(together, sum(own[size] for size in sizes), setting)
        if number:
            found.append(sum(each[size] for size in sizes) / stacked)
    return found


def device_name() -> str:
    """The processor's name on Linux."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64, 96, 128])
    parser.add_argument("--batches", nargs="+", default=["256", "512", "1024", "2048"])
    parser.add_argument("--counts", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--vocab", type=int, default=512)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    setting = Setting(args.device, args.layers, args.vocab, args.rounds, args.steps)
    data = np.random.default_rng(0).integers(0, args.vocab, 4_000_000).astype(np.uint16)
    name = torch.cuda.get_device_name() if args.device != "cpu" else device_name()
    header = {"torch": torch.__version__, "device": name, "rounds": args.rounds}
    print(json.dumps(header))
    rows = []
    for dtype, width, batch in product(args.dtypes, args.widths, args.batches):
        line = f"{dtype:9} d{width:<4} batch {batch:>12}"
        for count in args.counts:
            given = [int(size) for size in batch.split(",")]
            sizes = given if len(given) > 1 else given * count
            found = ratios(width, sizes, dtype, data, setting)
            rows.append({
                "dtype": dtype, "width": width, "batch": batch, "models": len(sizes),
                "ratio": statistics.median(found), "low": min(found), "high": max(found),
            })  # fmt: skip
            spread = f"({min(found):.2f}-{max(found):.2f})"
            line += f"  K={len(sizes)} {statistics.median(found):.2f} {spread}"
            if len(given) > 1:
                break
        print(line, flush=True)
    if args.json:
        args.json.write_text(json.dumps(header | {"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
