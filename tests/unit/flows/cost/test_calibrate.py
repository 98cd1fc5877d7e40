"""An estimate adds up timings of the remaining steps over the slots."""

from types import SimpleNamespace

import pytest

from flows.cost import calibrate
from flows.cost.assumed import assumed, device_of
from flows.cost.calibrate import CalibrationError, calibrated, estimate_plan
from flows.cost.estimate import Speed, estimate, evals_left, shared_by
from flows.cost.timing import Answer, Timing
from flows.files import write_whole
from flows.runs.attempts import CompileChoice
from flows.runs.directory import RunDir
from flows.settings import Home
from flows.training.stacks import makespan
from llama_core.config import Placement
from sweeps.cap import AssumedSpeed
from sweeps.load import load_spec
from sweeps.plan import Plan
from sweeps.spec import DataRef
from tests.fakes import commit_checkpoint, finished_run, planned_run

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
    rest = 10.0 + 4.5 + 2 * 4096 * 1e-5
    assert found.elapsed_range_s == pytest.approx((rest + 46 * 0.009, rest + 46 * 0.012))


def test_ranks_share_the_work_and_are_paid_for_each():
    run = planned_run()
    slow = Speed(timing=lambda run: shared_by(4, TIMING), start_s=4.0, around_s=0.0, basis="")
    found = estimate(wide(plan_of(run), ranks=4), slow, {run.id: 0}, slots=1)
    assert found.runs[run.id].whole_s == pytest.approx(4.5 + 46 * 0.0025 + 2 * 4096 * 2.5e-6)
    assert found.device_s == pytest.approx(4 * found.runs[run.id].whole_s)
    assert shared_by(4, TIMING).blocks == pytest.approx((0.00225, 0.0025, 0.003))
    assert shared_by(1, TIMING) == TIMING


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


def test_the_range_of_an_estimate_is_by_the_quartiles_of_the_timed_steps():
    run = planned_run(steps=(20, 40))
    timing = TIMING.model_copy(update={"blocks": (0.001, 0.008, 0.01, 0.012, 0.9)})
    speed = Speed(timing=lambda run: timing, start_s=0.0, around_s=0.0, basis="")
    low, high = estimate(plan_of(run), speed, {run.id: 0}, slots=1).runs[run.id].left_range_s
    rest = 0.5 + 2 * 4096 * 1e-5
    assert (low, high) == (pytest.approx(rest + 46 * 0.008), pytest.approx(rest + 46 * 0.012))


def test_checkpoints_take_their_time_once_an_interval():
    run = planned_run(steps=(20, 40))
    timing = TIMING.model_copy(update={"step_s": 60.0, "checkpoint_s": 3.0})
    speed = Speed(timing=lambda run: timing, start_s=0.0, around_s=0.0, basis="")
    placement = Placement(checkpoint_every_s=600.0)
    plan = plan_of(run)
    plan = plan.model_copy(update={"spec": plan.spec.model_copy(update={"placement": placement})})
    found = estimate(plan, speed, {run.id: 0}, slots=1).runs[run.id].whole_s
    training = 46 * 60.0 + 2 * 4096 * 1e-5
    assert found == pytest.approx(0.5 + training * (1 + 3.0 / 600.0))


def test_the_most_expensive_remaining_run_goes_first():
    runs = [planned_run(width=width, steps=(10, steps)) for width, steps in
            ((16, 20), (32, 30), (48, 60))]  # fmt: skip
    speed = Speed(timing=lambda run: TIMING, start_s=0.0, around_s=0.0, basis="")
    found = estimate(plan_of(*runs), speed, {run.id: 0 for run in runs}, slots=2)
    small, middle, large = (found.runs[run.id].left_s for run in runs)
    # If the most expensive came last, it would begin after the smallest.
    assert found.elapsed_s == pytest.approx(max(large, middle + small))
    busy = 2 * max(large, middle + small)
    assert found.idle_share == pytest.approx(1 - (large + middle + small) / busy)
    assert found.device_s == pytest.approx(small + middle + large)


def test_a_timing_is_good_for_six_hours(tmp_path, monkeypatch):
    kept = calibrate._StoredTiming(timing=TIMING, load_s=1.0, start_s=2.0, measured_at=1_000.0)
    path = tmp_path / "timing.json"
    path.write_text(kept.model_dump_json())
    hours_s = 6 * 3600.0
    for age_s, good in ((0.0, True), (hours_s - 1, True), (hours_s + 1, False), (-1.0, False)):
        monkeypatch.setattr(calibrate, "now", lambda age_s=age_s: 1_000.0 + age_s)
        assert (calibrate._read(path) == kept) is good


def test_timings_of_several_slots_are_merged_by_their_medians():
    slots = [
        TIMING.model_copy(update={"blocks": blocks, "warm_s": warm_s})
        for blocks, warm_s in (((0.01, 0.02), 1.0), ((0.03, 0.9), 2.0), ((0.005, 0.04), 9.0))
    ]
    merged = calibrate._merged(slots)
    assert merged.blocks == (0.005, 0.01, 0.02, 0.03, 0.04, 0.9)
    assert merged.step_s == pytest.approx(0.025)
    assert merged.warm_s == 2.0


