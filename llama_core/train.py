"""The training loop: one flat generator of records."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llama_core.ahead import LaunchedSteps, steps_ahead, to_device
from llama_core.checkpoints.state import capture, restore, stored_state, trunk_of
from llama_core.checkpoints.store import CheckpointStore
from llama_core.compiling import compile_net, compiles_whole
from llama_core.config import (
    ModelConfig,
    Placement,
    TrainConfig,
    require_positions,
    require_whole_matrices,
)
from llama_core.corpus.batches import Batches
from llama_core.course import Course
from llama_core.layers.loss import cross_entropy_sum, fused_output_loss
from llama_core.machine import (
    attention_backend,
    compiles,
    machine_settings,
    micro_batch_rows,
    resolve_device,
)
from llama_core.model import Llama
from llama_core.optim import optimizer_of
from llama_core.outbox import Outbox
from llama_core.parallel import Ranks, torchrun_group, whole
from llama_core.records import Record
from llama_core.schedule import lr_multiplier

_ANYWHERE = Placement()
# Of a module, rows, z-loss, factor and whether to round to bf16; see `_objective`.
Objective = Callable[[Any, Tensor, float, float, bool], tuple[Tensor, Tensor]]


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
        # torchrun may have been called by hand, with a placement that does not say so.
        placement = placement.model_copy(update={"ranks": ranks.count})
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
    objective: Objective = _objective
    if compiles(placement, device) and compiles_whole(placement, device):
        objective = _compiled_objective()
    optimizer = optimizer_of(net, cfg.optimizer)
    course = Course(model, cfg, batches, outbox, ranks)

    newest = store.newest(tidy=ranks.leads) if store is not None else None
    ranks.wait()
    if newest is not None and newest.checkpoint is not None:
        if tensors := newest.checkpoint.tensors:  # the mark of a finished run has none
            restore(tensors, net, optimizer)
            course.trunk = trunk_of(tensors, net, optimizer)
        yield course.resume(newest.checkpoint, newest.skipped)

    weights = list(net.parameters())
    # Ranks with fewer micro-batches than others would leave them waiting in a sharded layer.
    rows = ranks.least(micro_batch_rows(model, cfg, placement, device, ranks.count))
    launched = LaunchedSteps(cfg.batch_tokens)

    while (segment := course.segment) is not None:
        if course.begins_branch(segment):
            course.leave_trunk(capture(net, optimizer))

        while (step := course.place.step) < segment.last_step:
            started = time.perf_counter()
            lr = cfg.optimizer.lr * lr_multiplier(cfg, step, segment.horizon)
            for group in optimizer.param_groups:
                group["lr"] = lr
            batch = to_device(ranks.share(torch.from_numpy(batches.at(step))), device)
            loss_sum = _gradients(objective, module, torch.split(batch, rows), cfg, ranks)
            grad_norm = whole(torch.nn.utils.clip_grad_norm_(weights, cfg.clip_norm))
            optimizer.step()
            for weight in weights:  # `zero_grad` looks for them anew, which takes longer
                weight.grad = None
            course.take_step()
            launched.add(step + 1, lr, started, ranks.summed(loss_sum), grad_norm)
            # The course judges a step when its numbers are here. Until then no weights leave this
            # loop: a checkpoint, an evaluation and a branch first wait for all steps launched.
            leave = 0 if step + 1 == segment.last_step else steps_ahead(device)
            if (yield from course.report(launched.finish(leave=leave))):
                return
            stopping = stop()
            due = stopping or course.checkpoint_due(placement.checkpoint_every_s)
            if store is not None and ranks.agree(due):
                if (yield from course.report(launched.finish(leave=0))):
                    return
                if ranks.writes:
                    state = stored_state(capture(net, optimizer), course.trunk, leads=ranks.leads)
                    yield from course.checkpoint(state)
                if ranks.agree(stopping):
                    yield from course.stop()
                    return

        if segment.horizon is not None and (
            yield from course.evaluate(segment.horizon, module, net)
        ):
            return
        if segment.rejoins:
            restore(course.trunk, net, optimizer)
        yield from course.end(segment)


def _gradients(
    objective: Objective,
    module: nn.Module,
    parts: Sequence[Tensor],
    cfg: TrainConfig,
    ranks: Ranks,
) -> Tensor:
    """Sum the gradients of a batch over its micro-batches; return the sum of its losses in nats."""
    loss_sum = torch.zeros((), device=parts[0].device)
    # Gradients are averaged over ranks, the loss is summed over their rows.
    factor, bf16 = ranks.count / cfg.batch_tokens, cfg.dtype == "bfloat16"
    for number, part in enumerate(parts, start=1):
        with ranks.gradient_sync(module, last=number == len(parts)):
            scaled, nats = objective(module, part, cfg.z_loss, factor, bf16)
            torch.autograd.backward(scaled)
        loss_sum += nats.detach()
    return loss_sum


def _objective(
    module: nn.Module, rows: Tensor, z_loss: float, factor: float, bf16: bool
) -> tuple[Tensor, Tensor]:
    """`losses` of each next token of rows (b, t + 1)."""
    with torch.autocast(rows.device.type, torch.bfloat16, enabled=bf16):
        logits = module(rows[:, :-1])
    return losses(logits, rows[:, 1:], z_loss, factor)


def _compiled_objective() -> Objective:
    """`_objective` as one graph, the same for every z-loss but 0, and for every factor."""
    compiled = torch.compile(_fused_objective, dynamic=False, fullgraph=True)

    def objective(
        net: Llama, rows: Tensor, z_loss: float, factor: float, bf16: bool
    ) -> tuple[Tensor, Tensor]:
        # The compiler makes a number a constant of its graph.
        z = torch.tensor(z_loss) if z_loss else None
        both: tuple[Tensor, Tensor] = compiled(net, rows, z, torch.tensor(factor), bf16)
        return both

    return objective


def _fused_objective(
    net: Llama, rows: Tensor, z_loss: Tensor | None, factor: Tensor, bf16: bool
) -> tuple[Tensor, Tensor]:
    with torch.autocast(rows.device.type, torch.bfloat16, enabled=bf16):
        hidden = net.hidden(rows[:, :-1]).flatten(0, 1)
    dtype = torch.bfloat16 if bf16 else hidden.dtype
    weight, targets = net.lm_head.weight.to(dtype), rows[:, 1:].flatten()
    return fused_output_loss(hidden.to(dtype), weight, targets, z_loss, factor)


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


def losses(logits: Tensor, targets: Tensor, z_loss: float, factor: float) -> tuple[Tensor, Tensor]:
    """The objective times a factor, and the cross-entropy in nats, summed over tokens, in fp32."""
    flat = logits.flatten(0, 1)
    objective, nats = cross_entropy_sum(flat, targets.flatten(), factor)
    if z_loss:
        # Pulls the softmax's normaliser towards 1 (Chowdhery et al. 2022, section 5).
        objective = objective + z_loss * flat.float().logsumexp(dim=-1).square().sum() * factor
    return objective, nats


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
