"""A few steps of a training, timed: nothing of them is kept."""

import gc
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from llama_core.config import Cosine, ModelConfig, Placement, TrainConfig
from llama_core.corpus.batches import Batches, TokenSource
from llama_core.machine import micro_batch_rows, resolve_device
from llama_core.records import StepRecord
from llama_core.train import train

_WARM_STEPS, _TIMED_STEPS = 2, 8
_STEPS = _WARM_STEPS + _TIMED_STEPS
# Large models need fewer steps for a steady time.
_ENOUGH_S, _FEWEST_STEPS = 2.0, _WARM_STEPS + 2
# A recipe's own rate, without its warm-up, might diverge within ten steps.
_HIGHEST_LR = 1e-3


@dataclass(frozen=True, slots=True)
class Trial:
    """What a few micro-steps took.

    Attributes:
        step_s: seconds of one, the least of several.
        first_s: seconds of the first, compilation included.
        loss: nats per token of the last.
    """

    step_s: float
    first_s: float
    loss: float


def tried(model: ModelConfig, cfg: TrainConfig, batches: Batches, placement: Placement) -> Trial:
    """Train some micro-steps of a recipe, each with a step of the optimizer.

    On a CPU the seconds are of its work: other processes slow a step, but not the work of it.
    """
    rows = micro_batch_rows(model, cfg, placement, resolve_device(placement.device), 1)
    tokens = rows * cfg.seq_len
    # One step more than are taken, so that it does not come to an evaluation.
    schedule = Cosine(tokens=(_STEPS + 1) * tokens)
    short = gentle(cfg).model_copy(update={"batch_tokens": tokens, "schedule": schedule})
    clock, losses = step_clock(placement), list[float]()
    ends = [clock()]
    for record in train(model, short, replace(batches, batch_tokens=tokens), placement=placement):
        if isinstance(record, StepRecord):
            ends.append(clock())
            losses.append(record.loss)
            long = ends[-1] - ends[1] > _ENOUGH_S
            if len(losses) == _STEPS or (long and len(losses) >= _FEWEST_STEPS):
                break
    release_memory()
    seconds = [end - start for start, end in pairwise(ends)]
    return Trial(step_s=min(seconds[_WARM_STEPS:]), first_s=seconds[0], loss=losses[-1])


def gentle(cfg: TrainConfig) -> TrainConfig:
    """The recipe at a rate at which a few steps without warm-up cannot diverge."""
    optimizer = cfg.optimizer.model_copy(update={"lr": min(cfg.optimizer.lr, _HIGHEST_LR)})
    return cfg.model_copy(update={"warmup_tokens": 0, "optimizer": optimizer})


def release_memory() -> None:
    """Return a GPU's memory that a trial held: what is cached counts as taken."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def step_clock(placement: Placement) -> Callable[[], float]:
    """A clock of seconds that steps take on a machine without other work."""
    return _work_s if resolve_device(placement.device).type == "cpu" else time.perf_counter


def made_up_batches(model: ModelConfig, cfg: TrainConfig) -> Batches:
    """Batches of made-up tokens, of which each mostly follows from the one before."""
    count = (_STEPS + 1) * cfg.batch_tokens + cfg.eval_tokens + cfg.seq_len + 1
    noise = np.random.default_rng(0).integers(0, model.vocab_size, count)
    tokens = np.where(noise % 3 == 0, noise, np.arange(count) % model.vocab_size)
    shard = tokens.astype(np.uint32)
    return Batches(
        sources=[TokenSource("made up", [shard], validation=[shard])],
        piece_bytes=np.zeros(model.vocab_size, np.int64),
        seq_len=cfg.seq_len,
        batch_tokens=cfg.batch_tokens,
        seed=cfg.seed,
        eval_tokens=cfg.eval_tokens,
    )


def _work_s() -> float:
    """Seconds that this process and the compilers it started worked, on each of torch's threads."""
    compilers = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = time.process_time() / torch.get_num_threads()
    return own + compilers.ru_utime + compilers.ru_stime
