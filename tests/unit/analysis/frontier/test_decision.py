import time

import numpy as np
import pytest

from analysis import published
from analysis.frontier.allocation import FrontierError, NegativeDemand, UnreachableLoss
from analysis.frontier.decision import (
    AtBudget,
    AtLoss,
    Like,
    extrapolated,
    frontier,
    least_regret_demand,
    quantiles,
    regret,
    spread_over_laws,
)
from analysis.law import LossLaw, Support

# ruff: noqa: SIM300 - N and D are symbols here, not constants


@pytest.fixture
def law() -> LossLaw:
    return published.law("besiroglu")


def toy(**changes: object) -> LossLaw:
    constants: dict[str, object] = {"E": 1.0, "A": 30.0, "B": 80.0, "alpha": 0.33, "beta": 0.34}
    provenance = {
        "name": "toy",
        "form": "chinchilla",
        "n_counts": "n_params",
        "c_counts": "train_flops",
        "loss_unit": "nats_per_token",
        "source": "a test",
    }
    return LossLaw.model_validate(constants | provenance | changes)


def test_every_goal_names_the_same_model_when_it_should(law: LossLaw) -> None:
    budget = frontier(law, AtBudget(1e22), 1e12)
    N, D = float(budget.compute_optimal.N), float(budget.compute_optimal.D)
    for goal in (AtLoss(budget.loss), Like(N, D)):
        assert frontier(law, goal, 1e12).optimum.N[0] == pytest.approx(
            float(budget.optimum.N[0]), rel=1e-9
        )


def test_an_interval_holds_the_point_and_widens_with_its_level(law: LossLaw) -> None:
    answer = frontier(law, AtBudget(1e22), [1e11, 1e12])
    narrow, wide = answer.interval("N", 0.5), answer.interval("N", 0.9)
    assert narrow is not None
    assert wide is not None
    assert (wide[0] < narrow[0]).all()
    assert (narrow[1] < wide[1]).all()
    assert ((wide[0] < answer.optimum.N) & (answer.optimum.N < wide[1])).all()


def test_a_law_without_draws_has_no_interval() -> None:
    answer = frontier(toy(), AtBudget(1e13), 1e9)
    assert answer.interval("N") is None
    assert answer.saving_interval() is None


def test_draws_that_cannot_reach_a_loss_are_counted_not_hidden() -> None:
    law = toy(draws={"E": (0.9, 1.0, 1.3, 1.4)})
    answer = frontier(law, AtLoss(1.2), 1e9)
    assert answer.unreachable == 0.5
    assert answer.drawn is not None
    assert answer.drawn.N.shape == (2, 1)


def test_a_loss_no_draw_reaches_is_refused() -> None:
    with pytest.raises(UnreachableLoss, match=r"Ask for a loss above 1\.3"):
        frontier(toy(draws={"E": (1.25, 1.3)}), AtLoss(1.2), 1e9)


def test_extrapolation_is_told_by_the_support_box() -> None:
    law = toy(support=Support(flops=(1e11, 1e13), tokens_per_param=(5, 100)))
    inside = frontier(law, AtBudget(1e12), 1e6)
    outside = frontier(law, AtBudget(1e12), 1e10)
    assert inside.extrapolated is not None
    assert not inside.extrapolated[0]
    assert outside.extrapolated is not None
    assert outside.extrapolated[0]
    assert extrapolated(toy(), 1e6, 1e8) is None


def test_the_spread_refuses_a_loss_that_laws_do_not_share() -> None:
    with pytest.raises(FrontierError, match="do not share a loss"):
        spread_over_laws(published.six_laws(), AtLoss(2.0), 1e12)


def test_the_spread_has_a_row_for_each_law() -> None:
    rows = spread_over_laws(published.six_laws(), AtBudget(1e22), 1e12)
    assert rows["law"].to_list() == list(published.SIX_LAWS)
    assert (rows["N"] < rows["compute_optimal_N"]).all()


# Computed for the quality of LLaMA-7B under Besiroglu, rounded to the digits shown.
@pytest.mark.parametrize(
    ("true", "planned", "extra"),
    [
        (1e11, 3e11, 0.011),
        (1e11, 1e12, 0.095),
        (1e11, 3e12, 0.32),
        (1e11, 1e13, 0.88),
        (1e12, 0.0, 0.178),
        (1e12, 1e11, 0.11),
        (1e12, 3e12, 0.065),
        (1e12, 1e13, 0.36),
        (1e13, 0.0, 1.08),
        (1e13, 1e12, 0.30),
        (1e13, 3e12, 0.088),
        (1e13, 1e13, 0.0),
    ],
)
def test_the_price_of_a_wrong_guess(
    law: LossLaw, true: float, planned: float, extra: float
) -> None:
    loss = float(law.loss(6738415616, 1e12))
    found = regret(law, loss, planned=planned, true=true)[0, 0]
    assert found == pytest.approx(extra, rel=0.05, abs=1e-9)


def test_planning_between_two_demands_makes_the_worst_case_least(law: LossLaw) -> None:
    plan = least_regret_demand(law, 2.1, 1e11, 1e13)
    low, high = regret(law, 2.1, planned=plan, true=[1e11, 1e13])[:, 0]
    assert low == pytest.approx(high, rel=1e-6)
    for other in (0.8 * plan, 1.25 * plan):
        assert regret(law, 2.1, planned=other, true=[1e11, 1e13]).max() > low


def test_quantiles_survive_infinite_draws() -> None:
    low, high = quantiles(np.array([[1.0], [2.0], [3.0], [np.inf]]), 0.8)
    assert low[0] == 1.0
    assert high[0] == np.inf


def test_a_negative_demand_is_refused(law: LossLaw) -> None:
    with pytest.raises(NegativeDemand, match="-1 tokens"):
        frontier(law, AtBudget(1e22), -1.0)


def test_a_model_of_no_parameters_is_refused() -> None:
    with pytest.raises(FrontierError, match="0 parameters"):
        Like(0, 1e9)


def test_a_thousand_demands_with_two_thousand_draws_take_under_two_seconds(law: LossLaw) -> None:
    started = time.process_time()
    answer = frontier(law, AtBudget(1e22), np.geomspace(1e10, 1e15, 1000))
    interval = answer.interval("N")
    spent = time.process_time() - started
    assert answer.drawn is not None
    assert answer.drawn.N.shape == (2000, 1000)
    assert interval is not None
    # Processor time, so that other work on the machine does not count; it takes about 0.4 s.
    assert spent < 2
