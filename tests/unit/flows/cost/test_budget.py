"""No admitted run exceeds a cap, and a cap admits as many runs as it can."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.cost.budget import Budget


class Meter:
    """What runs have cost; a test turns it."""

    def __init__(self, **costs):
        self.costs = costs

    def __call__(self, run):
        return self.costs.get(run, 0.0)


def test_the_most_expensive_run_starts_first_when_all_fit():
    budget = Budget(10, {"a": 1, "b": 2, "c": 3}, Meter())
    assert [budget.admit(run) for run in ("c", "b", "a")] == [True, True, True]
    assert budget.left_out == {}


def test_an_expensive_run_is_refused_if_cheaper_ones_would_not_fit_with_it():
    budget = Budget(5, {"a": 1, "b": 2, "c": 4}, Meter())
    assert [budget.admit(run) for run in ("c", "b", "a")] == [False, True, True]
    assert budget.left_out == {"c": 4}


def test_what_a_run_did_not_use_lets_another_start():
    meter = Meter()
    budget = Budget(5, {"a": 2, "b": 4}, meter)
    assert [budget.admit("b"), budget.admit("a")] == [False, True]
    meter.costs["a"] = 1.0
    budget.settle("a", finished=True)
    assert budget.admit("b")
    assert budget.spent == 1.0


def test_runs_above_their_estimate_raise_the_estimates_of_others():
    meter = Meter()
    budget = Budget(5, {"a": 1, "b": 2}, meter)
    assert budget.admit("a")
    meter.costs["a"] = 2.0
    budget.settle("a", finished=True)
    # Twice the estimate so far: b is taken to cost 4, and 2 are spent.
    assert not budget.admit("b")
    assert budget.left_out == {"b": 4.0}


def test_a_failure_does_not_change_estimates_but_its_cost_counts():
    meter = Meter()
    budget = Budget(5, {"a": 1, "b": 3}, meter)
    assert budget.admit("a")
    meter.costs["a"] = 1.5
    budget.settle("a", finished=False)
    assert budget.admit("b")


def test_what_is_under_way_counts_as_measured_once_that_is_more():
    meter = Meter()
    budget = Budget(5, {"a": 1, "b": 2}, meter)
    assert budget.admit("a")
    meter.costs["a"] = 3.5
    assert not budget.admit("b")
    # Retried after a crash: the runs under way still fit.
    assert budget.admit("a")
    meter.costs["a"] = 5.5
    assert not budget.admit("a")


def test_a_run_that_may_not_go_on_waits_with_what_is_left_of_its_estimate():
    meter = Meter()
    budget = Budget(8, {"a": 2, "b": 3, "c": 3}, meter)
    assert all(budget.admit(run) for run in "abc")
    meter.costs.update(a=4.0, b=1.0)
    budget.settle("a", finished=True)
    # Twice the estimates now: 4 + 6 + 6.
    assert not budget.admit("b")
    assert budget.left_out == {"b": 4.0}
    assert budget.spent == 5.0
    meter.costs["c"] = 1.0
    budget.settle("c", finished=True)
    assert budget.admit("b")
    assert not budget.left_out
    meter.costs["b"] = 2.5
    budget.settle("b", finished=True)
    assert budget.spent == 7.5


def test_what_the_sweep_spent_before_counts_and_a_resumed_run_only_with_what_is_left():
    meter = Meter(b=3.0)
    budget = Budget(5, {"b": 1}, meter, spent_before=0.5)
    assert budget.spent == 3.5
    assert budget.admit("b")
    meter.costs["b"] = 4.2
    budget.settle("b", finished=True)
    assert budget.spent == pytest.approx(4.7)


def test_a_run_that_was_never_admitted_settles_nothing():
    budget = Budget(5, {"a": 1}, Meter(z=9.0))
    budget.settle("z", finished=True)
    assert budget.spent == 0.0


@given(
    costs=st.lists(st.floats(0.1, 100), min_size=1, max_size=12),
    share=st.floats(0.01, 1.5),
    slots=st.integers(1, 4),
    seed=st.randoms(use_true_random=False),
)
def test_no_order_of_starts_and_ends_exceeds_the_cap(costs, share, slots, seed):
    estimates = {f"r{number}": cost for number, cost in enumerate(costs)}
    cap, meter = share * sum(costs), Meter()
    budget, flying, trained = Budget(cap, estimates, meter), [], []
    waiting = sorted(estimates, key=estimates.get, reverse=True)
    while True:
        for run in list(waiting):
            if len(flying) < slots and budget.admit(run):
                waiting.remove(run)
                flying.append(run)
        if not flying:
            break
        ended = flying.pop(seed.randrange(len(flying)))
        # Never above the estimate, as with FLOPs.
        meter.costs[ended] = estimates[ended] * seed.uniform(0.2, 1)
        budget.settle(ended, finished=True)
        trained.append(ended)
        assert budget.spent <= cap * (1 + 1e-9)
    # What is left out did not fit at the end.
    if waiting:
        assert budget.spent + min(estimates[run] for run in waiting) > cap
    assert set(budget.left_out) == set(waiting)


def test_a_cap_that_is_met_exactly_is_kept():
    meter = Meter()
    budget = Budget(3, {"a": 1, "b": 2}, meter)
    assert [budget.admit("b"), budget.admit("a")] == [True, True]
    # Admitted again, as after a retry: still met exactly.
    assert budget.admit("a")
    meter.costs["a"] = 1.25
    assert not budget.admit("a")


def test_runs_under_way_are_scaled_like_the_finished_ones():
    meter = Meter()
    budget = Budget(13, {"a": 1, "b": 2, "c": 4}, meter)
    assert [budget.admit("a"), budget.admit("b")] == [True, True]
    meter.costs["a"] = 2.0
    budget.settle("a", finished=True)
    # 2 spent, b taken to cost 4 and c to cost 8: not within 13, though 2 + 2 + 8 would be.
    assert not budget.admit("c")
    assert budget.left_out == {"c": 8.0}


def test_runs_below_their_estimate_lower_no_other_estimate():
    meter = Meter()
    budget = Budget(5, {"a": 2, "b": 4}, meter)
    assert budget.admit("a")
    meter.costs["a"] = 0.5
    budget.settle("a", finished=True)
    assert budget.left_out == {"b": 4}


def test_a_run_that_has_ended_is_spent_once_and_no_longer_under_way():
    meter = Meter()
    budget = Budget(10, {"a": 3}, meter)
    assert budget.admit("a")
    meter.costs["a"] = 2.0
    assert budget.spent == 2.0
    for _ in range(2):
        budget.settle("a", finished=True)
        assert budget.spent == 2.0


def test_runs_of_one_price_wait_in_order_of_their_ids():
    budget = Budget(1, {"b": 1, "c": 0.5, "a": 1}, Meter())
    assert list(budget.left_out) == ["c", "a", "b"]
    assert [budget.admit(run) for run in ("b", "a", "c")] == [False, False, True]


def test_a_resumed_run_counts_with_what_it_costs_from_now_on():
    meter = Meter(a=3.0)
    budget = Budget(5, {"a": 1.5}, meter)
    assert budget.admit("a")
    assert (budget.spent, budget.committed) == (3.0, 4.5)
    meter.costs["a"] = 4.9
    assert (budget.spent, budget.committed) == (pytest.approx(4.9), pytest.approx(4.9))
