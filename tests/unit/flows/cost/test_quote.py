"""A quote's memory, money and warnings are those of the chosen machine."""

import pytest

from flows.cost import quote as module
from flows.cost.quote import memory_gib, quote
from flows.settings import Home
from llama_core.config import Placement
from llama_core.memory import MEMORY_SHARE, step_memory
from sweeps.cap import AssumedSpeed, FlopsCap, HoursCap, MoneyCap
from sweeps.load import load_spec
from sweeps.plan import Plan
from sweeps.spec import DataRef
from tests.fakes import planned_run

H100, L4 = AssumedSpeed(gpu="h100", mfu=0.4), AssumedSpeed(gpu="l4")
RUNS = planned_run(width=16), planned_run(width=48)


def plan_of(**changes):
    spec = load_spec("smoke").model_copy(update=changes)
    return Plan(spec=spec, data=DataRef(digest="x"), runs=RUNS, warnings=())


@pytest.fixture
def asked(tmp_path):
    home = Home(tmp_path)
    home.sweeps.mkdir()
    home.runs.mkdir()

    def ask(plan, *, speed=H100, usd_per_hour=None, slots=1):
        return quote(plan, home, [{}] * slots, speed=speed, usd_per_hour=usd_per_hour)

    return ask


def peak(run, rows, **placed):
    model, train = run.run.model, run.run.train
    eager = placed.get("attention") == "eager"
    return step_memory(model, train, Placement(**placed), rows=rows, eager=eager).peak


def test_memory_is_the_peak_of_a_step_in_gib():
    run = planned_run(width=64)
    # 1,024 tokens of 128 are 8 rows, and all of them fit.
    assert memory_gib(run, Placement(), 80e9) == peak(run, 8) / 2**30
    assert memory_gib(run, Placement(micro_batch_rows=2), 80e9) == peak(run, 2) / 2**30
    eager = memory_gib(run, Placement(attention="eager"), 80e9)
    assert eager == peak(run, 8, attention="eager") / 2**30


def test_on_a_small_gpu_as_many_rows_go_at_once_as_the_usable_share_holds():
    run = planned_run(width=64)
    assert memory_gib(run, Placement(), peak(run, 8) / MEMORY_SHARE * 1.001) == peak(run, 8) / 2**30
    assert memory_gib(run, Placement(), peak(run, 8) / MEMORY_SHARE * 0.999) == peak(run, 4) / 2**30


def test_a_given_price_overrides_the_caps_which_overrides_the_listed_one(asked):
    priced = plan_of(cap=MoneyCap(usd=9.0, usd_per_hour=3.0))
    given = asked(priced, usd_per_hour=7.0)
    assert (given.usd_per_hour, given.price_source) == (7.0, "as given")
    capped = asked(priced)
    assert (capped.usd_per_hour, capped.price_source) == (3.0, "the cap's price")
    listed = asked(plan_of())
    assert (listed.usd_per_hour, listed.price_source[:16]) == (2.0, "the listed price")
    assert asked(plan_of(), speed=L4).usd_per_hour is None
    assert listed.usd(1800.0) == 1.0


def test_a_cap_in_hours_is_quoted_at_its_own_speed(asked):
    slow = AssumedSpeed(gpu="h100", mfu=0.1)
    found = asked(plan_of(cap=HoursCap(hours=1.0, speed=slow)), speed=None)
    assert found.estimate.device_s == pytest.approx(4 * asked(plan_of()).estimate.device_s)


def test_a_quote_foresees_what_the_cap_leaves_out(asked):
    total = sum(run.flops_spent for run in RUNS)
    assert asked(plan_of(cap=FlopsCap(flops=1.001 * total))).refusal is None
    short = asked(plan_of(cap=FlopsCap(flops=0.999 * total)))
    assert "leaves out 1 of 2 runs: d48" in short.refusal


def test_a_run_that_needs_more_than_the_gpu_has_is_warned_about(asked, monkeypatch):
    room = 80e9 * MEMORY_SHARE / 2**30
    needs = {RUNS[0].id: room * 0.999, RUNS[1].id: room * 1.001}
    monkeypatch.setattr(module, "memory_gib", lambda run, *_: needs[run.id])
    warnings = asked(plan_of(dtype="bfloat16")).warnings
    assert len(warnings) == 1
    assert warnings[0].startswith("d48: up to 63.4 GiB, more than the GPU's 63.3 GiB")
    # A GPU that is planned for trains one run at a time.
    assert "slots" not in warnings[0]


def test_slots_of_this_machine_share_its_memory(asked, monkeypatch):
    memory = type("Memory", (), {"available": 8 * 2**30})
    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(module, "estimate_plan", lambda *_, **__: None)
    monkeypatch.setattr(module, "memory_gib", lambda run, *_: 3.0)
    placement = Placement(device="cpu")
    assert asked(plan_of(placement=placement), speed=None, slots=2).warnings == ()
    [warning] = asked(plan_of(placement=placement), speed=None, slots=4).warnings
    assert "d16, d48: up to 3 GiB, more than a slot's share of the 2 GiB" in warning


def test_float32_at_a_share_of_the_bf16_peak_is_warned_about(asked):
    assert "dtype=bfloat16" in " ".join(asked(plan_of(dtype="float32")).warnings)
    assert asked(plan_of(dtype="bfloat16")).warnings == ()


def test_a_slot_on_a_gpu_has_the_usable_share_of_its_memory(asked, monkeypatch):
    cuda = type("Device", (), {"type": "cuda"})
    monkeypatch.setattr(module, "resolve_device", lambda device: cuda)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (2**30, 10 * 2**30))
    room = 10 * MEMORY_SHARE
    needs = {RUNS[0].id: room * 0.999, RUNS[1].id: room * 1.001}
    warnings = module._warnings(plan_of(), needs, None, slots=4)
    assert len(warnings) == 1
    assert warnings[0].startswith("d48: up to ")


def test_memory_here_is_of_the_rows_that_one_rank_computes_at_once_here(monkeypatch):
    run = planned_run(width=64)
    cpu = Placement(device="cpu", micro_batch_rows=2, attention="eager")
    assert memory_gib(run, cpu) == peak(run, 2, attention="eager") / 2**30
    ranks = []
    monkeypatch.setattr(
        module.machine, "micro_batch_rows", lambda *given: ranks.append(given[4]) or 4
    )
    assert memory_gib(run, cpu) == peak(run, 4, attention="eager") / 2**30
    assert ranks == [1]
