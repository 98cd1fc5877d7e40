"""Train several models of one shape at once: a generator of records, each with its training."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from functools import lru_cache

from torch import Tensor

from llama_core.config import AdamW, Block, ModelConfig, Placement, TrainConfig
from llama_core.machine import attention_backend, machine_settings, resolve_device
from llama_core.outbox import Outbox
from llama_core.parallel import Ranks
from llama_core.records import Record
from llama_core.stacked.member import Batch, Measured, Member, Path, Shared, Training, Update, store
from llama_core.stacked.rows import most_rows, rows_at_once
from llama_core.stacked.stack import Stack
from llama_core.train import build, check

_ANYWHERE = Placement()


def train_stacked(
    model: ModelConfig,
    trainings: Sequence[Training],
    *,
    placement: Placement = _ANYWHERE,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[int, Record]]:
    """Train models of one shape together; yield the records of each with its place in the list.

    Each training yields the records that `llama_core.train.train` would, to rounding, and has
    checkpoints in the same format: either continues what the other began. Only the arithmetic is
    shared, so trainings may differ in seed, rates, schedule and batch, and begin at different
    checkpoints. One that has diverged or finished leaves the others.

    Raises:
        ValueError: the trainings cannot be stacked, or as `llama_core.train.train`.
    """
    for training in trainings:
        check(model, training.cfg, training.batches)
    if reason := why_not([(model, training.cfg) for training in trainings], placement):
        raise ValueError(f"these trainings cannot be stacked: {reason}.")
    device, configs = resolve_device(placement.device), [training.cfg for training in trainings]
    with ExitStack() as context:
        context.enter_context(machine_settings(placement, device, configs[0].dtype))
        backend = attention_backend(placement, device, configs[0].seq_len)
        stack = Stack(model, configs, backend, device)
        eager = placement.model_copy(update={"compile": "off"})
        net, ranks = build(model, configs[0], eager, device), Ranks(placement, device)
        shared = Shared(placement, ranks, stack, net, stop)
        paths = {}
        for number, training in enumerate(trainings):
            outbox = Outbox(store(model, training, placement))
            context.callback(outbox.close)
            paths[number] = Member(number, training, outbox, shared).path()
        batches = [cfg.batch_tokens // cfg.seq_len for cfg in configs]
        most = most_rows(model, configs[0], placement, device, len(configs))

        @lru_cache(maxsize=1)
        def at_once(members: tuple[int, ...]) -> int:
            return rows_at_once([batches[number] for number in members], most)

        yield from _drive(paths, stack, at_once)


def why_not(trainings: Sequence[tuple[ModelConfig, TrainConfig]], placement: Placement) -> str:
    """Why trainings cannot be stacked; empty if they can."""
    if placement.ranks > 1:
        return f"each is to train on {placement.ranks} ranks"
    if placement.activation_checkpointing != "off":
        return "their activations are to be recomputed"
    first_model, first = trainings[0]
    if first_model.block != Block():
        return "only LLaMA's block can be"
    for model, cfg in trainings:
        if model != first_model:
            return "their models differ"
        if not isinstance(cfg.optimizer, AdamW):
            return f"the optimizer is {cfg.optimizer.kind}, and only AdamW can be"
        for name in ("seq_len", "dtype", "z_loss"):
            if getattr(cfg, name) != getattr(first, name):
                return f"{name} is {getattr(first, name)} and {getattr(cfg, name)}"
    return ""


def _drive(
    paths: dict[int, Path], stack: Stack, at_once: Callable[[tuple[int, ...]], int]
) -> Iterator[tuple[int, Record]]:
    """Answer what the trainings ask for, all of them at once, and yield their records."""
    asked: dict[int, Tensor] = {}
    elapsed = dict.fromkeys(paths, 0.0)

    def advance(
        number: int, answer: Measured | None = None
    ) -> Generator[tuple[int, Record], None, float | None]:
        """Yield a training's records until it asks for gradients; return the rate of its step."""
        path = paths[number]
        try:
            event = path.send(answer)
            while not isinstance(event, Batch | Update):
                yield number, event
                event = next(path)
        except StopIteration:
            stack.leave(number)
            asked.pop(number, None)
            return None
        if isinstance(event, Update):
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
            rate = yield from advance(number, Measured(loss, norm, elapsed[number]))
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
