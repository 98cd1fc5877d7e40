"""One training of a stack: it asks for gradients and steps, and yields the records of its own."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path as File

import torch
from torch import Tensor

from llama_core.ahead import FinishedStep
from llama_core.checkpoints.state import stored_state
from llama_core.checkpoints.store import CheckpointStore
from llama_core.config import ModelConfig, Placement, TrainConfig
from llama_core.corpus.batches import Batches
from llama_core.course import Course
from llama_core.model import Llama
from llama_core.outbox import Outbox
from llama_core.parallel import Ranks
from llama_core.records import Record
from llama_core.schedule import Segment, lr_multiplier
from llama_core.stacked.stack import Stack
from llama_core.train import identity


@dataclass(frozen=True, slots=True)
class Training:
    """One of the trainings of a stack: what `llama_core.train.train` takes for one alone.

    Trainings with the same `batches`, not merely equal ones, read each batch once.
    """

    cfg: TrainConfig
    batches: Batches
    checkpoints: File | None = None


@dataclass(frozen=True, slots=True)
class Shared:
    """What the trainings of a stack share.

    Attributes:
        ranks: this process alone, with its device.
        net: a model whose weights are overwritten, to draw initial weights and to evaluate.
    """

    placement: Placement
    ranks: Ranks
    stack: Stack
    net: Llama
    stop: Callable[[], bool]
    _read: dict[int, tuple[int, Tensor]] = field(default_factory=dict)

    def batch(self, batches: Batches, step: int) -> Tensor:
        """Rows of a step, read once for trainings that share them."""
        known = self._read.get(id(batches))
        if known is None or known[0] != step:
            known = self._read[id(batches)] = (step, torch.from_numpy(batches.at(step)))
        return known[1]


@dataclass(frozen=True, slots=True)
class Batch:
    """A training asks for loss and gradient norm of these rows of tokens."""

    ids: Tensor


@dataclass(frozen=True, slots=True)
class Update:
    """A training asks for the optimizer's step with this learning rate."""

    lr: float


@dataclass(frozen=True, slots=True)
class Measured:
    """Loss and gradient norm of a batch, and the training's share of the time it took."""

    loss: float
    grad_norm: float
    elapsed_s: float


Path = Generator[Record | Batch | Update, Measured | None, None]


def store(model: ModelConfig, training: Training, placement: Placement) -> CheckpointStore | None:
    """Where the checkpoints of a training are kept."""
    if training.checkpoints is None:
        return None
    return CheckpointStore(
        training.checkpoints,
        identity=identity(model, training.cfg, training.batches),
        keep=placement.keep_checkpoints,
    )


class Member:
    """One training as `llama_core.train` does it, except that gradients and steps are asked for."""

    def __init__(self, number: int, training: Training, outbox: Outbox, shared: Shared) -> None:
        """Args:
        number: the training's in the stack.
        """
        self._number, self._store, self._shared = number, outbox.store, shared
        self._cfg, self._batches = training.cfg, training.batches
        self._course = Course(
            shared.net.config, training.cfg, training.batches, outbox, shared.ranks
        )

    def path(self) -> Path:
        """Train from the newest checkpoint to the end, or until it diverges or is stopped."""
        yield from self._begin()
        course, number = self._course, self._number
        stack, net = self._shared.stack, self._shared.net
        while (segment := course.segment) is not None:
            if course.begins_branch(segment):
                course.leave_trunk(stack.state(number))
            while course.place.step < segment.last_step:
                if (yield from self._step(segment)):
                    return
            if segment.horizon is not None:
                stack.write(number, net)
                if (yield from course.evaluate(segment.horizon, net, net)):
                    return
            if segment.rejoins:
                stack.load(number, course.trunk)
            yield from course.end(segment)

    def _begin(self) -> Iterator[Record]:
        """Restore the newest checkpoint, or draw the first weights."""
        shared = self._shared
        newest = self._store.newest() if self._store is not None else None
        if newest is None or newest.checkpoint is None:
            shared.net.init_weights(self._cfg.seed)
            shared.stack.start(self._number, shared.net)
            return
        if tensors := newest.checkpoint.tensors:  # the mark of a finished run has none
            shared.stack.load(self._number, tensors)
            self._course.trunk = {
                name.removeprefix("trunk."): tensors[name].to(shared.ranks.device)
                for name in tensors
                if name.startswith("trunk.")
            }
        yield self._course.resume(newest.checkpoint, newest.skipped)

    def _step(self, segment: Segment) -> Generator[Record | Batch | Update, Measured | None, bool]:
        """One step; whether the training ends here."""
        course, shared = self._course, self._shared
        step = course.place.step
        lr = self._cfg.optimizer.lr * lr_multiplier(self._cfg, step, segment.horizon)
        measured = yield Batch(shared.batch(self._batches, step))
        assert measured is not None
        done = FinishedStep(step + 1, lr, measured.loss, measured.grad_norm, measured.elapsed_s)
        if (yield from course.judge(done)):
            return True
        yield Update(lr)
        course.take_step()
        yield from course.record(done)
        stopping = shared.stop()
        due = stopping or course.checkpoint_due(shared.placement.checkpoint_every_s)
        if self._store is None or not due:
            return False
        yield from course.checkpoint(
            stored_state(shared.stack.state(self._number), course.trunk, leads=True)
        )
        if stopping:
            yield from course.stop()
        return stopping
