"""One training of a stack: it asks for gradients and steps, and yields the records of its own."""

import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path as File

import torch
from torch import Tensor

from llama_core.checkpoints.place import Place
from llama_core.checkpoints.state import Tensors, stored_state
from llama_core.checkpoints.store import Checkpoint, CheckpointStore
from llama_core.config import ModelConfig, Placement, TrainConfig
from llama_core.corpus.batches import Batches
from llama_core.counting import train_flops
from llama_core.guard import LossGuard
from llama_core.machine import memory_gib, peak_flops
from llama_core.model import Llama
from llama_core.outbox import Outbox
from llama_core.parallel import Ranks
from llama_core.records import (
    DivergedRecord,
    EvalRecord,
    Record,
    ResumeRecord,
    StepRecord,
    StoppedRecord,
)
from llama_core.schedule import Segment, lr_multiplier, segments
from llama_core.stacked.stack import Stack
from llama_core.train import final_weights, identity
from llama_core.validation import evaluate


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
        net: a model whose weights are overwritten, to draw initial weights and to evaluate.
    """

    placement: Placement
    device: torch.device
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
    elapsed: float


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


class Course:
    """One training as `llama_core.train` does it, except that gradients and steps are asked for."""

    def __init__(self, number: int, training: Training, outbox: Outbox, shared: Shared) -> None:
        """Args:
        number: the training's in the stack.
        """
        self._number, self._outbox, self._shared = number, outbox, shared
        self._cfg, self._batches = training.cfg, training.batches
        self._segments, self._guard = segments(training.cfg), LossGuard()
        self._place = Place(segment=0, step=0, steps_taken=0)
        self._trunk: Tensors = {}
        self._last_checkpoint = time.monotonic()

    def path(self) -> Path:
        """Train from the newest checkpoint to the end, or until it diverges or is stopped."""
        yield from self._begin()
        stack, number = self._shared.stack, self._number
        while self._place.segment < len(self._segments):
            segment = self._segments[self._place.segment]
            if segment.rejoins and self._place.step == segment.first_step:
                self._trunk = stack.state(number)
                self._guard.enter_branch()
            while self._place.step < segment.last_step:
                if (yield from self._step(segment)):
                    return
            if segment.horizon is not None and (yield from self._evaluate(segment.horizon)):
                return
            place = self._place
            if segment.rejoins:
                stack.load(number, self._trunk)
                self._guard.leave_branch()
                self._trunk = {}
                place = Place(place.segment, segment.first_step, place.steps_taken)
            self._place = Place(place.segment + 1, place.step, place.steps_taken)
            if self._place.segment == len(self._segments):
                # Nothing is left to train, so the last checkpoint marks the end without tensors.
                yield from self._checkpoint({}, segment.horizon)
                yield from self._outbox.flush()

    def _begin(self) -> Iterator[Record]:
        """Restore the newest checkpoint, or draw the first weights."""
        shared, store = self._shared, self._outbox.store
        newest = store.newest() if store is not None else None
        if newest is None or newest.checkpoint is None:
            shared.net.init_weights(self._cfg.seed)
            shared.stack.start(self._number, shared.net)
            return
        checkpoint = newest.checkpoint
        self._place, tensors = checkpoint.place, checkpoint.tensors
        self._guard = LossGuard.from_notes(checkpoint.notes["guard"])
        if tensors:
            shared.stack.load(self._number, tensors)
            self._trunk = {
                name.removeprefix("trunk."): tensors[name].to(shared.device)
                for name in tensors
                if name.startswith("trunk.")
            }
        last = min(self._place.segment, len(self._segments) - 1)
        yield ResumeRecord(
            step=self._place.step,
            steps_taken=self._place.steps_taken,
            horizon=self._segments[last].horizon,
            checkpoint=checkpoint.name,
            skipped=newest.skipped,
            at=time.time(),
        )

    def _step(self, segment: Segment) -> Generator[Record | Batch | Update, Measured | None, bool]:
        """One step; whether the training ends here."""
        cfg, place, device = self._cfg, self._place, self._shared.device
        lr = cfg.optimizer.lr * lr_multiplier(cfg, place.step, segment.horizon)
        measured = yield Batch(self._shared.batch(self._batches, place.step))
        assert measured is not None
        tokens = (place.step + 1) * cfg.batch_tokens
        if reason := self._guard.failure_reason(measured.loss, measured.grad_norm):
            yield from self._outbox.flush()
            yield DivergedRecord(place.step + 1, tokens, segment.horizon, reason, time.time())
            return True
        yield Update(lr)
        self._place = Place(place.segment, place.step + 1, place.steps_taken + 1)
        peak = peak_flops(device, cfg.dtype)
        flops = train_flops(self._shared.net.config, cfg.seq_len, cfg.batch_tokens)
        yield from self._outbox.put(
            StepRecord(
                step=self._place.step,
                tokens=tokens,
                horizon=segment.horizon,
                loss=measured.loss,
                lr=lr,
                grad_norm=measured.grad_norm,
                tokens_per_s=cfg.batch_tokens / measured.elapsed,
                mfu=flops / measured.elapsed / peak if peak else None,
                memory_gib=memory_gib(device),
                at=time.time(),
            )
        )
        stopping = self._shared.stop()
        passed = time.monotonic() - self._last_checkpoint
        due = passed >= self._shared.placement.checkpoint_every_s and not self._outbox.busy
        if self._outbox.store is None or not (stopping or due):
            return False
        state = stored_state(self._shared.stack.state(self._number), self._trunk, leads=True)
        yield from self._checkpoint(state, segment.horizon)
        if stopping:
            yield from self._outbox.flush()
            yield StoppedRecord(self._place.step, tokens, segment.horizon, time.time())
        return stopping

    def _checkpoint(self, tensors: Tensors, horizon: int | None) -> Iterator[Record]:
        checkpoint = Checkpoint(self._place, tensors, {"guard": self._guard.to_notes()})
        tokens = self._place.step * self._cfg.batch_tokens
        yield from self._outbox.begin(checkpoint, tokens=tokens, horizon=horizon)
        self._last_checkpoint = time.monotonic()

    def _evaluate(self, horizon: int) -> Generator[Record, None, bool]:
        """The loss at a horizon; whether the training ends here, as it is not finite."""
        shared, step = self._shared, self._place.step
        tokens = step * self._cfg.batch_tokens
        shared.stack.write(self._number, shared.net)
        ranks = Ranks(shared.placement, shared.device)
        evaluated = evaluate(shared.net, self._batches, self._cfg, ranks)
        if not math.isfinite(evaluated.val_loss):
            yield from self._outbox.flush()
            reason = f"validation loss is {evaluated.val_loss}"
            yield DivergedRecord(step, tokens, horizon, reason, time.time())
            return True
        store = self._outbox.store
        folder = store.folder.parent if store is not None else None
        digest = final_weights(shared.net, horizon, folder)
        record = EvalRecord(
            step=step,
            tokens=tokens,
            horizon=horizon,
            val_loss=evaluated.val_loss,
            val_bpb=evaluated.val_bpb,
            weights_sha256=digest,
            at=time.time(),
            sources=evaluated.sources,
        )
        yield from self._outbox.put(record)
        return False
