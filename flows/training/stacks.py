"""The order in which runs are trained, and which of them may train as one program."""

import math
from collections.abc import Sequence
from heapq import heapreplace

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

    Runs of a group have shape, data, sequence length, type and z-loss in common. They are dealt in
    the order of their batches, so that groups of one shape take equally long, to as many slots as
    let the last of all groups end soonest.
    """
    families: dict[tuple[object, ...], list[PlannedRun]] = {}
    for planned in runs:
        families.setdefault(_family(planned, placement), []).append(planned)
    ordered = sorted(families.values(), key=lambda family: sum(map(work, family)), reverse=True)
    dealt = [_dealt(family, placement, slots) for family in ordered]
    for place, family in enumerate(ordered):
        # Fewer and larger groups share more steps, and other families fill the slots left.
        ways = [dealt[place]]
        ways += [
            _dealt(family, placement, count) for count in range(min(slots, len(family)) - 1, 0, -1)
        ]
        others = [each for number, each in enumerate(dealt) if number != place]
        costs = [_cost(group) for family in others for group in family]
        dealt[place] = min(ways, key=lambda way: makespan([*costs, *map(_cost, way)], slots))
    groups = [tuple(longest_first(group)) for family in dealt for group in family]
    return in_order(groups)


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


def work_together(runs: Sequence[PlannedRun]) -> float:
    """`work` of runs of one shape in a stack on a core, at best.

    One by one, every step has an overhead of its own; together, every part of a batch has one for
    all, and rows that fill up a part are computed in vain.
    """
    from llama_core.stacked.rows import rows_at_once

    batches = [run.run.train.batch_tokens // run.run.train.seq_len for run in runs]
    rows = rows_at_once(batches, max(batches))
    parts = [run.steps * math.ceil(own / rows) for run, own in zip(runs, batches, strict=True)]
    together = FLOPS_A_STEP * max(parts)
    for run, own, number in zip(runs, batches, parts, strict=True):
        a_row = run.flops_per_step / own + FLOPS_A_TOKEN * run.run.train.seq_len
        together += number * rows * a_row
    return together


def makespan(works: Sequence[float], slots: int) -> float:
    """When the last slot is done, each taking the longest work that waits."""
    loads = [0.0] * slots
    for work in sorted(works, reverse=True):
        heapreplace(loads, loads[0] + work)
    return max(loads)


def _cost(group: Sequence[PlannedRun]) -> float:
    alone = sum(map(work, group))
    return min(alone, work_together(group)) if len(group) > 1 else alone


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
