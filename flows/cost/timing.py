"""Time training steps of shapes on real batches: python -m flows.cost.timing, a child of a slot.

Reads a `Request` from standard input, writes one line of JSON for each shape and stops.
"""

import statistics
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from pydantic import Field

from flows.settings import Home
from llama_core.config import Cosine, Frozen, ModelConfig, Placement, TrainConfig
from llama_core.files import scratch_folder
from llama_core.records import CheckpointRecord, EvalRecord, Record, StepRecord

_WARM_STEPS = 3
# A run's thousands of steps add up to their mean, not to their median: so means of blocks.
_BLOCK_STEPS = 4
_BLOCKS = 10
_FEWEST_BLOCKS = 3
_ENOUGH_S = 0.4
_EVAL_TOKENS = 16_384
_CHECKPOINTED_STEPS = 4


class Shape(Frozen):
    """The part of a run that decides its speed on a machine."""

    model: ModelConfig
    batch_tokens: int
    seq_len: int
    dtype: str
    optimizer: str = Field(default="adamw", exclude_if=lambda kind: kind == "adamw")


class Request(Frozen):
    """Shapes to time, each with the recipe of a run of that shape."""

    home: Path
    corpus: str
    placement: Placement
    trainings: tuple[tuple[ModelConfig, TrainConfig], ...]


class Timing(Frozen):
    """Seconds of the parts of a training of one shape.

    Attributes:
        step_s: an optimizer step; the median of `blocks`.
        blocks: means over some steps each, in rising order.
        warm_s: what the first steps take in addition, compilation included.
        eval_s_per_token: validation at the end of a horizon, per token of the validation set.
        checkpoint_s: a checkpoint, in addition to the steps meanwhile.
        work_s: a step on a machine without other work; None in files of older versions.
    """

    step_s: float
    blocks: tuple[float, ...]
    warm_s: float
    eval_s_per_token: float
    checkpoint_s: float
    work_s: float | None = None

    def scaled(self, share: float, **others: float) -> "Timing":
        """The same with steps that take a share of the time, and other parts as given."""
        steps = {
            "step_s": share * self.step_s,
            "blocks": tuple(share * block for block in self.blocks),
            "work_s": None if self.work_s is None else share * self.work_s,
        }
        return self.model_copy(update={**steps, **others})


class Answer(Frozen):
    """One line of a child's output: the timing of a shape, and of the child.

    Attributes:
        loaded_at: when it had imported the libraries of a training.
        ready_at: when it had opened the corpus too.
    """

    loaded_at: float
    ready_at: float
    timing: Timing


def shape_of(model: ModelConfig, train: TrainConfig) -> Shape:
    """The shape of a training."""
    return Shape(
        model=model,
        batch_tokens=train.batch_tokens,
        seq_len=train.seq_len,
        dtype=train.dtype,
        optimizer=train.optimizer.kind,
    )


def main() -> int:
    """Answer the request on standard input."""
    request = Request.model_validate_json(sys.stdin.read())
    # A slot imports once; every training opens the corpus before its first step.
    import torch  # noqa: F401

    import llama_core.train  # noqa: F401
    from flows.runs.provenance import environment
    from llama_core.compiling import keep_graphs
    from llama_core.corpus.prepared import find_corpus

    keep_graphs(Home(request.home).graphs)
    environment("cpu")
    loaded_at = time.time()
    corpus = find_corpus(request.home, request.corpus)
    corpus.open(request.trainings[0][1])
    ready_at = time.time()
    for model, train in request.trainings:
        timing = _time(request, model, train)
        answer = Answer(loaded_at=loaded_at, ready_at=ready_at, timing=timing)
        sys.stdout.write(answer.model_dump_json() + "\n")
        sys.stdout.flush()
    return 0


def _time(request: Request, model: ModelConfig, train: TrainConfig) -> Timing:
    steps, work_s = _step_seconds(request, model, train)
    warm, steady = steps[:_WARM_STEPS], steps[_WARM_STEPS:]
    means = [
        statistics.fmean(steady[start : start + _BLOCK_STEPS])
        for start in range(0, len(steady) - _BLOCK_STEPS + 1, _BLOCK_STEPS)
    ]
    blocks = tuple(sorted(means or [statistics.fmean(steady or steps)]))
    step_s = statistics.median(blocks)
    return Timing(
        step_s=step_s,
        blocks=blocks,
        warm_s=max(0.0, sum(warm) - len(warm) * step_s),
        eval_s_per_token=_eval_seconds_per_token(request, model, train),
        checkpoint_s=_checkpoint_seconds(request, model, train, step_s),
        work_s=work_s,
    )


def _step_seconds(
    request: Request, model: ModelConfig, train: TrainConfig
) -> tuple[list[float], float]:
    """Seconds of each step, from the first, until there are enough; and of the least's work."""
    from llama_core.trial import step_clock

    seconds: list[float] = []
    clock = step_clock(request.placement)
    ends = [clock()]
    last = time.time()
    for record in _train(request, model, train, steps=_WARM_STEPS + _BLOCKS * _BLOCK_STEPS):
        if isinstance(record, StepRecord):
            seconds.append(record.at - last)
            last = record.at
            ends.append(clock())
            steady = seconds[_WARM_STEPS:]
            if len(steady) >= _FEWEST_BLOCKS * _BLOCK_STEPS and sum(steady) > _ENOUGH_S:
                break
    work = [end - start for start, end in pairwise(ends)]
    return seconds, min(work[_WARM_STEPS:] or work)


def _eval_seconds_per_token(request: Request, model: ModelConfig, train: TrainConfig) -> float:
    tokens = min(train.eval_tokens, max(1, _EVAL_TOKENS // train.seq_len) * train.seq_len)
    short = train.model_copy(update={"eval_tokens": tokens})
    last = time.time()
    for record in _train(request, model, short, steps=1):
        if isinstance(record, EvalRecord):
            return (record.at - last) / tokens
        last = record.at
    return 0.0


def _checkpoint_seconds(
    request: Request, model: ModelConfig, train: TrainConfig, step_s: float
) -> float:
    """Seconds that a checkpoint adds to a step, from steps that each have one."""
    eager = request.placement.model_copy(update={"checkpoint_every_s": 1e-9})
    first = last = 0.0
    checkpoints = 0
    with scratch_folder(request.home) as scratch:
        # Final weights are written beside the checkpoints: while a slow disk still writes one, the
        # last step's record waits, and the horizon ends before this loop sees it.
        folder = scratch / "checkpoints"
        records = _train(
            request, model, train, steps=_CHECKPOINTED_STEPS, placement=eager, folder=folder
        )
        for record in records:
            if isinstance(record, StepRecord):
                first, last = first or record.at, record.at
            checkpoints += isinstance(record, CheckpointRecord)
            if isinstance(record, StepRecord) and record.step == _CHECKPOINTED_STEPS:
                break
    beyond = last - first - (_CHECKPOINTED_STEPS - 1) * step_s
    return max(0.0, beyond / max(1, checkpoints))


def _train(
    request: Request,
    model: ModelConfig,
    train: TrainConfig,
    *,
    steps: int,
    placement: Placement | None = None,
    folder: Path | None = None,
) -> Iterator[Record]:
    from llama_core.corpus.prepared import find_corpus
    from llama_core.train import train as run

    short = train.model_copy(
        update={"schedule": Cosine(tokens=steps * train.batch_tokens), "warmup_tokens": 0}
    )
    batches = find_corpus(request.home, request.corpus).open(short)
    return run(model, short, batches, placement=placement or request.placement, checkpoints=folder)


if __name__ == "__main__":
    sys.exit(main())
