"""The training loop: one flat generator of records. Who listens is not its business."""

import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from llama_core.checkpoint import (
    Checkpoint,
    CheckpointStore,
    Place,
    Tensors,
    capture,
    restore,
    weights_sha256,
    write_durably,
)
from llama_core.config import ModelConfig, Placement, TrainConfig
from llama_core.counting import train_flops
from llama_core.data import Batches
from llama_core.guard import LossGuard
from llama_core.machine import (
    attention_backend,
    machine_settings,
    memory_gib,
    micro_batch_rows,
    peak_flops,
    resolve_device,
)
from llama_core.model import Llama
from llama_core.optim import adamw
from llama_core.records import (
    CheckpointRecord,
    DivergedRecord,
    EvalRecord,
    Record,
    ResumeRecord,
    StepRecord,
)
from llama_core.schedule import lr_multiplier, segments

__all__ = ["evaluate", "resolve_device", "train"]

# Validation rows go through the model in groups of about this many tokens.
_EVAL_TOKENS = 8_192
_ANYWHERE = Placement()


def train(
    model: ModelConfig,
    cfg: TrainConfig,
    batches: Batches,
    *,
    placement: Placement = _ANYWHERE,
    checkpoints: Path | None = None,
) -> Iterator[Record]:
    """Train along `schedule.segments(cfg)` and yield what happens.

    Resuming: if `checkpoints` holds a sound checkpoint of this run, the first record is a
    `ResumeRecord` and training goes on from there, bit for bit as if it had never stopped; a run
    already finished yields that record alone. A `CheckpointRecord` is yielded when its files are
    durable but before the checkpoint counts: it is committed when the next record is asked for.
    So a listener that makes its own rows durable on receiving it always holds every record before
    the checkpoint a later resume names.

    With `checkpoints`, the weights of each finished horizon are kept as
    `final_<tokens>.safetensors` beside that folder.

    Raises:
        ValueError: model, recipe and batches do not belong together, or the checkpoints are
            another run's.
    """
    _check(model, cfg, batches)
    device = resolve_device(placement.device)
    with ExitStack() as stack:
        stack.enter_context(machine_settings(placement, device))
        yield from _train(model, cfg, batches, placement, checkpoints, device)


def _train(
    model: ModelConfig,
    cfg: TrainConfig,
    batches: Batches,
    placement: Placement,
    checkpoints: Path | None,
    device: torch.device,
) -> Iterator[Record]:
    net = Llama(model, attention=attention_backend(placement, device, cfg.seq_len)).to(device)
    net.init_weights(cfg.seed)
    optimizer = adamw(net, cfg.optimizer)
    guard = LossGuard()
    store = None
    trunk: Tensors = {}
    place = Place(segment=0, step=0, walked=0)

    if checkpoints is not None:
        identity = _identity(model, cfg)
        store = CheckpointStore(checkpoints, identity=identity, keep=placement.keep_checkpoints)
        found = store.newest()
        if found.checkpoint is not None:
            place = found.checkpoint.place
            tensors = found.checkpoint.tensors
            if tensors:
                restore(tensors, net, optimizer)
                trunk = _without_prefix(tensors, "trunk.", device)
            guard = LossGuard.from_notes(found.checkpoint.notes["guard"])
            yield ResumeRecord(
                step=place.step,
                horizon=_horizon(cfg, place),
                checkpoint=found.checkpoint.name,
                skipped=found.skipped,
                at=time.time(),
            )
            if place.segment == len(segments(cfg)):
                return

    path = segments(cfg)
    weights = list(net.parameters())
    rows = micro_batch_rows(model, cfg, placement, device)
    step_flops = train_flops(model, cfg.seq_len, cfg.batch_tokens)
    peak = peak_flops(device, cfg.dtype)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=cfg.dtype == "bfloat16")
    last_checkpoint = time.monotonic()

    while place.segment < len(path):
        segment = path[place.segment]
        if segment.rejoins and place.step == segment.first_step:
            trunk = capture(net, optimizer)
            guard.enter_branch()

        while place.step < segment.last_step:
            started = time.perf_counter()
            lr = cfg.optimizer.lr * lr_multiplier(cfg, place.step, segment.horizon)
            for group in optimizer.param_groups:
                group["lr"] = lr
            batch = torch.from_numpy(batches.at(place.step)).to(device, non_blocking=True)
            loss_sum = torch.zeros((), device=device)
            for part in torch.split(batch, rows):
                with autocast:
                    logits = net(part[:, :-1])
                objective, nats = _losses(logits, part[:, 1:], cfg.z_loss)
                torch.autograd.backward(objective / cfg.batch_tokens)
                loss_sum += nats.detach()
            grad_norm = float(torch.nn.utils.clip_grad_norm_(weights, cfg.clip_norm))
            loss = float(loss_sum) / cfg.batch_tokens
            trouble = guard.trouble(loss, grad_norm)
            if trouble:
                yield DivergedRecord(
                    step=place.step + 1,
                    tokens=(place.step + 1) * cfg.batch_tokens,
                    horizon=segment.horizon,
                    reason=trouble,
                    at=time.time(),
                )
                return
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            place = Place(place.segment, place.step + 1, place.walked + 1)
            elapsed = time.perf_counter() - started
            yield StepRecord(
                step=place.step,
                tokens=place.step * cfg.batch_tokens,
                horizon=segment.horizon,
                loss=loss,
                lr=lr,
                grad_norm=grad_norm,
                tokens_per_s=cfg.batch_tokens / elapsed,
                mfu=step_flops / elapsed / peak if peak else None,
                memory_gib=memory_gib(device),
                at=time.time(),
            )
            due = time.monotonic() - last_checkpoint >= placement.checkpoint_every_s
            if store is not None and due:
                yield from _checkpoint(store, place, cfg, capture(net, optimizer), trunk, guard)
                last_checkpoint = time.monotonic()

        if segment.horizon is not None:
            val_loss, val_bpb = evaluate(net, batches, cfg)
            if not math.isfinite(val_loss):
                reason = f"validation loss is {val_loss}"
                tokens = place.step * cfg.batch_tokens
                yield DivergedRecord(place.step, tokens, segment.horizon, reason, time.time())
                return
            if checkpoints is not None:
                final = checkpoints.parent / f"final_{segment.horizon}.safetensors"
                final.parent.mkdir(parents=True, exist_ok=True)
                write_durably(final, save(dict(net.state_dict())))
            yield EvalRecord(
                step=place.step,
                tokens=place.step * cfg.batch_tokens,
                horizon=segment.horizon,
                val_loss=val_loss,
                val_bpb=val_bpb,
                weights_sha256=weights_sha256(net),
                at=time.time(),
            )
        if segment.rejoins:
            restore(trunk, net, optimizer)
            guard.leave_branch()
            trunk = {}
            place = Place(place.segment + 1, segment.first_step, place.walked)
        else:
            place = Place(place.segment + 1, place.step, place.walked)

    if store is not None:
        # Nothing is left to train, so the last checkpoint is a mark without tensors.
        yield from _checkpoint(store, place, cfg, {}, {}, guard)


