import json

import pytest

from analysis import published
from analysis.frontier.allocation import FrontierError, NegativeDemand
from analysis.frontier.answer import Demand, advise
from analysis.frontier.decision import AtBudget, AtLoss, Like
from analysis.frontier.document import advice_json

LAW = published.law("besiroglu")


def test_demand_keeps_its_shares_between_its_bounds() -> None:
    demand = Demand(prompt=(1e9, 3e9), generated=(1e9, 5e9))
    assert demand.bounds == (2e9, 8e9)
    assert demand.split(2e9) == (1e9, 1e9)
    assert demand.split(8e9) == (3e9, 5e9)
    assert demand.split(5e9) == pytest.approx((2e9, 3e9))
    assert Demand().split(0.0) == (0.0, 0.0)


def test_demand_that_is_none_is_refused() -> None:
    with pytest.raises(NegativeDemand, match="prompt"):
        Demand(prompt=(-1.0, 1.0))
    with pytest.raises(FrontierError, match="low is above high"):
        Demand(generated=(2.0, 1.0))


@pytest.mark.parametrize("goal", [AtLoss(2.1), AtBudget(1e22), Like(7e9, 1e12)])
@pytest.mark.parametrize("generated", [(0.0, 0.0), (0.0, 1e12), (1e12, 1e12), (1e11, 1e13)])
def test_every_answer_is_plain_json(
    goal: AtLoss | AtBudget | Like, generated: tuple[float, float]
) -> None:
    told = advice_json(advise(LAW, goal, Demand(generated=generated)))
    assert json.loads(json.dumps(told, allow_nan=False))["loss"] == told["loss"]
    assert len(told["regret"]["extra"]) == len(told["regret"]["true"])


def test_the_plan_lies_inside_the_interval_of_demand() -> None:
    told = advice_json(advise(LAW, AtBudget(1e22), Demand(generated=(1e11, 1e13))))
    assert 1e11 < told["demand"]["planned"] < 1e13
    extra = dict(zip(told["regret"]["true"], told["regret"]["extra"], strict=True))
    plan = told["regret"]["planned"].index(told["demand"]["planned"])
    assert extra[1e11][plan] == pytest.approx(extra[1e13][plan], rel=1e-6)


def test_the_same_bill_buys_a_better_model() -> None:
    told = advice_json(advise(LAW, AtBudget(1e22), Demand(generated=(1e12, 1e12))))
    assert told["same_bill"]["loss"] < told["loss"]
    assert told["same_bill"]["total"] == pytest.approx(told["compute_optimal"]["total"], rel=1e-9)


def test_break_even_is_where_both_bills_meet() -> None:
    told = advice_json(advise(LAW, AtBudget(1e22), Demand(generated=(1e12, 1e12))))
    tokens = told["break_even_tokens"]
    best, plain = told["optimum"], told["compute_optimal"]
    assert best["train_flops"] + 2 * best["N"] * tokens == pytest.approx(
        plain["train_flops"] + 2 * plain["N"] * tokens, rel=1e-9
    )
    assert 0 < tokens < 1e12


def test_a_loss_is_compared_with_other_laws_at_its_budget() -> None:
    told = advice_json(advise(LAW, AtLoss(2.1), Demand(generated=(1e12, 1e12))))
    own = told["spread_over_laws"][0]
    assert own["law"] == "besiroglu"
    assert own["N"] == pytest.approx(told["optimum"]["N"], rel=1e-9)
    assert own["loss"] == pytest.approx(2.1, rel=1e-9)
