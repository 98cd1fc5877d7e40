"""The order of runs, and which of them are put together."""

import pytest

from flows.training.stacks import longest_first, stacks
from llama_core.config import Block, Muon, Placement
from tests.fakes import planned_run

FOUR = Placement(stack=4)


def variant(run, *, model=None, **recipe):
    """The run with other settings."""
    spec = run.run.model_copy(
        update={
            "train": run.run.train.model_copy(update=recipe),
            "model": run.run.model.model_copy(update=model or {}),
        }
    )
    return run.model_copy(update={"run": spec})


def seeds(count, width=32):
    return [variant(planned_run(width=width), seed=seed) for seed in range(count)]


def sizes(groups):
    return sorted(len(group) for group in groups)


def test_runs_of_one_shape_are_dealt_to_the_slots():
    runs = seeds(6) + seeds(2, width=48)
    groups = stacks(runs, FOUR, slots=2)
    assert sizes(groups) == [1, 1, 3, 3]
    assert {run.id for group in groups for run in group} == {run.id for run in runs}
    # The slots begin with what takes longest: three runs of d32 more than one of d48.
    assert [group[0].run.model.d_model for group in groups] == [32, 32, 48, 48]
    assert sizes(stacks(seeds(6), FOUR, slots=1)) == [3, 3]
    assert sizes(stacks(seeds(2), FOUR, slots=8)) == [1, 1]


def test_a_slot_gets_a_whole_shape_where_that_ends_sooner():
    # Steps of one row are mostly overhead, which a stack of four has once and two of two twice.
    runs = [
        variant(each, batch_tokens=each.run.train.seq_len)
        for width in (16, 32)
        for each in seeds(4, width=width)
    ]
    assert sizes(stacks(runs, FOUR, slots=2)) == [4, 4]
    # One shape alone would leave a slot without work.
    assert sizes(stacks(runs[:4], FOUR, slots=2)) == [2, 2]


def test_each_slot_gets_small_and_large_batches():
    run = planned_run()
    batch = run.run.train.batch_tokens
    runs = [variant(run, batch_tokens=batch // 2**power, seed=power) for power in (0, 1, 2, 3)]
    first, second = stacks(runs, FOUR, slots=2)
    batches = [sorted(each.run.train.batch_tokens for each in group) for group in (first, second)]
    assert sorted(batches) == [[batch // 8, batch // 2], [batch // 4, batch]]


@pytest.mark.parametrize(
    "placement",
    [Placement(stack="off"), Placement(stack=4, compile="on"), Placement(stack=4, ranks=2)],
)
def test_a_placement_can_keep_runs_apart(placement):
    assert sizes(stacks(seeds(3), placement, slots=1)) == [1, 1, 1]


def test_runs_that_cannot_be_stacked_or_are_too_short_stay_alone():
    a, b = seeds(2)
    for other in (
        variant(b, model={"block": Block(norm="layer")}),
        variant(b, optimizer=Muon(lr=0.01)),
        variant(b, z_loss=0.1),
    ):
        assert sizes(stacks([a, other], FOUR, slots=1)) == [1, 1]
    # These runs take no second; a trial of both ways would take longer.
    assert sizes(stacks([a, b], Placement(), slots=1)) == [1, 1]


def test_long_runs_start_first():
    runs = [planned_run(width=16, steps=(10, 20)), planned_run(width=48), planned_run(width=32)]
    assert [run.name for run in longest_first(runs)] == ["d48", "d32", "d16"]


def test_many_short_steps_of_a_small_model_take_more_time_than_their_flops():
    small, large = planned_run(width=16, steps=(40, 80)), planned_run(width=48)
    assert small.flops_spent < large.flops_spent
    assert longest_first([large, small]) == [small, large]
    # The same tokens in batches half as long.
    quick = planned_run()
    batch = quick.run.train.batch_tokens
    slow = variant(quick, batch_tokens=batch // 2)
    assert (slow.flops_spent, slow.steps) == (quick.flops_spent, 2 * quick.steps)
    assert longest_first([quick, slow]) == [slow, quick]
