import re

import numpy as np
import pytest

from analysis import published
from analysis.frontier.allocation import (
    FrontierError,
    NegativeDemand,
    UnreachableLoss,
    compute_optimal,
)
from analysis.frontier.answer import Demand, advise
from analysis.frontier.data_stock import DataRunsOut, Stock, inference_optimal_with_stock
from analysis.frontier.decision import AtBudget, AtLoss
from analysis.frontier.document import advice_json
from analysis.frontier.text import warnings
from analysis.law import REPEATED_CONSTANTS, LossLaw, RepeatedForm
from analysis.repeated_data import effective, optimal_size_for_tokens, predict
from tests.simulated import CHINCHILLA, repeated_law

# ruff: noqa: SIM300 - N and D are symbols here, not constants

C4 = published.law("muennighoff_c4")
assert C4.repetition is not None
R_D = np.asarray(C4.repetition.R_D)
# Of the compute-optimal 13B.
LOSS = C4.E + C4.A * 13e9**-C4.alpha * (1 + C4.alpha / C4.beta)


@pytest.mark.parametrize(("epochs", "worth"), [(1, 1.0), (4, 0.931), (16, 0.661), (40, 0.379)])
def test_repeated_tokens_lose_worth(epochs: int, worth: float) -> None:
    # Muennighoff et al. 2023, figure 5 and section 6: four epochs are almost as good as fresh.
    tokens = effective(np.asarray(epochs * 1e9), np.asarray(1e9), R_D)
    assert tokens / (epochs * 1e9) == pytest.approx(worth, abs=5e-4)


def test_repetition_has_a_ceiling() -> None:
    tokens = effective(np.asarray(1e15), np.asarray(1e9), R_D)
    assert tokens == pytest.approx(16.388e9, rel=1e-4)


def test_a_stock_larger_than_the_data_seen_changes_nothing() -> None:
    # Including above the stock's own fresh regime: U is capped at D.
    for U in (1e12, 1e13):
        assert Stock(C4, U).repeating.loss(6e9, 1e11) == pytest.approx(
            float(Stock(C4, 1e11).repeating.loss(6e9, 1e11))
        )
    assert Stock(C4, 1e12).repeating.loss(1e9, 5e11) == pytest.approx(float(C4.loss(1e9, 5e11)))


# Computed for 2e12 served tokens: stock, N, epochs, lifetime FLOPs.
@pytest.mark.parametrize(
    ("U", "N", "epochs", "total"),
    [
        (1e13, 6.02e9, None, 5.07e22),
        (3e11, 6.26e9, 2.3, 5.14e22),
        (1e11, 6.92e9, 6.8, 5.59e22),
        (5e10, 8.71e9, 14.8, 7.34e22),
    ],
)
def test_a_small_stock_makes_the_model_larger(
    U: float, N: float, epochs: float | None, total: float
) -> None:
    best = inference_optimal_with_stock(Stock(C4, U), loss=LOSS, inference_tokens=2e12)
    assert best.N == pytest.approx(N, rel=2e-3)
    assert best.total == pytest.approx(total, rel=2e-3)
    if epochs is not None:
        assert best.D / U == pytest.approx(epochs, rel=0.02)


def test_tokens_bring_back_the_loss() -> None:
    stock = Stock(C4, 1e11)
    D = stock.repeating.tokens([5e9, 9e9], 2.2)
    assert stock.repeating.loss([5e9, 9e9], D) == pytest.approx([2.2, 2.2], rel=1e-12)
    assert stock.repeating.tokens(1e8, 2.2) == float("inf")


def test_data_that_run_out_are_refused_with_what_would_do() -> None:
    with pytest.raises(DataRunsOut, match=r"fresh data would take .* Add data"):
        inference_optimal_with_stock(Stock(C4, 1e9), loss=LOSS, inference_tokens=2e12)


def test_questions_without_an_answer_are_refused() -> None:
    with pytest.raises(FrontierError, match="stock of 0"):
        Stock(C4, 0.0)
    with pytest.raises(UnreachableLoss):
        inference_optimal_with_stock(Stock(C4, 1e11), loss=1.0, inference_tokens=1e12)
    with pytest.raises(NegativeDemand):
        inference_optimal_with_stock(Stock(C4, 1e11), loss=LOSS, inference_tokens=-1.0)


def test_half_lives_are_borrowed_in_the_open() -> None:
    assert Stock(published.law("besiroglu"), 1e11).borrowed
    assert not Stock(C4, 1e11).borrowed


