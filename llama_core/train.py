"""The training loop: one flat generator of records."""

import hashlib
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from llama_core.ahead import FinishedStep, LaunchedSteps, steps_ahead, to_device
from llama_core.checkpoints.place import Place
from llama_core.checkpoints.state import (
    Tensors,
    capture,
    restore,
    stored_state,
    tensors_sha256,
    trunk_of,
)
from llama_core.checkpoints.store import Checkpoint, CheckpointStore
from llama_core.compiling import compile_net
from llama_core.config import (
    ModelConfig,
    Placement,
    TrainConfig,
    require_positions,
    require_whole_matrices,
)
from llama_core.corpus.batches import Batches
from llama_core.counting import train_flops
from llama_core.files import write_durably
from llama_core.guard import LossGuard
from llama_core.layers.kernels import cross_entropy_sum
from llama_core.machine import (
    attention_backend,
    compiles,
    machine_settings,
    memory_gib,
    micro_batch_rows,
    peak_flops,
    resolve_device,
)
from llama_core.model import Llama
from llama_core.optim import optimizer_of
from llama_core.outbox import Outbox
from llama_core.parallel import Ranks, torchrun_group, whole
from llama_core.records import (
    DivergedRecord,
    EvalRecord,
    Record,
    ResumeRecord,
    StepRecord,
    StoppedRecord,
)
from llama_core.schedule import lr_multiplier, segments
from llama_core.validation import evaluate

_ANYWHERE = Placement()


def train(
    model: ModelConfig,
    cfg: TrainConfig,
    batches: Batches,
    *,
    placement: Placement = _ANYWHERE,
    checkpoints: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Record]:
    """Train along `schedule.segments(cfg)` and yield a record of each event.

    Resuming: if `checkpoints` has a sound checkpoint of this run, the first record is a
    `ResumeRecord` and training continues from there, bit for bit as if it had never stopped; a
    finished run yields that record alone. A `CheckpointRecord` is yielded when the checkpoint's
    files are durable, and the checkpoint is committed when the caller asks for the next record.
    So a caller that makes its own rows durable on receiving it has every record before the
    checkpoint from which a later run resumes.

    Under torchrun every process calls this and yields the same records; keep those of rank 0.
    Rank 0 writes all files, except that every rank writes its shards of a sharded checkpoint.

    With `checkpoints`, the weights of each finished horizon are kept as
    `final_<tokens>.safetensors` beside that folder. `stop` is called after every step (on a GPU
    a record comes while the next step runs): once it
    returns true, a checkpoint of that step is written and a `StoppedRecord` is the last record.

    Raises:
        ValueError: the batches do not fit the recipe or the model, the optimizer not the
            placement, or the checkpoints belong to another run.
    """
    check(model, cfg, batches)
    require_whole_matrices(cfg.optimizer.kind, placement)
    device = resolve_device(placement.device)
    with ExitStack() as stack:
        device = stack.enter_context(torchrun_group(device))
        stack.enter_context(machine_settings(placement, device, cfg.dtype))
        ranks = Ranks(placement, device)
        stack.callback(ranks.release)
        store = None
        if checkpoints is not None:
            store = CheckpointStore(
                checkpoints,
                identity=identity(model, cfg, batches),
                keep=placement.keep_checkpoints,
                rank=ranks.rank,
                writers=ranks.writers,
            )
        outbox = Outbox(store)
        stack.callback(outbox.close)
        yield from _train(model, cfg, batches, placement, outbox, ranks, stop)


