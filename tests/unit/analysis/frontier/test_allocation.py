import numpy as np
import pytest

from analysis import published
from analysis.frontier.allocation import (
    Allocation,
    FrontierError,
    NegativeDemand,
    TooSmall,
    UnreachableLoss,
    best_loss_for_bill,
    compute_optimal,
    compute_optimal_counted,
    inference_optimal,
    inference_optimal_with_bill,
)
from analysis.frontier.contour import Contour
from analysis.frontier.overtraining import (
    break_even_tokens,
    implied_spend_ratio,
    same_loss_optimum,
    tokens_multiple,
)
from analysis.law import Constants, LossLaw

# ruff: noqa: SIM300 - N and D are symbols here, not constants


@pytest.fixture
def law() -> LossLaw:
    return published.law("besiroglu")


@pytest.mark.parametrize("loss", [1.0, 1.8168640400416654])
def test_a_loss_at_or_under_E_is_refused_with_what_would_work(law: LossLaw, loss: float) -> None:
    for ask in (
        lambda: inference_optimal(law, loss=loss, inference_tokens=1e12),
        lambda: inference_optimal_with_bill(law, loss=loss, bill=lambda N: N),
    ):
        with pytest.raises(UnreachableLoss, match=r"above 1\.81686"):
            ask()


def test_one_unreachable_loss_among_many_is_refused(law: LossLaw) -> None:
    with pytest.raises(UnreachableLoss, match=r"loss 1\.5"):
        inference_optimal(law, loss=[2.1, 1.5], inference_tokens=1e12)


def test_a_loss_that_is_no_number_is_refused(law: LossLaw) -> None:
    with pytest.raises(UnreachableLoss):
        inference_optimal(law, loss=float("nan"), inference_tokens=1e12)


def test_a_negative_demand_is_refused(law: LossLaw) -> None:
    with pytest.raises(NegativeDemand, match="below zero"):
        inference_optimal(law, loss=2.1, inference_tokens=-1e9)
    with pytest.raises(NegativeDemand):
        best_loss_for_bill(law, total_flops=1e22, inference_tokens=-1.0)


@pytest.mark.parametrize("budget", [0.0, -1e20])
def test_a_budget_of_nothing_is_refused(law: LossLaw, budget: float) -> None:
    with pytest.raises(FrontierError, match="not above zero"):
        compute_optimal(law, budget)


def test_a_size_at_or_under_the_least_is_refused_with_the_least(law: LossLaw) -> None:
    for ratio in (0.1, 0.1464):
        with pytest.raises(TooSmall, match=r"above 0\.1464 times"):
            tokens_multiple(law, ratio)
    assert np.isinf(Contour.of(law, 2.1).tokens(1e9))


# de Vries 2023 for his constants; the rest computed the same way from each law's.
@pytest.mark.parametrize(
    ("name", "ratio", "overhead", "break_even"),
    [
        ("devries", 0.75, 0.0285, 0.34),
        ("devries", 0.50, 0.208, 1.25),
        ("devries", 0.30, 1.06, 4.5),
        ("devries", 0.25, 1.89, 7.6),
        ("devries", 0.20, 4.29, 16),
        ("besiroglu", 0.75, 0.0335, 0.40),
        ("besiroglu", 0.50, 0.259, 1.56),
        ("besiroglu", 0.30, 1.61, 6.9),
        ("besiroglu", 0.25, 3.47, 13.9),
        ("besiroglu", 0.20, 13.10, 49),
    ],
)
def test_size_against_overhead(name: str, ratio: float, overhead: float, break_even: float) -> None:
    law = published.law(name)
    assert ratio * tokens_multiple(law, ratio) - 1 == pytest.approx(overhead, rel=0.01)
    N0, D0 = (float(value) for value in compute_optimal(law, 1e22))
    D = D0 * float(tokens_multiple(law, ratio))
    assert break_even_tokens(law, ratio * N0, D) / D0 == pytest.approx(break_even, rel=0.015)


# Along the contour: tokens-per-parameter multiple, N/N0, extra training, lifetime saving.
@pytest.mark.parametrize(
    ("rho", "multiple", "size", "training", "saving"),
    [
        (1 / 3, 2.26, 0.685, 0.06, 0.068),
        (1.0, 7.14, 0.442, 0.40, 0.33),
        (10 / 3, 64, 0.252, 3.07, 0.68),
    ],
)
def test_the_rule_of_thumb_for_equal_exponents(
    rho: float, multiple: float, size: float, training: float, saving: float
) -> None:
    contour = Contour.of(published.law("muennighoff_c4"), 2.2)
    N, D, N0, D0 = contour.N(rho), contour.D(rho), contour.N(0.0), contour.D(0.0)
    assert D / N / (D0 / N0) == pytest.approx(multiple, rel=0.01)
    assert multiple == pytest.approx((1 + rho) ** (1 / 0.3526596), rel=0.01)
    assert N / N0 == pytest.approx(size, rel=0.01)
    assert N * D / (N0 * D0) - 1 == pytest.approx(training, abs=0.006)
    # D_inf = 3·rho·D, and an inference token costs a third of a training token.
    assert 1 - (1 + rho) * N * D / (N0 * (D0 + rho * D)) == pytest.approx(saving, abs=0.006)


def test_counted_flops_move_the_choice_and_stay_optimal(law: LossLaw) -> None:
    def per_token(N: np.ndarray) -> np.ndarray:
        """6·N and an attention term that weighs on small models."""
        return 6 * N + 6e4 * N**0.5

    C = np.array([1e18, 1e20])
    N, D = compute_optimal_counted(law, C, per_token)
    assert per_token(N) * D == pytest.approx(C, rel=1e-9)
    for step in (0.95, 1.05):
        assert (law.loss(N, D) <= law.loss(N * step, C / per_token(N * step))).all()
    assert (np.abs(N / compute_optimal(law, C)[0] - 1) > 0.01).all()


