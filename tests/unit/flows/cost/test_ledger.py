"""A capped sweep counts what it spent itself, over all the times it was called."""

import pytest

from flows.cost.estimate import Estimate, RunTime
from flows.cost.ledger import CappedSweep, Ledger, capped
from flows.runs.attempts import Spent, recording_attempt
from flows.runs.curve import CurveWriter
from flows.runs.directory import RunDir, RunResult
from flows.settings import Home
from sweeps.cap import FlopsCap, HoursCap, MoneyCap
from sweeps.load import load_spec
from sweeps.plan import Plan
from sweeps.spec import DataRef
from tests.disk import DiskOrder
from tests.fakes import commit_checkpoint, finished_run, planned_run, step

SMALL, LARGE = planned_run(width=16), planned_run(width=48)


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path)
    home.sweeps.mkdir()
    return home


def sweep(name="test"):
    spec = load_spec("smoke", [f"name={name}"])
    return Plan(spec=spec, data=DataRef(digest="x"), runs=(SMALL, LARGE), warnings=())


def train(home, planned, first, last):
    """Some steps, as an attempt that is then stopped."""
    run = RunDir(home.runs / planned.id)
    run.create(planned)
    with recording_attempt(run, home):
        curve = CurveWriter(run.curve_path)
        for number in range(first, last + 1):
            curve.append(step(number))
        curve.close()


def result(planned, status="finished"):
    return RunResult(run_id=planned.id, status=status, train_s=1, device="cpu", finished_at=1.0)


def test_only_what_was_spent_since_this_sweep_started_a_run_is_its_own(home):
    train(home, SMALL, 1, 5)
    ledger = Ledger(sweep(), home)
    assert ledger.spent(SMALL.id).steps == 0
    ledger.open(SMALL.id)
    train(home, SMALL, 6, 9)
    assert ledger.spent(SMALL.id).steps == 9
    # A new process reads the same, and opening again changes nothing.
    again = Ledger(sweep(), home)
    again.open(SMALL.id)
    assert again.spent(SMALL.id) == ledger.spent(SMALL.id)


def test_a_sweep_of_another_name_has_a_ledger_of_its_own(home):
    Ledger(sweep(), home).open(SMALL.id)
    train(home, SMALL, 1, 5)
    assert Ledger(sweep("other"), home).spent(SMALL.id).steps == 0


def test_a_torn_line_of_the_ledger_is_skipped(home):
    ledger = Ledger(sweep(), home)
    ledger.open(SMALL.id)
    path = home.sweeps / "test" / "ledger.jsonl"
    path.write_text(path.read_text() + '{"run": "' + LARGE.id)
    assert Ledger(sweep(), home).spent(LARGE.id).steps == 0


@pytest.mark.parametrize("damage", ['{"run":"a","st{"run"', "7", "[]", '{"run":"a"}', "\0\0"])
def test_a_damaged_line_of_the_ledger_costs_that_line_alone(home, damage, caplog):
    ledger = Ledger(sweep(), home)
    ledger.open(SMALL.id)
    path = home.sweeps / "test" / "ledger.jsonl"
    path.write_text(damage + "\n" + path.read_text())
    train(home, SMALL, 1, 5)
    assert Ledger(sweep(), home).spent(SMALL.id).steps == 5
    assert "is damaged" in caplog.text


def test_flops_spent_are_those_of_the_steps_trained(home):
    cap = CappedSweep(sweep(), home, FlopsCap(flops=2.0 * LARGE.flops_spent), left(1.0))
    assert cap.admit(LARGE)
    assert cap.admit(SMALL)
    train(home, SMALL, 1, 14)
    share = 14 / 46
    assert cap._budget.spent == pytest.approx(SMALL.flops_spent * share)


def left(factor):
    return {run.id: factor * run.flops_spent for run in (SMALL, LARGE)}


def test_hours_and_money_go_by_the_seconds_of_attempts(home, monkeypatch):
    hours = {SMALL.id: 0.1, LARGE.id: 0.2}
    cap = CappedSweep(sweep(), home, HoursCap(hours=0.25), hours)
    assert [cap.admit(LARGE), cap.admit(SMALL)] == [False, True]
    assert "leaves out 1 of 2 runs: d48" in cap.refusal()
    assert "the next would take 0.2 device-hours" in cap.refusal()
    usd = {run: 2.5 * hour for run, hour in hours.items()}
    money = CappedSweep(sweep(), home, MoneyCap(usd=0.9, usd_per_hour=2.5), usd)
    assert [money.admit(LARGE), money.admit(SMALL)] == [True, True]
    assert money.refusal() is None


def test_the_unspent_estimate_of_a_failed_run_goes_to_the_next(home):
    cap = CappedSweep(sweep(), home, FlopsCap(flops=1.0 * LARGE.flops_spent), left(1.0))
    assert [cap.admit(LARGE), cap.admit(SMALL)] == [False, True]
    cap.ended(SMALL, result(SMALL, "failed"))
    assert cap.admit(LARGE)


def test_what_a_foreseen_cap_leaves_out_is_what_it_would_leave_out(home):
    cap = CappedSweep(sweep(), home, FlopsCap(flops=1.0 * LARGE.flops_spent), left(1.0))
    assert "d48" in cap.foresee()
    assert not (home.sweeps / "test" / "ledger.jsonl").exists()


def test_the_cap_named_before_the_start_admits_every_run(home):
    hours = {SMALL.id: 0.1, LARGE.id: 0.2}
    foreseen = CappedSweep(sweep(), home, HoursCap(hours=0.25), hours).foresee()
    assert "--max-hours 0.33 trains all of them" in foreseen
    assert CappedSweep(sweep(), home, HoursCap(hours=0.33), hours).foresee() is None