def test_only_a_settled_run_is_left_out_of_an_estimate(tmp_path):
    done, begun, failed = (planned_run(width=width) for width in (16, 32, 48))
    finished_run(tmp_path, done)
    run = finished_run(tmp_path, failed)
    failure = run.result().model_copy(update={"status": "failed", "reason": "a bug"})
    write_whole(run.result_path, failure.model_dump_json())
    started = RunDir(tmp_path / "runs" / begun.id)
    started.create(begun)
    commit_checkpoint(started, 23)
    found = calibrate.steps_kept_by_run(plan_of(done, begun, failed), Home(tmp_path))
    assert found == {done.id: None, begun.id: 23, failed.id: 0}


def timing_of(width, slot):
    """A timing that shows the model it was made for and the slot that made it."""
    step_s = width / 1000 + slot / 10
    return TIMING.model_copy(update={"step_s": step_s, "blocks": (step_s,)})


@pytest.fixture
def slots(monkeypatch, tmp_path):
    """Times plans on three slots that answer by `timing_of`; notes the models in their order."""
    monkeypatch.setattr(calibrate, "now", lambda: clock[0])
    monkeypatch.setattr(calibrate, "device_name", lambda placement: "a test's device")
    monkeypatch.setattr(calibrate.psutil, "getloadavg", lambda: (3.14, 0.0, 0.0))
    monkeypatch.setattr(calibrate, "usable_cores", lambda: 8)
    clock, requests, broken = [5_000.0], {}, set()

    def ask(home, corpus, placement, trainings, slot):
        number = int(slot["SLOT"])
        requests[number] = [model.d_model for model, _ in trainings]
        if number in broken:
            raise CalibrationError(f"slot {number} is broken")
        timings = [timing_of(model.d_model, number) for model, _ in trainings]
        return calibrate._Slot(1.0 + number, 10.0 + number, timings)

    monkeypatch.setattr(calibrate, "_ask", ask)

    def speed(plan, count=3, **options):
        environments = [{"SLOT": str(n)} for n in range(count)]
        return calibrated(plan, Home(tmp_path), environments, **options)

    return SimpleNamespace(speed=speed, clock=clock, requests=requests, broken=broken)


SMALL, LARGE = planned_run(width=16), planned_run(width=48)


def test_every_shape_is_timed_on_every_slot_each_starting_elsewhere(slots):
    speed = slots.speed(plan_of(SMALL, LARGE))
    assert slots.requests == {0: [16, 48], 1: [48, 16], 2: [16, 48]}
    assert speed.timing(SMALL).blocks == pytest.approx((0.016, 0.116, 0.216))
    assert speed.timing(LARGE).blocks == pytest.approx((0.048, 0.148, 0.248))
    assert speed.timing(LARGE).step_s == pytest.approx(0.148)
    # The dispatcher takes 0.3 s between two trainings, and a sweep 14 s before and after all.
    assert speed.start_s == pytest.approx(11.0 + 0.3)
    assert speed.around_s == pytest.approx(2.0 + 14.0)
    assert speed.basis == (
        "every shape timed on a test's device just now, at load 3.1 on 8 cores, 3 at once"
    )


def test_three_shapes_come_back_in_order_from_every_slot(slots):
    middle = planned_run(width=32)
    speed = slots.speed(plan_of(SMALL, middle, LARGE))
    assert slots.requests == {0: [16, 32, 48], 1: [32, 48, 16], 2: [48, 16, 32]}
    for run, width in ((SMALL, 16), (middle, 32), (LARGE, 48)):
        assert speed.timing(run).step_s == pytest.approx(width / 1000 + 0.1)


def test_a_timing_is_made_once_and_its_age_is_named(slots):
    slots.speed(plan_of(SMALL))
    slots.requests.clear()
    slots.clock[0] += 119.0
    assert "just now" in slots.speed(plan_of(SMALL)).basis
    slots.clock[0] += 481.0
    assert slots.speed(plan_of(SMALL)).basis == (
        "every shape timed on a test's device 10 minutes ago, at load 3.1 on 8 cores, 3 at once; "
        "--retime times it again"
    )
    assert slots.requests == {}
    assert "just now" in slots.speed(plan_of(SMALL), retime=True).basis
    assert set(slots.requests) == {0, 1, 2}
    slots.requests.clear()
    slots.clock[0] += 600.0
    # Only the shape that is new is timed, and the oldest timing gives the age.
    speed = slots.speed(plan_of(SMALL, LARGE))
    assert slots.requests == {0: [48], 1: [48], 2: [48]}
    assert "10 minutes ago" in speed.basis
    assert speed.timing(SMALL).step_s == pytest.approx(0.116)
    slots.requests.clear()
    slots.speed(plan_of(SMALL), count=2)
    assert set(slots.requests) == {0, 1}


