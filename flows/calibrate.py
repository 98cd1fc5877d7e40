"""How long a plan will take on this machine: every shape trains for a moment on noise."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llama_core.config import ModelConfig, Placement, TrainConfig
from sweeps.spec import PlannedRun, tokens_spent

# Python, torch and the corpus of a training that starts; measured on the demo.
_START_S = 4.0
_WARM_STEPS = 3
_TIMED_STEPS = 15
_LONGEST_S = 5.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds a plan takes.

    Attributes:
        per_run_s: by run id, each training alone.
        elapsed_s: all of them on the slots given, dearest first.
    """

    per_run_s: dict[str, float]
    elapsed_s: float


def estimate(runs: Sequence[PlannedRun], placement: Placement, slots: int) -> Estimate:
    """Time some steps of every shape, with the threads one slot has, and add up."""
    placed = placement.model_copy(update={"threads": placement.threads or 1})
    timed: dict[tuple[ModelConfig, int, int, str], float] = {}
    per_run: dict[str, float] = {}
    for planned in runs:
        train = planned.run.train
        key = (planned.run.model, train.batch_tokens, train.seq_len, train.dtype)
        if key not in timed:
            timed[key] = _seconds_per_step(planned.run.model, train, placed)
        steps = tokens_spent(train) / train.batch_tokens
        per_run[planned.id] = _START_S + steps * timed[key]
    return Estimate(per_run, makespan(sorted(per_run.values(), reverse=True), slots))


def makespan(durations: Sequence[float], slots: int) -> float:
    """Seconds until the last of the durations ends when each goes to the first free slot."""
    free = [0.0] * slots
    for duration in durations:
        soonest = free.index(min(free))
        free[soonest] += duration
    return max(free)


def _seconds_per_step(model: ModelConfig, train: TrainConfig, placement: Placement) -> float:
    """Median over a few steps on random tokens; what they say does not change the speed."""
    from llama_core.data import Batches, TokenSource
    from llama_core.records import StepRecord
    from llama_core.train import train as run

    short = train.model_copy(update={"eval_tokens": train.seq_len})
    tokens = np.random.default_rng(0).integers(
        0, model.vocab_size, (_WARM_STEPS + _TIMED_STEPS + 1) * train.batch_tokens, np.uint32
    )
    batches = Batches(
        sources=[TokenSource("noise", [tokens])],
        validation_shards=[tokens],
        piece_bytes=np.ones(model.vocab_size, np.int64),
        seq_len=short.seq_len,
        batch_tokens=short.batch_tokens,
        seed=short.seed,
        eval_tokens=short.eval_tokens,
    )
    seconds: list[float] = []
    started = last = time.time()
    for record in run(model, short, batches, placement=placement):
        if isinstance(record, StepRecord):
            seconds.append(record.at - last)
            last = record.at
            enough = len(seconds) == _WARM_STEPS + _TIMED_STEPS
            if enough or last - started > _LONGEST_S:
                break
    return statistics.median(seconds[_WARM_STEPS:] or seconds)
