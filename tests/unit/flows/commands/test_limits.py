"""Options become one cap, or one clear refusal."""

import pytest

from flows.commands.limits import Limits, cap_of, refuse_idle, speed_of
from sweeps.cap import AssumedSpeed, FlopsCap, HoursCap, MoneyCap, in_words
from sweeps.load import SpecError, load_spec
from sweeps.plan import plan
from sweeps.spec import DataRef


@pytest.mark.parametrize(
    ("limits", "cap"),
    [
        (Limits(), None),
        (Limits(max_flops=1e13), FlopsCap(flops=1e13)),
        (Limits(max_hours=2.0), HoursCap(hours=2)),
        (Limits(max_cost=5.0, price=2.5), MoneyCap(usd=5, usd_per_hour=2.5)),
        (
            Limits(max_cost=5.0, gpu="h100", mfu=0.3),
            MoneyCap(usd=5, usd_per_hour=2.0, speed=AssumedSpeed(gpu="h100", mfu=0.3)),
        ),
    ],
)
def test_each_option_gives_its_cap(limits, cap):
    assert cap_of(limits) == cap


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(max_flops=1e13, max_hours=1.0), "--max-flops and --max-hours were given"),
        (Limits(max_cost=5.0), "--max-cost needs the price"),
        (Limits(max_cost=5.0, gpu="l4"), "--max-cost needs the price"),
        (Limits(max_flops=-1.0), "--max-flops -1"),
        (Limits(max_hours=float("inf")), "--max-hours inf"),
        (Limits(max_cost=5.0, price=0.0), "--price 0"),
        (Limits(mfu=0.4), "--mfu is of a GPU: name it"),
        (Limits(peak=1e14), "--peak is of a GPU: name it"),
        (Limits(gpu="mine", peak=362.0, memory=48.0), "--peak 362 is not a peak in FLOP/s"),
        (Limits(gpu="mine", peak=3e14, memory=0.0), "--memory 0 is not a memory in GB"),
        (Limits(gpu="mine"), "give its --peak in FLOP/s and its --memory in GB"),
        (Limits(gpu="mine", peak=3e14), "--gpu mine is not listed: give its --memory in GB too"),
        (Limits(gpu="mine", memory=48.0), "--gpu mine is not listed: give its --peak in FLOP/s"),
        (Limits(gpu="h100", mfu=40.0), "--mfu 40"),
        (Limits(gpu="h10"), "Did you mean h100"),
    ],
)
def test_what_cannot_be_a_cap_is_refused_in_words(limits, words):
    with pytest.raises(ValueError, match=words):
        cap_of(limits)


@pytest.mark.parametrize("limits", [Limits(gpu="h100"), Limits(max_flops=1e12, price=2.0)])
def test_a_sweep_refuses_options_that_would_change_nothing(limits):
    with pytest.raises(ValueError, match="would change nothing"):
        refuse_idle(limits)
    refuse_idle(Limits(max_cost=5.0, price=2.0))


def test_a_gpu_is_listed_or_has_a_peak_and_a_memory():
    assert speed_of(Limits(gpu="h100")) == AssumedSpeed(gpu="h100", mfu=None)
    own = speed_of(Limits(gpu="mine", peak=3e14, memory=48.0))
    assert own == AssumedSpeed(gpu="mine", peak=3e14, memory_gb=48.0)


def test_a_cap_in_the_spec_never_touches_a_runs_identity():
    data = DataRef(digest="x")
    capped = load_spec("smoke", ["cap={kind: money, usd: 5, usd_per_hour: 2.5}"])
    assert capped.cap == MoneyCap(usd=5, usd_per_hour=2.5)
    assert [run.id for run in plan(capped, data).runs] == [
        run.id for run in plan(load_spec("smoke"), data).runs
    ]


def test_a_cap_in_money_without_a_price_is_refused():
    with pytest.raises(SpecError, match="usd_per_hour"):
        load_spec("smoke", ["cap={kind: money, usd: 5}"])


def test_amounts_are_printed_with_their_unit():
    assert in_words(FlopsCap(flops=1), 1.5e13) == "1.50e+13 FLOPs"
    assert in_words(HoursCap(hours=1), 0.25) == "0.25 device-hours"
    assert in_words(MoneyCap(usd=1, usd_per_hour=1), 1234.5) == "$1,234.50"
    assert in_words(MoneyCap(usd=1, usd_per_hour=1), 0.00012) == "$0.00012"