def test_a_slot_that_fails_is_left_out_unless_all_fail(slots):
    slots.broken.update({0, 1})
    assert slots.speed(plan_of(SMALL)).timing(SMALL).step_s == pytest.approx(0.216)
    slots.broken.add(2)
    with pytest.raises(CalibrationError, match="slot 0 is broken"):
        slots.speed(plan_of(LARGE))


def wide(plan, **placement):
    changed = plan.spec.placement.model_copy(update=placement)
    return plan.model_copy(update={"spec": plan.spec.model_copy(update={"placement": changed})})


def test_timed_ranks_share_what_one_of_them_does_alone(slots):
    assert "rank" not in slots.speed(wide(plan_of(SMALL), ranks=1)).basis
    speed = slots.speed(wide(plan_of(SMALL), ranks=2))
    assert speed.timing(SMALL).step_s == pytest.approx(0.116 / 2)
    assert "one rank alone; 2 are taken to share its work evenly" in speed.basis


def test_a_timing_holds_for_what_decides_the_speed(slots):
    slots.speed(plan_of(SMALL))
    for changes, fresh in (
        ({"checkpoint_every_s": 9.0, "keep_checkpoints": 7}, False),
        ({"threads": 1}, True),
    ):
        slots.requests.clear()
        slots.speed(wide(plan_of(SMALL), **changes))
        assert bool(slots.requests) is fresh


@pytest.fixture
def child(monkeypatch, tmp_path):
    """Asks a child whose output is given; the clock stands at 100 s when it starts."""
    monkeypatch.setattr(calibrate, "time", SimpleNamespace(time=lambda: 100.0))

    def ask(stdout, stderr="", trainings=2):
        done = SimpleNamespace(stdout=stdout, stderr=stderr)
        monkeypatch.setattr(calibrate.subprocess, "run", lambda *args, **options: done)
        pairs = [(SMALL.run.model, SMALL.run.train)] * trainings
        return calibrate._ask(Home(tmp_path), "c", Placement(), pairs, {})

    return ask


def test_a_child_is_timed_from_its_start_to_its_corpus(child):
    lines = [
        Answer(loaded_at=103.0, ready_at=103.5, timing=timing_of(width, 0)) for width in (16, 48)
    ]
    slot = child("".join(line.model_dump_json() + "\n" for line in lines))
    assert (slot.load_s, slot.start_s) == (3.0, 0.5)
    assert slot.timings == [timing_of(16, 0), timing_of(48, 0)]


@pytest.mark.parametrize(
    ("stderr", "told"), [("Traceback:\nKeyError: 1\n", "KeyError: 1"), ("", "no output")]
)
def test_a_child_that_answers_too_little_has_failed_with_its_last_line(child, stderr, told):
    line = Answer(loaded_at=1.0, ready_at=2.0, timing=TIMING).model_dump_json()
    with pytest.raises(CalibrationError, match=f"timing failed: {told}"):
        child(line + "\n", stderr)


def test_an_assumed_gpu_is_not_timed(tmp_path, monkeypatch):
    plan = wide(plan_of(SMALL), ranks=2)
    found = estimate_plan(plan, Home(tmp_path), [{}] * 3, AssumedSpeed(gpu="h100", mfu=0.4))
    speed = AssumedSpeed(gpu="h100", mfu=0.4)
    fast = assumed(speed, device_of(speed), plan.spec.placement)
    assert found.device_s == pytest.approx(estimate(plan, fast, {SMALL.id: 0}, 3).device_s)
    assert found.slots == 3


def test_a_run_that_will_be_compiled_is_sooner_done_by_its_gain(tmp_path, monkeypatch):
    short, long = planned_run(), planned_run(steps=(10_000,))
    asked = []

    def choice(run, home, placement, slot, *, step_s, runs):
        asked.append((run.name, step_s, runs))
        return CompileChoice(compiled=run is long, reason="", gain_s=30.0)

    monkeypatch.setattr(calibrate, "calibrated", lambda *_, **settings: SPEED)
    monkeypatch.setattr(calibrate, "foreseen", choice)
    cost = estimate_plan(plan_of(short, long), Home(tmp_path), [{}])
    plain = estimate(plan_of(short, long), SPEED, {short.id: 0, long.id: 0}, 1)
    assert cost.runs[long.id].left_s == pytest.approx(plain.runs[long.id].left_s - 30.0)
    assert cost.runs[short.id] == plain.runs[short.id]
    assert cost.compiled[long.id].compiled
    # Both are of one shape.
    assert asked == [("d32", 0.01, 2), ("d32", 0.01, 2)]


def test_a_gain_beyond_the_whole_training_is_of_another_machine(tmp_path, monkeypatch):
    run = planned_run(steps=(10_000,))
    choice = CompileChoice(compiled=True, reason="", gain_s=1e6)
    monkeypatch.setattr(calibrate, "calibrated", lambda *_, **settings: SPEED)
    monkeypatch.setattr(calibrate, "foreseen", lambda *_, **settings: choice)
    cost = estimate_plan(plan_of(run), Home(tmp_path), [{}])
    assert cost.runs == estimate(plan_of(run), SPEED, {run.id: 0}, 1).runs
