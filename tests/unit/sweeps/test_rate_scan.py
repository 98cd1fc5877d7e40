"""The scan of a learning rate: where it trains, when it goes on, what it finds."""

import math

import pytest

from sweeps.load import load_spec
from sweeps.plan import plan
from sweeps.rate_scan import scan, scan_runs
from sweeps.spec import DataRef

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)


def losses(best: float, factors=FACTORS) -> dict[float, float | None]:
    return {factor: 3 + 0.02 * math.log(factor / best) ** 2 for factor in factors}


@pytest.mark.parametrize("best", [0.4, 0.71, 1.0, 1.5, 2.5])
def test_a_parabola_in_the_log_of_the_rate_is_found_to_three_digits(best):
    assert scan(FACTORS, losses(best)).factor == pytest.approx(best, rel=0.005)


def test_a_scan_waits_for_all_its_factors():
    some = {factor: loss for factor, loss in losses(1).items() if factor != 2}
    waiting = scan(FACTORS, some)
    assert waiting.missing == (2.0,)
    assert waiting.factor is None


def test_a_best_at_an_end_goes_on_beyond_it_twice_and_is_said():
    first = scan(FACTORS, losses(100))
    assert (first.missing, first.factor) == ((8.0,), None)
    second = scan(FACTORS, losses(100, (*FACTORS, 8.0)))
    assert second.missing == (16.0,)
    last = scan(FACTORS, losses(100, (*FACTORS, 8.0, 16.0)))
    assert (last.missing, last.factor) == ((), 16.0)
    assert "at the end of the scan" in last.how
    down = scan(FACTORS, losses(0.13))
    assert down.missing == (0.125,)
    assert scan(FACTORS, losses(0.13, (0.125, *FACTORS))).missing == (0.0625,)
    found = scan(FACTORS, losses(0.13, (0.0625, 0.125, *FACTORS)))
    assert found.factor == pytest.approx(0.13, rel=0.005)


def test_a_rate_that_diverged_bounds_the_best_without_a_parabola():
    reached = losses(2) | {4.0: None}
    found = scan(FACTORS, reached)
    assert found.factor == 2.0
    assert "x4 diverged" in found.how
    nothing = scan(FACTORS, dict.fromkeys(FACTORS))
    assert (nothing.factor, nothing.missing) == (None, ())


def test_in_a_valley_flatter_than_the_noise_of_a_seed_the_middle_counts_and_is_said():
    # Measured for GELU at N = 41k. The best three alone have their vertex at 2.9.
    measured = {0.25: 3.97, 0.5: 3.851, 1.0: 3.8045, 2.0: 3.8075, 4.0: 3.8026, 8.0: 3.94}
    found = scan(FACTORS, measured)
    assert found.factor == 2.0
    assert found.how.endswith("x1 to x4 differ by less than a seed")
    steep = {factor: loss for factor, loss in measured.items() if factor != 2.0} | {2.0: 3.85}
    assert "flat" not in scan(FACTORS, steep).how


def test_a_scan_trains_the_smallest_budget_at_the_size_nearest_to_its_optimum():
    runs = plan(load_spec("demo", ["seeds=[4, 5]"]), DataRef(digest="x")).runs
    scanned = scan_runs(runs, FACTORS)
    assert {run.name.partition("-")[0] for run in scanned} == {"d24"}
    assert {run.cells[0].flops_budget for run in scanned} == {1.6e11}
    assert {run.run.train.seed for run in scanned} == {4}
    assert [run.rate_factor for run in scanned] == list(FACTORS)
    rates = [run.run.train.optimizer.lr for run in scanned]
    assert rates == pytest.approx([0.256 / 24 * factor for factor in FACTORS])