def _train(
    model: ModelConfig,
    cfg: TrainConfig,
    batches: Batches,
    placement: Placement,
    outbox: Outbox,
    ranks: Ranks,
    stop: Callable[[], bool],
) -> Iterator[Record]:
    device, store = ranks.device, outbox.store
    net = build(model, cfg, placement, device)
    module = ranks.wrap(net)
    # Not with the model on a GPU, where layers are compiled one by one.
    fused_loss = device.type == "cpu" and compiles(placement, device)
    optimizer = optimizer_of(net, cfg.optimizer)
    path = segments(cfg)
    place = Place(segment=0, step=0, steps_taken=0)
    trunk: Tensors = {}
    guard = LossGuard()

    newest = store.newest(tidy=ranks.leads) if store is not None else None
    ranks.wait()
    if newest is not None and newest.checkpoint is not None:
        place = newest.checkpoint.place
        if place.segment < len(path):
            restore(newest.checkpoint.tensors, net, optimizer)
            trunk = trunk_of(newest.checkpoint.tensors, net, optimizer)
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

    weights = list(net.parameters())
    rows = micro_batch_rows(model, cfg, placement, device, ranks.count)
    speed = _Speed(
        device,
        train_flops(model, cfg.seq_len, cfg.batch_tokens) / ranks.count,
        peak_flops(device, cfg.dtype),
    )
    last_checkpoint = time.monotonic()
    launched = LaunchedSteps()

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
            batch = to_device(ranks.share(torch.from_numpy(batches.at(place.step))), device)
            loss_sum = _gradients(module, torch.split(batch, rows), cfg, ranks, fused_loss)
            grad_norm = whole(torch.nn.utils.clip_grad_norm_(weights, cfg.clip_norm))
            optimizer.step()
            for weight in weights:  # `zero_grad` looks for them anew, which takes longer
                weight.grad = None
            place = Place(place.segment, place.step + 1, place.steps_taken + 1)
            launched.add(place.step, lr, started, ranks.summed(loss_sum), grad_norm)
            # The guard judges a step when its numbers are here. Until then no weights leave this
            # loop: a checkpoint, an evaluation and a branch first wait for all steps launched.
            leave = 0 if place.step == segment.last_step else steps_ahead(device)
            finished = launched.finish(leave=leave)
            if (yield from _report(finished, cfg, segment.horizon, guard, outbox, speed)):
                return
            stopping = stop()
            due = time.monotonic() - last_checkpoint >= placement.checkpoint_every_s
            if store is not None and ranks.agree(stopping or (due and not outbox.busy)):
                finished = launched.finish(leave=0)
                if (yield from _report(finished, cfg, segment.horizon, guard, outbox, speed)):
                    return
                if ranks.writes:
                    tensors = stored_state(capture(net, optimizer), trunk, leads=ranks.leads)
                    checkpoint = Checkpoint(place, tensors, {"guard": guard.to_notes()})
                    tokens = place.step * cfg.batch_tokens
                    yield from outbox.begin(checkpoint, tokens=tokens, horizon=segment.horizon)
                last_checkpoint = time.monotonic()
                if ranks.agree(stopping):
                    yield from outbox.flush()
                    yield StoppedRecord(
                        place.step, place.step * cfg.batch_tokens, segment.horizon, time.time()
                    )
                    return

        if segment.horizon is not None:
            tokens = place.step * cfg.batch_tokens
            evaluated = evaluate(module, batches, cfg, ranks)
            if not math.isfinite(evaluated.val_loss):
                reason = f"validation loss is {evaluated.val_loss}"
                yield from outbox.flush()
                yield DivergedRecord(place.step, tokens, segment.horizon, reason, time.time())
                return
            folder = store.folder.parent if store is not None and ranks.leads else None
            digest = final_weights(net, segment.horizon, folder)
            yield from outbox.put(
                EvalRecord(
                    step=place.step,
                    tokens=tokens,
                    horizon=segment.horizon,
                    val_loss=evaluated.val_loss,
                    val_bpb=evaluated.val_bpb,
                    weights_sha256=digest,
                    at=time.time(),
                    sources=evaluated.sources,
                )
            )
        if segment.rejoins:
            restore(trunk, net, optimizer)
            guard.leave_branch()
            trunk = {}
            place = Place(place.segment + 1, segment.first_step, place.steps_taken)
        else:
            place = Place(place.segment + 1, place.step, place.steps_taken)

    if ranks.leads:
        # Nothing is left to train, so the last checkpoint marks the end without tensors.
        done = Checkpoint(place, {}, {"guard": guard.to_notes()})
        tokens, horizon = place.step * cfg.batch_tokens, path[-1].horizon
        yield from outbox.begin(done, tokens=tokens, horizon=horizon)
    yield from outbox.flush()


@dataclass(frozen=True, slots=True)
class _Speed:
    """What the speed of a step follows from: FLOPs of a step and peak FLOP/s, of each rank."""

    device: torch.device
    step_flops: float
    peak: float | None