def test_runs_that_are_finished_cost_a_new_sweep_nothing(home):
    finished_run(home.root, SMALL)
    cap = FlopsCap(flops=1.0 * LARGE.flops_spent)
    sweeping = CappedSweep(sweep(), home, cap, {LARGE.id: float(LARGE.flops_spent)})
    assert sweeping.admit(LARGE)


def test_every_rank_of_a_training_is_a_device_that_is_paid_for(home, monkeypatch):
    plan = sweep()
    placement = plan.spec.placement.model_copy(update={"ranks": 4})
    wide = plan.model_copy(update={"spec": plan.spec.model_copy(update={"placement": placement})})
    spent = {}
    for name, planned in (("one", plan), ("four", wide)):
        cap = CappedSweep(planned, home, HoursCap(hours=1.0), {SMALL.id: 0.1})
        cap.admit(SMALL)
        monkeypatch.setattr(cap._ledger, "spent", lambda run_id: Spent(steps=3, seconds=36.0))
        spent[name] = cap._budget.spent
    assert spent == {"one": pytest.approx(0.01), "four": pytest.approx(0.04)}


def test_a_run_half_trained_by_this_sweep_is_counted_once(home):
    Ledger(sweep(), home).open(SMALL.id)
    train(home, SMALL, 1, 14)
    share = SMALL.flops_spent * 14 / 46
    rest = {SMALL.id: SMALL.flops_spent - share, LARGE.id: float(LARGE.flops_spent)}
    cap = CappedSweep(sweep(), home, FlopsCap(flops=1e12), rest)
    assert cap._budget.spent == pytest.approx(share)
    assert [cap.admit(SMALL), cap.admit(LARGE)] == [True, True]
    assert cap._budget.spent == pytest.approx(share)
    # A cap of exactly the total admits both, and a little less does not.
    total = float(SMALL.flops_spent + LARGE.flops_spent)
    for factor, admitted in ((1 + 1e-9, True), (1 - 1e-6, False)):
        tight = CappedSweep(sweep(), home, FlopsCap(flops=factor * total), rest)
        assert [tight.admit(SMALL), tight.admit(LARGE)] == [True, admitted]


def test_what_this_sweep_spent_on_a_run_that_is_settled_still_counts(home):
    Ledger(sweep(), home).open(SMALL.id)
    train(home, SMALL, 1, 14)
    cap = CappedSweep(sweep(), home, FlopsCap(flops=1e12), {LARGE.id: float(LARGE.flops_spent)})
    assert cap._budget.spent == pytest.approx(SMALL.flops_spent * 14 / 46)


def test_a_run_is_in_the_ledger_before_it_starts(home, monkeypatch):
    disk = DiskOrder(monkeypatch)
    Ledger(sweep(), home).open(SMALL.id)
    assert disk.durable(home.sweeps / "test" / "ledger.jsonl")


def test_a_run_that_the_cap_refuses_is_not_in_the_ledger(home):
    cap = CappedSweep(sweep(), home, FlopsCap(flops=1.0), left(1.0))
    assert not cap.admit(SMALL)
    assert not (home.sweeps / "test" / "ledger.jsonl").exists()


def capped_sweep(cap, ranks=1):
    spec = sweep().spec
    placement = spec.placement.model_copy(update={"ranks": ranks})
    spec = spec.model_copy(update={"cap": cap, "placement": placement})
    return sweep().model_copy(update={"spec": spec})


def test_a_cap_on_flops_asks_only_for_the_steps_that_are_not_kept(home):
    train(home, SMALL, 1, 23)
    run = RunDir(home.runs / SMALL.id)
    commit_checkpoint(run, 23)
    cap = capped(capped_sweep(FlopsCap(flops=1e12)), home, [])
    assert cap._budget.left_out == {
        SMALL.id: pytest.approx(SMALL.flops_spent / 2),
        LARGE.id: float(LARGE.flops_spent),
    }


@pytest.mark.parametrize(
    ("cap", "wanted"),
    [(HoursCap(hours=1.0), 2.0), (MoneyCap(usd=1.0, usd_per_hour=2.5), 5.0)],
)
def test_hours_and_money_are_of_every_rank(home, cap, wanted):
    times = {run.id: RunTime(9e9, 1800.0, (0, 0), 0.0) for run in (SMALL, LARGE)}
    told = Estimate(times, 9e9, (0, 0), 9e9, idle_share=0.0, slots=2, basis="a test")
    found = capped(capped_sweep(cap, ranks=4), home, [], told)
    assert found._budget.left_out == {
        SMALL.id: pytest.approx(wanted),
        LARGE.id: pytest.approx(wanted),
    }


def test_a_refusal_asks_for_what_was_spent_and_what_is_left(home):
    cap = CappedSweep(sweep(), home, FlopsCap(flops=1.0 * LARGE.flops_spent), left(1.0))
    assert cap.admit(SMALL)
    finished_run(home.root, SMALL)
    cap.ended(SMALL, result(SMALL))
    assert not cap.admit(LARGE)
    both = SMALL.flops_spent + LARGE.flops_spent
    # A tenth more, in two digits.
    assert f"--max-flops {1.1 * both:.2g} trains all of them" in cap.refusal()
    assert f"Spent: {SMALL.flops_spent:.3g} FLOPs" in cap.refusal()


def test_a_refusal_of_all_names_the_cheapest_and_the_sum(home):
    hours = {SMALL.id: 0.1, LARGE.id: 0.2}
    cap = CappedSweep(sweep(), home, HoursCap(hours=0.05), hours)
    assert "the next would take 0.1 device-hours, all of them 0.3 device-hours" in cap.refusal()
    assert "--max-hours 0.33 trains" in cap.refusal()
