"""The training loop of several models at once: a generator of records, each with its training."""

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from llama_core.checkpoints.place import Place
from llama_core.checkpoints.state import Tensors, stored_state
from llama_core.checkpoints.store import Checkpoint, CheckpointStore
from llama_core.config import ModelConfig, Placement, TrainConfig
from llama_core.corpus.batches import Batches
from llama_core.counting import train_flops
from llama_core.guard import LossGuard
from llama_core.machine import (
    attention_backend,
    machine_settings,
    memory_gib,
    peak_flops,
    resolve_device,
)
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
from llama_core.schedule import lr_multiplier, segments
from llama_core.stacked.rows import most_rows, rows_at_once
from llama_core.stacked.stack import Stack
from llama_core.train import _check, _final_weights, _identity, build, evaluate

_ANYWHERE = Placement()


@dataclass(frozen=True, slots=True)
class Training:
    """One of the trainings of a stack: what `llama_core.train.train` takes for one alone."""

    cfg: TrainConfig
    batches: Batches
    checkpoints: Path | None = None


def train_stacked(
    model: ModelConfig,
    trainings: Sequence[Training],
    *,
    placement: Placement = _ANYWHERE,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[int, Record]]:
    """Train models of one shape together; yield the records of each with its place in the list.

    Each training yields the records that `llama_core.train.train` would, to rounding, and has
    checkpoints in the same format: either continues what the other began. Nothing is shared but
    the arithmetic, so trainings may differ in seed, rates, schedule and batch, and begin at
    different checkpoints. A training that has diverged or finished leaves the others.

    Raises:
        ValueError: the trainings cannot be stacked, or as `llama_core.train.train`.
    """
    for training in trainings:
        _check(model, training.cfg, training.batches)
    if reason := why_not([(model, training.cfg) for training in trainings], placement):
        raise ValueError(f"these trainings cannot be stacked: {reason}.")
    device = resolve_device(placement.device)
    with ExitStack() as context:
        context.enter_context(machine_settings(placement, device, trainings[0].cfg.dtype))
        configs = [training.cfg for training in trainings]
        backend = attention_backend(placement, device, configs[0].seq_len)
        stack = Stack(model, configs, backend, device)
        net = build(model, configs[0], placement.model_copy(update={"compile": "off"}), device)
        paths: dict[int, _Path] = {}
        for number, training in enumerate(trainings):
            outbox = Outbox(_store(model, training, placement))
            context.callback(outbox.close)
            shared = _Shared(model, placement, device, stack, net, stop)
            paths[number] = _path(number, training, outbox, shared)
        rows = [cfg.batch_tokens // cfg.seq_len for cfg in configs]
        most = most_rows(model, configs[0], placement, device, len(configs))

        @lru_cache(maxsize=1)
        def at_once(members: tuple[int, ...]) -> int:
            return rows_at_once([rows[number] for number in members], most)

        yield from _drive(paths, stack, at_once)


def why_not(trainings: Sequence[tuple[ModelConfig, TrainConfig]], placement: Placement) -> str:
    """Why trainings cannot be stacked; empty if they can."""
    if placement.ranks > 1:
        return f"each is to train on {placement.ranks} ranks"
    first_model, first = trainings[0]
    for model, cfg in trainings:
        if model != first_model:
            return "their models differ"
        for name in ("seq_len", "dtype", "z_loss"):
            if getattr(cfg, name) != getattr(first, name):
                return f"{name} is {getattr(first, name)} and {getattr(cfg, name)}"
    return ""


def _store(
    model: ModelConfig, training: Training, placement: Placement
) -> CheckpointStore | None:
    if training.checkpoints is None:
        return None
    return CheckpointStore(
        training.checkpoints,
        identity=_identity(model, training.cfg, training.batches),
        keep=placement.keep_checkpoints,
    )


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all trainings of a stack use."""

    model: ModelConfig
    placement: Placement
    device: torch.device
    stack: Stack
    net: Llama
    stop: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class _Batch:
    """A training asks for loss and gradient norm of these rows of tokens."""

    ids: Tensor


@dataclass(frozen=True, slots=True)
class _Update:
    """A training asks for the optimizer's step with this learning rate."""

    lr: float


@dataclass(frozen=True, slots=True)
class _Measured:
    """Loss and gradient norm of a batch, and the training's share of the time it took."""

    loss: float
    grad_norm: float
    elapsed: float


_Path = Generator[Record | _Batch | _Update, _Measured | None, None]


def _path(number: int, training: Training, outbox: Outbox, shared: _Shared) -> _Path:
    """One training as `llama_core.train` does it, except that gradients and steps are asked for."""
    cfg, batches, store = training.cfg, training.batches, outbox.store
    stack, net, device = shared.stack, shared.net, shared.device
    path, guard = segments(cfg), LossGuard()
    trunk: Tensors = {}
    place = Place(segment=0, step=0, steps_taken=0)
    newest = store.newest() if store is not None else None
    if newest is not None and newest.checkpoint is not None:
        place = newest.checkpoint.place
        tensors = newest.checkpoint.tensors
        if place.segment < len(path):
            stack.load(number, tensors)
            trunk = {
                name.removeprefix("trunk."): tensors[name].to(device)
                for name in tensors
                if name.startswith("trunk.")
            }
        guard = LossGuard.from_notes(newest.checkpoint.notes["guard"])
        yield ResumeRecord(
            step=place.step,
            steps_taken=place.steps_taken,
            horizon=path[min(place.segment, len(path) - 1)].horizon,
            checkpoint=newest.checkpoint.name,
            skipped=newest.skipped,
            at=time.time(),
        )
        if place.segment == len(path):
            return
    else:
        net.init_weights(cfg.seed)
        stack.start(number, net)

    step_flops = train_flops(shared.model, cfg.seq_len, cfg.batch_tokens)
    peak = peak_flops(device, cfg.dtype)
    last_checkpoint = time.monotonic()

    while place.segment < len(path):
        segment = path[place.segment]
        if segment.rejoins and place.step == segment.first_step:
            trunk = stack.state(number)
            guard.enter_branch()

        while place.step < segment.last_step:
            lr = cfg.optimizer.lr * lr_multiplier(cfg, place.step, segment.horizon)
            measured = yield _Batch(torch.from_numpy(batches.at(place.step)))
            assert measured is not None
            reason = guard.failure_reason(measured.loss, measured.grad_norm)
            if reason:
                yield from outbox.flush()
                tokens = (place.step + 1) * cfg.batch_tokens
                yield DivergedRecord(place.step + 1, tokens, segment.horizon, reason, time.time())
                return
            yield _Update(lr)
            place = Place(place.segment, place.step + 1, place.steps_taken + 1)
            tokens = place.step * cfg.batch_tokens
            yield from outbox.put(
                StepRecord(
                    step=place.step,
                    tokens=tokens,
                    horizon=segment.horizon,
                    loss=measured.loss,
                    lr=lr,
                    grad_norm=measured.grad_norm,
                    tokens_per_s=cfg.batch_tokens / measured.elapsed,
                    mfu=step_flops / measured.elapsed / peak if peak else None,
                    memory_gib=memory_gib(device),
                    at=time.time(),
                )
            )
            stopping = shared.stop()
            due = time.monotonic() - last_checkpoint >= shared.placement.checkpoint_every_s
            if store is not None and (stopping or (due and not outbox.busy)):
                state = stored_state(stack.state(number), trunk, leads=True)
                checkpoint = Checkpoint(place, state, {"guard": guard.to_notes()})
                yield from outbox.begin(checkpoint, tokens=tokens, horizon=segment.horizon)
                last_checkpoint = time.monotonic()
                if stopping:
                    yield from outbox.flush()
                    yield StoppedRecord(place.step, tokens, segment.horizon, time.time())
                    return

        if segment.horizon is not None:
            tokens = place.step * cfg.batch_tokens
            stack.write(number, net)
            val_loss, val_bpb = evaluate(net, batches, cfg, Ranks(shared.placement, device))
            if not math.isfinite(val_loss):
                reason = f"validation loss is {val_loss}"
                yield from outbox.flush()
                yield DivergedRecord(place.step, tokens, segment.horizon, reason, time.time())
                return
            folder = store.folder.parent if store is not None else None
            digest = _final_weights(net, segment.horizon, folder)
            yield from outbox.put(
                EvalRecord(
                    step=place.step,
                    tokens=tokens,
                    horizon=segment.horizon,
                    val_loss=val_loss,
                    val_bpb=val_bpb,
                    weights_sha256=digest,
                    at=time.time(),
                )
            )
        if segment.rejoins:
            stack.load(number, trunk)
            guard.leave_branch()
            trunk = {}
            place = Place(place.segment + 1, segment.first_step, place.steps_taken)
        else:
            place = Place(place.segment + 1, place.step, place.steps_taken)

    # Nothing is left to train, so the last checkpoint marks the end without tensors.
    done = Checkpoint(place, {}, {"guard": guard.to_notes()})
    tokens, horizon = place.step * cfg.batch_tokens, path[-1].horizon
    yield from outbox.begin(done, tokens=tokens, horizon=horizon)
    yield from outbox.flush()


def _drive(
    paths: dict[int, _Path], stack: Stack, at_once: Callable[[tuple[int, ...]], int]
) -> Iterator[tuple[int, Record]]:
    """Answer what the trainings ask for, all of them at once, and yield their records."""
    asked: dict[int, Tensor] = {}
    elapsed = dict.fromkeys(paths, 0.0)

    def advance(
        number: int, answer: _Measured | None = None
    ) -> Generator[tuple[int, Record], None, float | None]:
        """Yield a training's records until it asks for gradients; return the rate of its step."""
        path = paths[number]
        try:
            event = path.send(answer)
            while not isinstance(event, _Batch | _Update):
                yield number, event
                event = next(path)
        except StopIteration:
            stack.leave(number)
            asked.pop(number, None)
            return None
        if isinstance(event, _Update):
            return event.lr
        asked[number] = event.ids
        return None

    for number in paths:
        yield from advance(number)
    while asked:
        started = time.perf_counter()
        rows = at_once(tuple(stack.members))
        parts = {number: asked[number][:rows] for number in stack.members}
        stack.add_gradients([parts[number] for number in stack.members], rows)
        complete = [number for number in parts if len(asked[number]) == len(parts[number])]
        measured = stack.measure(complete) if complete else []
        seconds = time.perf_counter() - started
        for number, part in parts.items():
            elapsed[number] += seconds * len(part) / sum(map(len, parts.values()))
            asked[number] = asked[number][rows:]
        rates: dict[int, float] = {}
        for number, (loss, norm) in zip(complete, measured, strict=True):
            rate = yield from advance(number, _Measured(loss, norm, elapsed[number]))
            elapsed[number] = 0.0
            if rate is not None:
                rates[number] = rate
        if not rates:
            continue
        started = time.perf_counter()
        stack.step(rates)
        for number in rates:
            elapsed[number] += (time.perf_counter() - started) / len(rates)
        for number in rates:
            yield from advance(number)