def _report(
    finished: Iterable[FinishedStep],
    cfg: TrainConfig,
    horizon: int | None,
    guard: LossGuard,
    outbox: Outbox,
    speed: _Speed,
) -> Generator[Record, None, bool]:
    """Yield the records of finished steps; true if training diverged, which ends them."""
    for done in finished:
        loss, tokens = done.loss / cfg.batch_tokens, done.step * cfg.batch_tokens
        reason = guard.failure_reason(loss, done.grad_norm)
        if reason:
            yield from outbox.flush()
            yield DivergedRecord(done.step, tokens, horizon, reason, time.time())
            return True
        record = StepRecord(
            step=done.step,
            tokens=tokens,
            horizon=horizon,
            loss=loss,
            lr=done.lr,
            grad_norm=done.grad_norm,
            tokens_per_s=cfg.batch_tokens / done.elapsed_s,
            mfu=speed.step_flops / done.elapsed_s / speed.peak if speed.peak else None,
            memory_gib=memory_gib(speed.device),
            at=time.time(),
        )
        yield from outbox.put(record)
    return False


def _gradients(
    module: nn.Module,
    parts: Sequence[Tensor],
    cfg: TrainConfig,
    ranks: Ranks,
    fused_loss: bool,
) -> Tensor:
    """Sum the gradients of a batch over its micro-batches; return the sum of its losses in nats."""
    device = parts[0].device
    loss_sum = torch.zeros((), device=device)
    for number, part in enumerate(parts, start=1):
        with ranks.gradient_sync(module, last=number == len(parts)):
            with torch.autocast(device.type, torch.bfloat16, enabled=cfg.dtype == "bfloat16"):
                logits = module(part[:, :-1])
            objective, nats = losses(logits, part[:, 1:], cfg.z_loss, compiled=fused_loss)
            # Gradients are averaged over ranks, the loss is summed over their rows.
            torch.autograd.backward(objective * (ranks.count / cfg.batch_tokens))
        loss_sum += nats.detach()
    return loss_sum


def final_weights(net: Llama, horizon: int, folder: Path | None) -> str:
    """Hash of the weights at a horizon; written to `folder` if given. Every rank must call this."""
    finished = {name: whole(weight.detach()) for name, weight in net.named_parameters()}
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(
            folder / f"final_{horizon}.safetensors", save(finished | _tied(net, finished))
        )
    return tensors_sha256(finished)


def build(
    model: ModelConfig, cfg: TrainConfig, placement: Placement, device: torch.device
) -> Llama:
    """The model with its initial weights on a device, set up for a placement."""
    net = Llama(
        model,
        attention=attention_backend(placement, device, cfg.seq_len),
        recompute=placement.activation_checkpointing,
    ).to(device)
    net.init_weights(cfg.seed)
    if compiles(placement, device):
        compile_net(net, cfg.seq_len, placement, device)
    return net


def losses(
    logits: Tensor, targets: Tensor, z_loss: float, *, compiled: bool = False
) -> tuple[Tensor, Tensor]:
    """The objective and the cross-entropy in nats, both summed over tokens, in fp32."""
    flat = logits.flatten(0, 1)
    nats = cross_entropy_sum(flat, targets.flatten(), compiled=compiled)
    if not z_loss:
        return nats, nats
    # Pulls the softmax's normaliser towards 1 (Chowdhery et al. 2022, section 5).
    return nats + z_loss * flat.float().logsumexp(dim=-1).square().sum(), nats


def _tied(net: Llama, finished: Tensors) -> Tensors:
    """The head under its own name if it is the embedding, as in `state_dict`."""
    if not net.config.tie_embeddings:
        return {}
    return {"lm_head.weight": finished["embed_tokens.weight"].clone()}


def identity(model: ModelConfig, cfg: TrainConfig, batches: Batches) -> str:
    """Digest of what a checkpoint belongs to."""
    parts = (model.model_dump_json(), cfg.model_dump_json(), batches.digest)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def check(model: ModelConfig, cfg: TrainConfig, batches: Batches) -> None:
    """Raise ValueError if the batches are of another recipe or have unknown tokens."""
    require_positions(model, cfg.seq_len)
    expected = (cfg.seq_len, cfg.batch_tokens, cfg.seed, cfg.eval_tokens)
    given = (batches.seq_len, batches.batch_tokens, batches.seed, batches.eval_tokens)
    if given != expected:
        raise ValueError(
            f"batches were opened for another recipe: (seq_len, batch_tokens, seed, eval_tokens) "
            f"is {given}, this recipe has {expected}. Open them with this TrainConfig."
        )
    if batches.vocab_size > model.vocab_size:
        raise ValueError(
            f"the tokenizer has {batches.vocab_size} pieces, the model's vocab_size is only "
            f"{model.vocab_size}. Raise vocab_size to {batches.vocab_size} or more."
        )