def test_a_best_size_outside_the_search_is_refused(law: LossLaw) -> None:
    with pytest.raises(FrontierError, match="Widen"):
        compute_optimal_counted(law, 1e22, lambda N: 6 * N, sizes=(1e3, 1e8))


def test_an_array_of_demands_equals_one_at_a_time(law: LossLaw) -> None:
    demands = np.array([0.0, 1e9, 1e12, 1e15])
    together = inference_optimal(law, loss=2.1, inference_tokens=demands)
    alone = [inference_optimal(law, loss=2.1, inference_tokens=one) for one in demands]
    assert together.N.tolist() == [float(one.N) for one in alone]


def test_draws_are_solved_as_so_many_laws(law: LossLaw) -> None:
    draws = Constants.of_draws(law).rows(np.arange(2000) < 3)
    together = inference_optimal(draws, loss=2.2, inference_tokens=[1e11, 1e12])
    for row in range(3):
        constants = {name: law.draws[name][row] for name in law.draws}
        single = law.model_copy(update=constants)
        alone = inference_optimal(single, loss=2.2, inference_tokens=[1e11, 1e12])
        assert together.N[row] == pytest.approx(alone.N, rel=1e-12)


def test_a_law_without_draws_says_so() -> None:
    with pytest.raises(ValueError, match="sardana carries no bootstrap draws"):
        Constants.of_draws(published.law("sardana"))


def test_bills_add_up() -> None:
    choice = Allocation(
        N=np.array(1e9), D=np.array(2e10), inference_tokens=np.array(6e10), loss=np.array(2.5)
    )
    assert choice.train_flops == 6 * 1e9 * 2e10
    assert choice.inference_flops == pytest.approx(2 * 1e9 * 6e10)
    assert choice.total == pytest.approx(1.2e20 + 1.2e20)
    assert choice.tokens_per_param == 20
    assert choice.spend_ratio == pytest.approx(1.0)


def test_the_best_loss_for_an_optimums_bill_is_its_loss(law: LossLaw) -> None:
    best = inference_optimal(law, loss=2.1, inference_tokens=1e12)
    dual = best_loss_for_bill(law, total_flops=best.total, inference_tokens=1e12)
    assert dual.total == pytest.approx(float(best.total), rel=1e-9)
    assert dual.loss == pytest.approx(2.1, rel=1e-9)


def test_a_bill_in_dollars_weighs_against_training_in_dollars(law: LossLaw) -> None:
    # The same question in FLOPs and at three dollars a FLOP.
    flops = inference_optimal_with_bill(law, loss=2.1, bill=lambda N: 2e12 * N)
    money = inference_optimal_with_bill(law, loss=2.1, bill=lambda N: 3 * 2e12 * N, train_price=3.0)
    best = inference_optimal(law, loss=2.1, inference_tokens=1e12)
    # A search on totals that are flat to rounding finds N to about 1e-8.
    assert flops[0] == pytest.approx(float(best.N), rel=1e-6)
    assert money[0] == pytest.approx(float(best.N), rel=1e-6)


def test_one_bad_number_among_many_is_refused(law: LossLaw) -> None:
    with pytest.raises(NegativeDemand, match="-1 tokens"):
        inference_optimal(law, loss=2.1, inference_tokens=[1e12, -1.0])
    with pytest.raises(FrontierError, match="budget of 0 FLOPs"):
        compute_optimal(law, [1e20, 0.0])
    with pytest.raises(TooSmall):
        tokens_multiple(law, [0.5, 0.1])
    with pytest.raises(FrontierError, match="not above zero"):
        tokens_multiple(law, [0.5, 0.0])


def test_a_best_size_below_the_search_is_refused(law: LossLaw) -> None:
    with pytest.raises(FrontierError, match="Widen"):
        compute_optimal_counted(law, 1e18, lambda N: 6 * N, sizes=(1e10, 1e14))


def test_a_model_that_exists_is_the_best_for_the_demand_it_implies(law: LossLaw) -> None:
    N, D = 7e9, 1e12
    N0, D0 = same_loss_optimum(law, N, D)
    even = float(break_even_tokens(law, N, D))
    assert N * (D + even / 3) == pytest.approx(float(N0 * (D0 + even / 3)), rel=1e-9)
    implied = float(implied_spend_ratio(law, N, D)) * D * 3
    best = inference_optimal(law, loss=law.loss(N, D), inference_tokens=implied)
    assert best.N == pytest.approx(N, rel=1e-9)


def test_a_model_as_large_as_the_optimum_never_pays_and_explains_no_demand(law: LossLaw) -> None:
    N0, D0 = compute_optimal(law, 1e22)
    assert np.isinf(break_even_tokens(law, 2 * N0, D0))
    assert implied_spend_ratio(law, 2 * N0, D0) < 0
    # A model a hundredth smaller explains a demand, though a small one.
    assert 0 < 3 * implied_spend_ratio(law, 0.99 * N0, D0) < 0.1


def test_kaplans_law_has_a_frontier_too() -> None:
    law = published.law("kaplan")
    N, D = compute_optimal(law, 1e21)
    # Kaplan et al. 2020: beta = 1 and alpha = 0.076/0.103 give N ~ C^0.575 for this form.
    assert law.exponent_N == pytest.approx(1 / (1 + 0.076 / 0.103))
    best = inference_optimal(law, loss=float(law.loss(N, D)), inference_tokens=float(D))
    assert best.N < N
    assert law.loss(best.N, best.D) == pytest.approx(float(law.loss(N, D)), rel=1e-10)
