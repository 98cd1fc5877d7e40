"""A plan foresees which runs will train as one program, by the trial that they would make."""

import io
import subprocess
from types import SimpleNamespace

import pytest

from flows.cost import calibrate
from flows.cost import stacks as module
from flows.cost.calibrate import estimate_plan
from flows.cost.estimate import Speed, estimate
from flows.cost.stacks import Request, stacked
from flows.cost.timing import Timing
from flows.runs.attempts import CompileChoice, StackChoice
from flows.settings import Home
from flows.training import stack_gain
from flows.training.stack_gain import IN_A_STACK
from llama_core.config import Placement
from sweeps.load import load_spec
from sweeps.plan import Plan
from sweeps.spec import DataRef
from tests.fakes import planned_run

SLOTS = [{"OMP_NUM_THREADS": "1"}] * 2
# Of one shape, and two of another.
ALIKE = [planned_run(steps=(10, steps)) for steps in (20, 30, 40, 50)]
WIDE = [planned_run(width=48, steps=(10, steps)) for steps in (20, 30)]


def plan_of(*runs):
    spec = load_spec("smoke").model_copy(update={"placement": Placement(device="cpu")})
    return Plan(spec=spec, data=DataRef(digest="x"), runs=runs, warnings=())


@pytest.fixture
def trials(monkeypatch):
    """Replaces the children of slots: groups of two or more gain `gain`; an exception ends one."""
    monkeypatch.setattr("flows.training.stacks._LEAST_FLOPS", 0.0)
    state = SimpleNamespace(gain=1.5, groups=[], error=None)

    def ask(request, slot):
        if state.error is not None:
            raise state.error
        for group in request.groups:
            state.groups.append(len(group))
            place = stack_gain.kept_at(group, Home(request.home), request.placement, slot)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(stack_gain.StackGain(gain=state.gain).model_dump_json())

    monkeypatch.setattr(module, "_ask", ask)
    return state


def choices(plan, home, *, done=(), **options):
    kept = {run.id: None if run in done else 0 for run in plan.runs}
    return [
        (len(group), choice.stacked, choice.gain)
        for group, choice in stacked(plan, home, SLOTS, kept, **options)
    ]


def test_groups_that_slots_will_get_are_tried_once(trials, tmp_path):
    plan, home = plan_of(*ALIKE, *WIDE), Home(tmp_path)
    # Two of four runs for each slot, and one of the others.
    assert choices(plan, home) == [(2, True, 1.5)] * 2
    # Their batches are the same, so one trial is of both.
    assert trials.groups == [2]
    trials.gain = 1.05
    assert choices(plan, home) == [(2, True, 1.5)] * 2
    assert choices(plan, home, retime=True) == [(2, False, 1.05)] * 2
    assert trials.groups == [2, 2]
    # A finished run is in no group, and of two runs left each slot gets one.
    assert choices(plan, home, done=ALIKE) == []


def test_a_scan_of_rates_is_trained_before_its_sweep(trials, tmp_path):
    scanned = [
        run.model_copy(update={"variant": "base", "rate_factor": factor})
        for run, factor in zip(ALIKE[:2], (0.5, 2.0), strict=True)
    ]
    assert choices(plan_of(*scanned, *ALIKE[2:]), Home(tmp_path)) == []


@pytest.mark.parametrize(
    "error",
    [
        subprocess.CalledProcessError(1, "c", stderr="Traceback\nMemoryError: no room\n"),
        subprocess.TimeoutExpired("c", 600.0),
    ],
)
def test_runs_whose_trial_fails_count_as_single_ones(trials, tmp_path, caplog, error):
    trials.error = error
    assert choices(plan_of(*ALIKE), Home(tmp_path)) == []
    assert "could not be tried as one program: " in caplog.text


def test_a_child_measures_every_group_of_its_request(monkeypatch, tmp_path):
    groups = tuple(tuple(run.run for run in runs) for runs in (ALIKE, WIDE))
    request = Request(home=tmp_path, placement=Placement(), groups=groups)
    measured = []
    monkeypatch.setattr(module, "measure", lambda specs, home, _: measured.append((specs, home)))
    monkeypatch.setattr(module.sys, "stdin", io.StringIO(request.model_dump_json()))
    assert module.main() == 0
    assert measured == [(group, Home(tmp_path)) for group in groups]


TIMING = Timing(step_s=0.1, blocks=(0.1,), warm_s=0.5, eval_s_per_token=1e-5, checkpoint_s=0.0)
SPEED = Speed(timing=lambda run: TIMING, start_s=4.0, around_s=10.0, basis="a test")


def test_a_stack_shares_its_start_and_its_steps_and_takes_one_slot(monkeypatch, tmp_path):
    plan, choice = plan_of(*ALIKE, *WIDE), StackChoice(stacked=True, runs=4, reason="", gain=2.0)
    apart = choice.model_copy(update={"stacked": False, "gain": 1.0})
    groups = [(tuple(ALIKE), choice), (tuple(WIDE), apart)]
    foreseen = CompileChoice(compiled=False, reason="")
    monkeypatch.setattr(calibrate, "calibrated", lambda *_, **settings: SPEED)
    monkeypatch.setattr(calibrate, "stacked", lambda *_, **settings: groups)
    monkeypatch.setattr(calibrate, "foreseen", lambda *_, **settings: foreseen)
    found = estimate_plan(plan, Home(tmp_path), SLOTS)
    alone = estimate_plan(plan, Home(tmp_path), SLOTS, stacks=False)
    plain = estimate(plan, SPEED, {run.id: 0 for run in plan.runs}, slots=2)
    assert (alone.runs, alone.stacked) == (plain.runs, ())
    for run in ALIKE:
        steps_s, evals_s = run.steps * 0.1, 2 * 4096 * 1e-5
        assert plain.runs[run.id].left_s == pytest.approx(4.5 + steps_s + evals_s)
        assert found.runs[run.id].left_s == pytest.approx(4.5 / 4 + steps_s / 2 + evals_s)
        assert found.compiled[run.id] == IN_A_STACK
    together_s = sum(found.runs[run.id].left_s for run in ALIKE)
    wide_s = [found.runs[run.id].left_s for run in WIDE]
    assert wide_s == [plain.runs[run.id].left_s for run in WIDE]
    assert found.elapsed_s == pytest.approx(10.0 + max(together_s, sum(wide_s)))
    assert found.device_s == pytest.approx(together_s + sum(wide_s))
    assert found.stacked == [
        (tuple(run.id for run in ALIKE), choice),
        (tuple(run.id for run in WIDE), apart),
    ]