def _losses(logits: Tensor, targets: Tensor, z_loss: float) -> tuple[Tensor, Tensor]:
    """What is minimised and the cross-entropy in nats, both summed over tokens, in fp32."""
    flat = logits.float().flatten(0, 1)
    nats = F.cross_entropy(flat, targets.flatten(), reduction="sum")
    if not z_loss:
        return nats, nats
    # Pulls the softmax's normaliser towards 1 (Chowdhery et al. 2022, section 5).
    return nats + z_loss * flat.logsumexp(dim=-1).square().sum(), nats


@torch.no_grad()
def evaluate(net: Llama, batches: Batches, cfg: TrainConfig) -> tuple[float, float]:
    """Loss on the fixed validation set: nats per token, and bits per byte of its text."""
    device = net.lm_head.weight.device
    rows = torch.from_numpy(batches.validation())
    nats = 0.0
    for part in torch.split(rows, max(1, _EVAL_TOKENS // cfg.seq_len)):
        part = part.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=cfg.dtype == "bfloat16"):
            logits = net(part[:, :-1])
        nats += float(_losses(logits, part[:, 1:], 0.0)[1])
    text_bytes = int(batches.piece_bytes[rows[:, 1:].numpy()].sum())
    return nats / rows[:, 1:].numel(), nats / math.log(2) / text_bytes


def _checkpoint(
    store: CheckpointStore,
    place: Place,
    cfg: TrainConfig,
    tensors: Tensors,
    trunk: Tensors,
    guard: LossGuard,
) -> Iterator[Record]:
    both = tensors | {f"trunk.{name}": tensor for name, tensor in trunk.items()}
    checkpoint = Checkpoint(place, both, {"guard": guard.to_notes()})
    path = store.write(checkpoint)
    yield CheckpointRecord(
        step=place.step,
        tokens=place.step * cfg.batch_tokens,
        horizon=_horizon(cfg, place),
        path=str(path),
        at=time.time(),
    )
    store.commit(checkpoint.name)


def _horizon(cfg: TrainConfig, place: Place) -> int | None:
    path = segments(cfg)
    return path[min(place.segment, len(path) - 1)].horizon


def _without_prefix(tensors: Tensors, prefix: str, device: torch.device) -> Tensors:
    return {
        name.removeprefix(prefix): tensor.to(device)
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _identity(model: ModelConfig, cfg: TrainConfig) -> str:
    return hashlib.sha256(f"{model.model_dump_json()}{cfg.model_dump_json()}".encode()).hexdigest()


def _check(model: ModelConfig, cfg: TrainConfig, batches: Batches) -> None:
    asked = (cfg.seq_len, cfg.batch_tokens, cfg.seed, cfg.eval_tokens)
    given = (batches.seq_len, batches.batch_tokens, batches.seed, batches.eval_tokens)
    if asked != given:
        raise ValueError(
            f"batches were opened for another recipe: (seq_len, batch_tokens, seed, eval_tokens) "
            f"is {given}, the recipe says {asked}. Open them with this TrainConfig."
        )
    if batches.vocab_size > model.vocab_size:
        raise ValueError(
            f"the tokenizer has {batches.vocab_size} pieces, the model's vocab_size is "
            f"{model.vocab_size}. Raise vocab_size to at least that."
        )
