"""The order in which runs are trained, and which of them may train as one program."""

import math
from collections.abc import Sequence

from llama_core.config import AdamW, Block, Placement
from llama_core.schedule import tokens_spent
from sweeps.spec import PlannedRun

# More gain nothing on a CPU; on a GPU they fill it.
_MOST = 64
# Trainings of fewer FLOPs end before a trial of both ways has paid.
_LEAST_FLOPS = 1e11
# Overhead of a token of the smallest models, as FLOPs: about 10 µs on a core.
_FLOPS_A_TOKEN = 1e6


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
    first = {group[0].id: group for group in map(tuple, map(longest_first, groups))}
    return [first[run.id] for run in longest_first([group[0] for group in first.values()])]


def longest_first(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Runs in falling order of expected time, so that no long run starts last and alone."""
    return sorted(
        runs,
        key=lambda run: run.flops_spent + _FLOPS_A_TOKEN * tokens_spent(run.run.train),
        reverse=True,
    )


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
