import json

import numpy as np
import pytest

from analysis import published
from analysis.frontier.allocation import (
    FrontierError,
    NegativeDemand,
    inference_optimal,
    inference_optimal_with_bill,
)
from analysis.frontier.answer import Demand, advise
from analysis.frontier.data_stock import Stock, inference_optimal_with_stock
from analysis.frontier.decision import AtBudget, AtLoss, Like, frontier, regret
from analysis.frontier.document import advice_json
from analysis.frontier.serving import Device, Serving
from analysis.frontier.serving_choice import Workload, smooth_bill
from analysis.frontier.text import warnings
from analysis.law import Constants, Support

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


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_intervals_are_the_frontiers_at_the_level_asked(level: float) -> None:
    goal = AtBudget(1e22)
    told = advice_json(advise(LAW, goal, Demand(generated=(1e12, 1e12)), level=level))
    answer = frontier(LAW, goal, 1e12)
    for name in ("N", "D", "total", "tokens_per_param"):
        ends = answer.interval(name, level)
        assert ends is not None
        assert told["intervals"][name] == [end.item() for end in ends]
    ends = answer.saving_interval(level)
    assert ends is not None
    assert told["intervals"]["saving"] == [end.item() for end in ends]
    assert told["intervals"]["level"] == level


def test_regret_is_told_for_both_bounds_the_plan_none_and_beyond() -> None:
    told = advice_json(advise(LAW, AtBudget(1e22), Demand(generated=(3e11, 1e13))))
    demands = told["regret"]["true"]
    planned = told["demand"]["planned"]
    assert demands == pytest.approx((0.0, 1e11, 3e11, planned, 1e13, 3e13))
    loss = told["loss"]
    expected = regret(LAW, loss, planned=demands, true=demands)
    assert told["regret"]["extra"] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    one = advice_json(advise(LAW, AtBudget(1e22), Demand(generated=(1e12, 1e12))))
    assert one["regret"]["true"] == pytest.approx((0.0, 1e11, 3e11, 1e12, 3e12, 1e13))


def test_a_stock_costs_what_it_adds_to_fresh_datas_bill() -> None:
    goal, demand = AtBudget(1e23), Demand(generated=(1e12, 1e12))
    told = advice_json(advise(LAW, goal, demand, unique_tokens=2e11))
    stock = Stock(LAW, 2e11)
    best = inference_optimal_with_stock(stock, loss=told["loss"], inference_tokens=1e12)
    fresh = inference_optimal(LAW, loss=told["loss"], inference_tokens=1e12)
    assert best.D > 2 * 2e11
    assert told["stock"]["epochs"] == pytest.approx(float(best.D) / 2e11, rel=1e-9)
    assert told["stock"]["over_fresh"] == pytest.approx(float(best.total / fresh.total) - 1)
    assert told["stock"]["half_lives_borrowed"]
    plenty = advice_json(advise(LAW, goal, demand, unique_tokens=1e15))
    assert plenty["stock"]["epochs"] == 1.0
    assert plenty["stock"]["over_fresh"] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("budget", "inside"), [(0.99e22, True), (1.01e22, False)])
def test_the_box_is_asked_about_training_and_not_about_serving(budget: float, inside: bool) -> None:
    law = LAW.model_copy(update={"support": Support(flops=(1e18, 1e22), tokens_per_param=(1, 1e3))})
    # Serving costs as much again, and the optimum trains longer on a smaller model.
    told = advice_json(advise(law, AtBudget(budget), Demand(generated=(1e12, 1e12))))["support"]
    assert told["compute_optimal_inside"] is inside
    assert told["extrapolation"]
    less = advice_json(advise(law, AtBudget(1e21), Demand(generated=(1e9, 1e9))))["support"]
    assert less["compute_optimal_inside"]
    assert not less["extrapolation"]


def test_a_bill_in_dollars_has_the_draws_intervals_at_the_level_asked() -> None:
    serving = Serving(Device.named("a100"))
    goal, demand = AtBudget(1e22), Demand(prompt=(1e11, 1e11), generated=(3e11, 3e11))
    told = advice_json(advise(LAW, goal, demand, serving=serving, level=0.6))
    workload = Workload(1e11, 3e11, serving.device)
    draws = Constants.of_draws(LAW)
    flop = workload.usd_per_train_flop
    N, D = inference_optimal_with_bill(
        draws,
        loss=goal.loss_under(draws),
        bill=lambda size: smooth_bill(size, serving, workload),
        train_price=flop,
    )
    total = 6 * N * D * flop + smooth_bill(N, serving, workload)
    for name, drawn in (("N", N), ("D", D), ("total_usd", total)):
        ends = np.quantile(drawn, [0.2, 0.8])
        # 2000 draws: their quantiles by two definitions differ by one draw at most.
        assert told["serving"]["intervals"][name] == pytest.approx(ends, rel=2e-3), name


def test_draws_that_do_not_reach_the_loss_are_a_share_of_all() -> None:
    told = advice_json(advise(LAW, AtLoss(1.85), Demand(generated=(1e12, 1e12))))
    E = np.array(LAW.draws["E"])
    share = float((E >= 1.85).mean())
    assert 0 < share < 0.5
    assert told["intervals"]["unreachable"] == pytest.approx(share)
    assert told["intervals"]["draws"] == (E < 1.85).sum()


def test_a_rent_for_days_prices_the_menu() -> None:
    device = Device.named("a100")
    demand = Demand(generated=(1e9, 1e9))
    told = advice_json(advise(LAW, AtBudget(1e22), demand, serving=Serving(device), days=30))
    fits = [row for row in told["serving"]["menu"] if row["reason"] is None]
    assert fits
    for row in fits:
        # So little is served that one replica idles.
        assert row["inference_usd"] == pytest.approx(row["gpus"] * 30 * 24 * device.usd_per_hour)


def test_a_choice_in_dollars_outside_the_laws_data_is_an_extrapolation() -> None:
    goal, demand = AtBudget(1e22), Demand(generated=(1e13, 1e13))
    best = frontier(LAW, goal, 1e13).optimum
    box = Support(flops=(1e20, 1e24), tokens_per_param=(1.0, 1.5 * (best.D / best.N).item()))
    law = LAW.model_copy(update={"support": box})
    serving = Serving(Device.named("H100-80GB"), batch=1)
    assert advise(law, goal, demand).extrapolated is False
    priced = advise(law, goal, demand, serving=serving)
    assert priced.extrapolated is True
    assert warnings(priced)[0].startswith("EXTRAPOLATION")
    assert advice_json(priced)["support"]["extrapolation"] is True
