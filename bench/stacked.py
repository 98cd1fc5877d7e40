"""Trainings of one shape stacked, against one after another: CPU seconds of the same steps.

    taskset -c 0 env OMP_NUM_THREADS=1 python bench/stacked.py --json out.json

Both take turns in one process, slice by slice; a ratio is K times the seconds of a step of one
training over the seconds of a step of K stacked ones, in the same round.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import torch

from llama_core.config import AdamW, ModelConfig, Placement, TrainConfig, Wsd
from llama_core.corpus.batches import Batches, TokenSource
from llama_core.records import StepRecord
from llama_core.stacked.course import Training
from llama_core.stacked.train import train_stacked
from llama_core.train import train

VOCAB, SEQ_LEN = 512, 128
HERE = Placement(device="cpu", checkpoint_every_s=1e9)


def shape(width: int) -> ModelConfig:
    """The demo's shape of a width."""
    return ModelConfig(
        vocab_size=VOCAB, d_model=width, n_layers=2, n_heads=width // 16, n_kv_heads=width // 16,
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
        sources=[TokenSource("random", [data])], validation_shards=[data],
        piece_bytes=np.ones(VOCAB, np.int64), seq_len=SEQ_LEN, batch_tokens=cfg.batch_tokens,
        seed=0, eval_tokens=SEQ_LEN,
    )  # fmt: skip


def seconds(records: Iterator[object], steps: int) -> float:
    """CPU seconds of so many steps."""
    started = time.process_time()
    while steps:
        record = next(records)
        steps -= isinstance(record[1] if isinstance(record, tuple) else record, StepRecord)
    return time.process_time() - started


def ratios(
    width: int, sizes: list[int], dtype: str, data: np.ndarray, rounds: int, steps: int
) -> list[float]:
    """One after another over stacked, for every round; equal numbers of tokens of each batch."""
    model, longest = shape(width), max(sizes)
    configs = [recipe(size, dtype, 1e-3 * (1 + place)) for place, size in enumerate(sizes)]
    trainings = [Training(cfg, batches(cfg, data)) for cfg in configs]
    alone = [train(model, each.cfg, each.batches, placement=HERE) for each in trainings]
    together = train_stacked(model, trainings, placement=HERE)
    # Steps of each batch that read as many tokens as `steps` of the longest.
    own = [steps * longest // size for size in sizes]
    found = []
    for number in range(rounds + 1):
        first = sum(seconds(each, count) for each, count in zip(alone, own, strict=True))
        second = seconds(together, sum(own))
        if number:
            found.append(first / second)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64, 96, 128])
    parser.add_argument("--batches", nargs="+", default=["256", "512", "1024", "2048"])
    parser.add_argument("--counts", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = np.random.default_rng(0).integers(0, VOCAB, 1_000_000).astype(np.uint16)
    header = {"torch": torch.__version__, "processor": platform.processor(), "rounds": args.rounds}
    print(json.dumps(header))
    rows = []
    for dtype, width, batch in product(args.dtypes, args.widths, args.batches):
        line = f"{dtype:9} d{width:<4} batch {batch:>12}"
        for count in args.counts:
            given = [int(size) for size in batch.split(",")]
            sizes = given if len(given) > 1 else given * count
            found = ratios(width, sizes, dtype, data, args.rounds, args.steps)
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
