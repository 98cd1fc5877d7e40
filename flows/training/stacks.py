"""The order in which runs are trained, and which of them may train as one program."""

import math
from collections.abc import Sequence

from llama_core.config import AdamW, Block, Placement
from sweeps.spec import PlannedRun

# More gain nothing on a CPU; on a GPU they fill it.
_MOST = 64
# Trainings of fewer FLOPs end before a trial of both ways has paid.
_LEAST_FLOPS = 1e11
# What the smallest models cost beside their products, as FLOPs of a core that does some 9e10 a
# second: about 5 ms a step and 2 µs a token.
FLOPS_A_STEP, FLOPS_A_TOKEN = 4e8, 2e5


def stacks(
    runs: Sequence[PlannedRun], placement: Placement, slots: int
) -> list[tuple[PlannedRun, ...]]:
    """The runs in groups to be trained at once, longest first; most groups have one run.

    Runs of a group have shape, data, sequence length, type and z-loss in common. Each slot gets a
    share of them, dealt in the order of their batches, so that the groups take equally long.
    """
    families: dict[tuple[object, ...], list[PlannedRun]] = {}
    for planned in runs:
        families.setdefault(_family(planned, placement), []).append(planned)
    groups = [group for family in families.values() for group in _dealt(family, placement, slots)]
    return in_order([tuple(longest_first(group)) for group in groups])


def longest_first(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Runs in falling order of expected time, so that no long run starts last and alone."""
    return sorted(runs, key=work, reverse=True)


def in_order(groups: Sequence[tuple[PlannedRun, ...]]) -> list[tuple[PlannedRun, ...]]:
    """Groups in falling order of the time that their runs are expected to take one by one."""
    return sorted(groups, key=lambda group: sum(map(work, group)), reverse=True)


def work(planned: PlannedRun) -> float:
    """FLOPs of a training, with the overhead of its steps and tokens."""
    tokens = planned.steps * planned.run.train.batch_tokens
    return planned.flops_spent + FLOPS_A_STEP * planned.steps + FLOPS_A_TOKEN * tokens


def _family(planned: PlannedRun, placement: Placement) -> tuple[object, ...]:
    """Equal for runs that may be stacked."""
    model, train = planned.run.model, planned.run.train
    alone = (
        placement.stack == "off"
        or placement.compile == "on"
        or placement.ranks > 1
        or model.block != Block()
        or not isinstance(train.optimizer, AdamW)
    )
    if alone:
        return (planned.id,)
    return (model, planned.run.data.digest, train.seq_len, train.dtype, train.z_loss)


def _dealt(
    family: Sequence[PlannedRun], placement: Placement, slots: int
) -> list[list[PlannedRun]]:
    most = placement.stack if isinstance(placement.stack, int) else _MOST
    short = sum(planned.flops_spent for planned in family) < _LEAST_FLOPS
    if placement.stack == "auto" and short:
        most = 1
    count = max(min(slots, len(family)), math.ceil(len(family) / most))
    ordered = sorted(family, key=lambda planned: planned.run.train.batch_tokens)
    return [ordered[first::count] for first in range(count)]
