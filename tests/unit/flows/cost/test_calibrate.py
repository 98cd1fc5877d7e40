"""An estimate adds up what was timed, on the slots there are, and only what is left."""

import pytest

from flows.cost.estimate import Speed, assumed, estimate, evals_left, makespan, shared_by
from flows.cost.timing import Timing
from llama_core.counting import train_flops
from llama_core.schedule import tokens_spent
from sweeps.cap import AssumedSpeed
from sweeps.load import load_spec
from sweeps.plan import Plan
from sweeps.spec import DataRef
from tests.fakes import planned_run

TIMING = Timing(
    step_s=0.01, blocks=(0.009, 0.01, 0.012), warm_s=0.5, eval_s_per_token=1e-5, checkpoint_s=0.0
)
SPEED = Speed(timing=lambda run: TIMING, start_s=4.0, around_s=10.0, basis="a test")


def plan_of(*runs):
    return Plan(spec=load_spec("smoke"), data=DataRef(digest="x"), runs=runs, warnings=())


@pytest.mark.parametrize(
    ("durations", "slots", "expected"),
    [([3, 2, 2, 1], 2, 4), ([5, 1, 1], 3, 5), ([2, 2, 2], 1, 6)],
)
def test_each_duration_goes_to_the_first_free_slot(durations, slots, expected):
    assert makespan(durations, slots) == expected


def test_a_run_takes_its_start_its_steps_and_its_validations():
    run = planned_run(steps=(20, 40))
    found = estimate(plan_of(run), SPEED, {run.id: 0}, slots=1)
    # 40 steps and the first horizon's cooldown of 6; two validations of 4,096 tokens.
    assert found.runs[run.id].whole_s == pytest.approx(4.5 + 46 * 0.01 + 2 * 4096 * 1e-5)
    assert found.runs[run.id].left_s == found.runs[run.id].whole_s
    assert found.elapsed_s == pytest.approx(found.runs[run.id].whole_s + 10.0)
    low, high = found.elapsed_range_s
    assert low < found.elapsed_s < high


def test_a_half_finished_run_costs_only_what_is_left():
    run = planned_run(steps=(20, 40))
    found = estimate(plan_of(run), SPEED, {run.id: 30}, slots=1).runs[run.id]
    assert found.left_s == pytest.approx(4.5 + 16 * 0.01 + 4096 * 1e-5)
    assert found.left_flops == pytest.approx(run.flops_spent * 16 / 46)


def test_a_settled_run_costs_nothing_and_nothing_left_takes_no_time():
    run = planned_run()
    found = estimate(plan_of(run), SPEED, {run.id: None}, slots=2)
    assert found.runs[run.id].left_s == 0
    assert found.runs[run.id].whole_s > 0
    assert found.elapsed_s == 0


def test_a_horizon_passed_is_not_validated_again():
    train = planned_run(steps=(20, 40)).run.train
    assert [evals_left(train, kept) for kept in (0, 20, 21, 45)] == [2, 2, 1, 1]


def test_an_assumed_mfu_gives_the_peak_times_its_share():
    run = planned_run(width=64, steps=(100, 200))
    speed = assumed(AssumedSpeed(gpu="h100", mfu=0.4), 989e12, "H100-80GB")
    found = estimate(plan_of(run), speed, {run.id: 0}, slots=1).runs[run.id]
    model, train = run.run.model, run.run.train
    evaluated = 2 * train_flops(model, 128, train.eval_tokens) / 3
    spent = train_flops(model, 128, tokens_spent(train))
    assert found.whole_s == pytest.approx((spent + evaluated) / (0.4 * 989e12))
    assert "MFU 0.4 of the H100-80GB's dense bf16 peak of 989 TFLOP/s" in speed.basis


def test_ranks_share_the_work_and_are_paid_for_each():
    run = planned_run()
    plan = plan_of(run)
    placement = plan.spec.placement.model_copy(update={"ranks": 4})
    wide = plan.model_copy(update={"spec": plan.spec.model_copy(update={"placement": placement})})
    alone, h100 = AssumedSpeed(gpu="h100", mfu=0.4), (989e12, "H100-80GB")
    one = estimate(plan, assumed(alone, *h100), {run.id: 0}, slots=1)
    four = estimate(wide, assumed(alone, *h100, ranks=4), {run.id: 0}, slots=1)
    assert four.elapsed_s == pytest.approx(one.elapsed_s / 4)
    assert four.device_s == pytest.approx(one.device_s)
    slow = Speed(timing=lambda run: shared_by(4, TIMING), start_s=4.0, around_s=0.0, basis="")
    found = estimate(wide, slow, {run.id: 0}, slots=1)
    assert found.runs[run.id].whole_s == pytest.approx(4.5 + 46 * 0.0025 + 2 * 4096 * 2.5e-6)
    assert found.device_s == pytest.approx(4 * found.runs[run.id].whole_s)