def test_a_size_grown_for_scarce_data_is_the_cheapest() -> None:
    stock = Stock(C4, 1e11)
    best = inference_optimal_with_stock(stock, loss=LOSS, inference_tokens=3e12)
    assert best.total == pytest.approx(6 * best.N * (best.D + 1e12), rel=1e-12)
    sizes = float(best.N) * np.array([0.97, 0.99, 1.01, 1.03])
    cost = 6 * sizes * (stock.repeating.tokens(sizes, LOSS) + 1e12)
    assert (cost > best.total).all()


def test_ten_half_lives_of_repetition_can_be_what_a_loss_takes() -> None:
    stock = Stock(C4, 1e11)
    D = 1e11 * (1 + 10 * stock.half_lives.R_D)
    # The last half-lives lower the loss by little, so D comes back to fewer digits.
    assert stock.repeating.tokens(9e9, stock.repeating.loss(9e9, D)) == pytest.approx(D, rel=1e-6)


def test_a_stock_that_just_suffices_is_fresh_data() -> None:
    fresh = inference_optimal_with_stock(Stock(C4, 1e13), loss=LOSS, inference_tokens=2e12)
    U = float(fresh.D) / 1.5
    scarce = inference_optimal_with_stock(Stock(C4, U), loss=LOSS, inference_tokens=2e12)
    assert scarce.total > fresh.total
    assert Stock(C4, U).repeating.loss(scarce.N, scarce.D) == pytest.approx(LOSS, rel=1e-9)


def test_the_size_that_data_feed_is_the_compute_optimal_one() -> None:
    # C4's exponents are alike, Chinchilla's are not.
    for law in (C4, published.law("besiroglu")):
        N, D = compute_optimal(law, np.array([1e20, 1e23]))
        assert optimal_size_for_tokens(law, D) == pytest.approx(N, rel=1e-9)


def test_a_law_with_repetition_predicts_what_its_stock_does() -> None:
    assert C4.repetition is not None
    R_N = C4.repetition.R_N
    for N, D, U in ((1e9, 1e11, 1e10), (5e10, 1e11, 1e10), (1e9, 1e10, 1e11)):
        unique = min(U, D)
        fed = float(optimal_size_for_tokens(C4, np.asarray(unique)))
        N_worth = min(N, fed) + fed * R_N * (1 - np.exp(-max(N / fed - 1, 0) / R_N))
        D_worth = unique + unique * R_D * (1 - np.exp(-max(D / unique - 1, 0) / R_D))
        expected = C4.E + C4.A / N_worth**C4.alpha + C4.B / D_worth**C4.beta
        found = predict(C4, np.asarray(N), np.asarray(D), np.asarray(U))
        assert found == pytest.approx(expected, rel=1e-12)
        assert Stock(C4, U).repeating.loss(N, D) == pytest.approx(expected, rel=1e-12)


def test_without_demand_scarce_data_ask_for_more_than_the_fresh_optimums_size() -> None:
    stock = Stock(C4, 3e10)
    best = inference_optimal_with_stock(stock, loss=LOSS, inference_tokens=0.0)
    # LOSS is that of the compute-optimal 13B on fresh data.
    assert best.N > 1.4 * 13e9
    sizes = float(best.N) * np.array([0.97, 1.03])
    assert (6 * sizes * stock.repeating.tokens(sizes, LOSS) > best.total).all()


@pytest.mark.parametrize("form", REPEATED_CONSTANTS)
def test_what_the_laws_own_runs_chose_goes_before_the_half_lives_of_c4(form: RepeatedForm) -> None:
    law = CHINCHILLA.model_copy(update={"repeated": repeated_law(form)})
    own, borrowed = Stock(law, 1e11), Stock(CHINCHILLA, 1e11)
    assert own.form == form
    assert (own.borrowed, borrowed.borrowed, borrowed.form) == (False, True, "half_lives")
    # The law of fresh tokens has already what parameters beyond those that the data feed cost.
    assert own.repeating.loss(5e11, 9e10) == pytest.approx(float(CHINCHILLA.loss(5e11, 9e10)))
    # In the first epoch nothing is repeated; each further one costs.
    assert own.repeating.loss(5e9, 9e10) == pytest.approx(float(borrowed.repeating.loss(5e9, 9e10)))
    costs = own.repeating.loss(5e9, np.array([2e11, 8e11])) - CHINCHILLA.loss(
        5e9, np.array([2e11, 8e11])
    )
    assert 0 < costs[0] < costs[1]
    loss = float(own.repeating.loss(5e9, 2e11))
    assert own.repeating.tokens(5e9, loss) == pytest.approx(2e11, rel=1e-6)
    assert np.isinf(own.repeating.tokens(5e9, CHINCHILLA.E))
    best = inference_optimal_with_stock(own, loss=loss, inference_tokens=1e12)
    assert own.repeating.loss(best.N, best.D) == pytest.approx(loss, rel=1e-9)
    # No other size that the stock can train to this loss is cheaper.
    for step in (0.9, 1.1):
        N = float(best.N) * step
        assert N * (own.repeating.tokens(N, loss) + 1e12 / 3) > float(best.total) / 6


