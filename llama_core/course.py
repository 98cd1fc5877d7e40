"""The course of one training: its place on the path, and the records of what happens on it."""

import math
import time
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

from safetensors.torch import save
from torch import Tensor, nn

from llama_core.ahead import FinishedStep
from llama_core.checkpoints.place import Place
from llama_core.checkpoints.state import Tensors, tensors_sha256
from llama_core.checkpoints.store import Checkpoint
from llama_core.config import ModelConfig, TrainConfig
from llama_core.corpus.batches import Batches
from llama_core.counting import train_flops
from llama_core.files import write_durably
from llama_core.guard import LossGuard
from llama_core.machine import memory_gib, peak_flops
from llama_core.model import Llama
from llama_core.outbox import Outbox
from llama_core.parallel import Ranks, whole
from llama_core.records import (
    DivergedRecord,
    EvalRecord,
    Record,
    ResumeRecord,
    StepRecord,
    StoppedRecord,
)
from llama_core.schedule import Segment, segments
from llama_core.validation import evaluate


class Course:
    """Where a training is on its path; its records go through the outbox, in order.

    Whoever trains says what happened: `llama_core.train` for one model, and
    `llama_core.stacked.member` for each of several.

    Attributes:
        trunk: on a branch that rejoins, the state to which training returns; else empty.
    """

    def __init__(
        self, model: ModelConfig, cfg: TrainConfig, batches: Batches, outbox: Outbox, ranks: Ranks
    ) -> None:
        self.place = Place(segment=0, step=0, steps_taken=0)
        self.trunk: Tensors = {}
        self._cfg, self._batches, self._outbox, self._ranks = cfg, batches, outbox, ranks
        self._path, self._guard = segments(cfg), LossGuard()
        self._rank_flops = train_flops(model, cfg.seq_len, cfg.batch_tokens) / ranks.count
        self._peak = peak_flops(ranks.device, cfg.dtype)
        self._last_checkpoint = time.monotonic()

    @property
    def segment(self) -> Segment | None:
        """The segment under way; None when the training is done."""
        return self._path[self.place.segment] if self.place.segment < len(self._path) else None

    def resume(self, checkpoint: Checkpoint, skipped: tuple[str, ...]) -> ResumeRecord:
        """Go to the place of a checkpoint, whose tensors the caller restores."""
        self.place = checkpoint.place
        self._guard = LossGuard.from_notes(checkpoint.notes["guard"])
        return ResumeRecord(
            step=self.place.step,
            steps_taken=self.place.steps_taken,
            horizon=self._horizon,
            checkpoint=checkpoint.name,
            skipped=skipped,
            at=time.time(),
        )

    def begins_branch(self, segment: Segment) -> bool:
        """Whether the next step is the first of a branch that rejoins the trunk."""
        return segment.rejoins and self.place.step == segment.first_step

    def leave_trunk(self, state: Tensors) -> None:
        """Begin a branch; `state` is the trunk's."""
        self.trunk = state
        self._guard.enter_branch()

    def take_step(self) -> None:
        """The optimizer has taken the next step."""
        self.place = Place(self.place.segment, self.place.step + 1, self.place.steps_taken + 1)

    def judge(self, step: FinishedStep) -> Generator[Record, None, bool]:
        """Whether training diverged at a step, which ends it."""
        reason = self._guard.failure_reason(step.loss, step.grad_norm)
        if reason:
            yield from self._diverge(step.step, reason)
        return bool(reason)

    def record(self, step: FinishedStep) -> Iterator[Record]:
        """Yield the record of a step."""
        record = StepRecord(
            step=step.step,
            tokens=step.step * self._cfg.batch_tokens,
            horizon=self._horizon,
            loss=step.loss,
            lr=step.lr,
            grad_norm=step.grad_norm,
            tokens_per_s=self._cfg.batch_tokens / step.elapsed_s,
            mfu=self._rank_flops / step.elapsed_s / self._peak if self._peak else None,
            memory_gib=memory_gib(self._ranks.device),
            at=time.time(),
        )
        yield from self._outbox.put(record)

    def report(self, steps: Iterable[FinishedStep]) -> Generator[Record, None, bool]:
        """Judge and record steps; whether training diverged, which ends it."""
        for step in steps:
            if (yield from self.judge(step)):
                return True
            yield from self.record(step)
        return False

    def checkpoint_due(self, every_s: float) -> bool:
        """Whether the last checkpoint is older than `every_s` seconds and no write is in flight."""
        return time.monotonic() - self._last_checkpoint >= every_s and not self._outbox.busy

    def checkpoint(self, state: Tensors) -> Iterator[Record]:
        """Start writing a checkpoint of this place."""
        checkpoint = Checkpoint(self.place, state, {"guard": self._guard.to_notes()})
        yield from self._outbox.begin(checkpoint, tokens=self._tokens, horizon=self._horizon)
        self._last_checkpoint = time.monotonic()

    def stop(self) -> Iterator[Record]:
        """End here, as the caller asked, when the checkpoint of this place is durable."""
        yield from self._outbox.flush()
        yield StoppedRecord(self.place.step, self._tokens, self._horizon, time.time())

    def evaluate(
        self, horizon: int, module: nn.Module, net: Llama
    ) -> Generator[Record, None, bool]:
        """Loss and weights at a horizon; whether training ends, since the loss is not finite.

        Every rank must call this.

        Args:
            module: `net`, as `Ranks.wrap` returned it.
        """
        evaluated = evaluate(module, self._batches, self._cfg, self._ranks)
        if not math.isfinite(evaluated.val_loss):
            yield from self._diverge(self.place.step, f"validation loss is {evaluated.val_loss}")
            return True
        store = self._outbox.store
        folder = store.folder.parent if store is not None and self._ranks.leads else None
        record = EvalRecord(
            step=self.place.step,
            tokens=self._tokens,
            horizon=horizon,
            val_loss=evaluated.val_loss,
            val_bpb=evaluated.val_bpb,
            weights_sha256=_final_weights(net, horizon, folder),
            at=time.time(),
            sources=evaluated.sources,
        )
        yield from self._outbox.put(record)
        return False

    def end(self, segment: Segment) -> Iterator[Record]:
        """Go to the next segment, from the trunk's place if the caller restored the trunk."""
        step = self.place.step
        if segment.rejoins:
            step, self.trunk = segment.first_step, {}
            self._guard.leave_branch()
        self.place = Place(self.place.segment + 1, step, self.place.steps_taken)
        if self.segment is None:
            if self._ranks.leads:
                # Nothing is left to train, so the last checkpoint marks the end without tensors.
                yield from self.checkpoint({})
            yield from self._outbox.flush()

    @property
    def _horizon(self) -> int | None:
        """The horizon of the segment under way; the last one's when the training is done."""
        return self._path[min(self.place.segment, len(self._path) - 1)].horizon

    @property
    def _tokens(self) -> int:
        return self.place.step * self._cfg.batch_tokens

    def _diverge(self, step: int, reason: str) -> Iterator[Record]:
        yield from self._outbox.flush()
        tokens = step * self._cfg.batch_tokens
        yield DivergedRecord(step, tokens, self._horizon, reason, time.time())


def _final_weights(net: Llama, horizon: int, folder: Path | None) -> str:
    """Hash of the weights at a horizon; written to `folder` if given. Every rank must call this."""
    weights = {name: whole(weight.detach()) for name, weight in net.named_parameters()}
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(folder / f"final_{horizon}.safetensors", save(weights | _tied(net, weights)))
    return tensors_sha256(weights)


def _tied(net: Llama, weights: Tensors) -> dict[str, Tensor]:
    """The head under its own name if it is the embedding, as in `state_dict`."""
    if not net.config.tie_embeddings:
        return {}
    return {"lm_head.weight": weights["embed_tokens.weight"].clone()}