def test_doubts_about_a_law_of_repeats_and_epochs_beyond_its_runs_come_first() -> None:
    changes = {"doubts": ("POOR",), "most_epochs": 2.0}
    repeated = repeated_law("half_lives").model_copy(update=changes)
    law = CHINCHILLA.model_copy(update={"repeated": repeated})
    demand = Demand(generated=(1e12, 1e12))
    few = warnings(advise(law, AtBudget(1e22), demand, unique_tokens=3e10))
    assert "POOR" in few
    assert any("reads it" in line and "2 times at most" in line for line in few)
    many = warnings(advise(law, AtBudget(1e22), demand, unique_tokens=1e12))
    assert not any("reads it" in line for line in many)
    assert "POOR" not in warnings(advise(law, AtBudget(1e22), demand))


def test_a_law_fitted_with_half_lives_keeps_its_own() -> None:
    law = C4.model_copy(update={"repeated": repeated_law("penalty")})
    assert Stock(law, 1e10).form == "half_lives"
    assert not Stock(law, 1e10).borrowed
    assert float(Stock(law, 1e10).repeating.loss(1e9, 5e10)) == float(
        Stock(C4, 1e10).repeating.loss(1e9, 5e10)
    )


def _drawn(law: LossLaw, spread: float) -> LossLaw:
    """The law with 40 draws of its constants and of what its repeats cost, `spread` apart."""
    apart = np.exp(spread * np.random.default_rng(0).standard_normal((40, 12)))

    def draws(constants: dict[str, float]) -> dict[str, tuple[float, ...]]:
        columns = zip(constants.items(), apart.T, strict=False)
        return {name: tuple((value * column).tolist()) for (name, value), column in columns}

    own = law.repeated
    if own is not None:
        own = own.model_copy(update={"draws": draws(own.constants)})
    named = {name: getattr(law, name) for name in ("A", "B", "alpha", "beta")}
    if law.repetition is not None:
        named |= law.repetition.model_dump()
    return law.model_copy(update={"draws": draws(named), "repeated": own})


@pytest.mark.parametrize("form", [*REPEATED_CONSTANTS, "data_constrained"])
def test_a_stocks_intervals_are_of_the_choice_itself_and_as_wide_as_the_draws(form: str) -> None:
    law = C4 if form == "data_constrained" else CHINCHILLA
    if form in REPEATED_CONSTANTS:
        law = law.model_copy(update={"repeated": repeated_law(form)})
    goal = AtLoss(float(Stock(law, 1e11).repeating.loss(5e9, 2e11)))
    demand = Demand(generated=(1e12, 1e12))
    alike, apart = (
        advice_json(advise(_drawn(law, spread), goal, demand, unique_tokens=1e11))["stock"]
        for spread in (0.0, 0.002)
    )
    for name in ("N", "D", "total", "epochs", "over_fresh"):
        low, high = alike["intervals"][name]
        # Draws that are all the law itself; the zoom under draws is to a part of a million in N.
        assert [low, high] == pytest.approx([alike[name]] * 2, rel=1e-4, abs=1e-6)
        low, high = apart["intervals"][name]
        assert low < apart[name] < high
    assert apart["intervals"]["repetition_drawn"]
    assert apart["intervals"]["draws"] == 40


def test_a_stock_without_a_whole_interval_says_so_first() -> None:
    goal, demand = AtBudget(1e22), Demand(generated=(1e12, 1e12))
    repeated = repeated_law("penalty")

    def first(law: LossLaw, stock: float) -> str:
        return "\n".join(warnings(advise(law, goal, demand, unique_tokens=stock)))

    assert "NO INTERVAL (stock) under the law" in first(CHINCHILLA, 6e10)
    fixed = _drawn(CHINCHILLA, 0.002)
    assert "TOO NARROW (stock): what repetition costs has no draws (half-lives borrowed" in first(
        fixed, 6e10
    )
    own = fixed.model_copy(update={"repeated": repeated})
    assert "TOO NARROW (stock)" in first(own, 6e10)
    whole = _drawn(CHINCHILLA.model_copy(update={"repeated": repeated}), 0.002)
    for law, stock in ((whole, 6e10), (CHINCHILLA, 1e14), (fixed, 1e14)):
        assert "(stock)" not in first(law, stock)
    # As little as just reaches the loss does not under a part of the draws.
    scarce = first(_drawn(C4, 0.01), 2.6e10)
    assert re.search(r"DATA MAY RUN OUT: under \d+\.\d% of the draws 26B unique tokens", scarce)
