"""What the theory says of every valid law, checked on random ones."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analysis.frontier.allocation import (
    FLOPS_RATIO,
    best_loss_for_bill,
    compute_optimal,
    compute_optimal_counted,
    inference_optimal,
    inference_optimal_with_bill,
)
from analysis.frontier.contour import Contour
from analysis.frontier.data_stock import DataRunsOut, Stock, inference_optimal_with_stock
from analysis.frontier.decision import regret
from analysis.frontier.overtraining import (
    break_even_tokens,
    elasticity_ratio,
    implied_spend_ratio,
    tokens_multiple,
    training_overhead,
)
from analysis.law import LossLaw

# ruff: noqa: SIM300 - N and D are symbols here, not constants


@st.composite
def laws(draw: st.DrawFn) -> LossLaw:
    """Valid laws around the published ones, gamma included."""
    gamma = draw(st.sampled_from([1.0, 0.3, 1.4]))
    return LossLaw(
        name="random",
        form="chinchilla" if gamma == 1 else "gamma",
        E=draw(st.floats(0, 3)),
        A=10 ** draw(st.floats(0, 4)),
        B=10 ** draw(st.floats(0, 5)),
        alpha=draw(st.floats(0.05, 1.2)),
        beta=draw(st.floats(0.05, 1.2)),
        gamma=gamma,
        n_counts="unknown",
        c_counts="flops_6nd",
        loss_unit="unknown",
        source="random",
    )


budgets = st.floats(12, 25).map(lambda log10: 10**log10)
# Served tokens over the compute-optimal training tokens.
demands = st.floats(-3, 3).map(lambda log10: 10**log10)


def best_loss(law: LossLaw, C: float) -> tuple[float, float, float]:
    """The loss a budget buys, and the model that reaches it.

    A loss within a ten-thousandth of E has lost four digits of what N and D do; no sweep
    reaches that, and the tolerances below leave room for those four digits.
    """
    N0, D0 = (float(value) for value in compute_optimal(law, C))
    loss = float(law.loss(N0, D0))
    assume(loss - law.E > 1e-4 * loss)
    return loss, N0, D0


@given(law=laws(), C=budgets, step=st.floats(0.5, 2))
def test_no_neighbour_on_the_isoflop_beats_the_compute_optimal_point(
    law: LossLaw, C: float, step: float
) -> None:
    N, D = compute_optimal(law, C)
    assert law.loss(N, D) <= law.loss(N * step, D / step) * (1 + 1e-15)


@given(law=laws(), C=budgets, demand=demands)
def test_the_optimum_meets_its_condition(law: LossLaw, C: float, demand: float) -> None:
    loss, _, D0 = best_loss(law, C)
    best = inference_optimal(law, loss=loss, inference_tokens=demand * D0)
    condition = 1 + demand * D0 / (3 * best.D)
    assert elasticity_ratio(law, best.N, best.D) == pytest.approx(condition, rel=1e-9)


@given(law=laws(), C=budgets, demand=demands)
def test_the_optimum_has_the_loss_asked_for(law: LossLaw, C: float, demand: float) -> None:
    loss, _, D0 = best_loss(law, C)
    best = inference_optimal(law, loss=loss, inference_tokens=demand * D0)
    assert law.loss(best.N, best.D) == pytest.approx(loss, rel=1e-10)


@given(law=laws(), C=budgets)
def test_no_demand_gives_the_training_optimum(law: LossLaw, C: float) -> None:
    loss, N0, D0 = best_loss(law, C)
    best = inference_optimal(law, loss=loss, inference_tokens=0.0)
    digits = 1e-13 / ((loss - law.E) / loss) * (1 + 1 / law.alpha + 1 / law.beta)
    assert best.N == pytest.approx(N0, rel=1e-9 + digits)
    assert best.D == pytest.approx(D0, rel=1e-9 + digits)


@given(law=laws(), C=budgets, demand=demands, more=st.floats(1.05, 10))
def test_size_falls_and_tokens_rise_with_demand(
    law: LossLaw, C: float, demand: float, more: float
) -> None:
    loss, _, D0 = best_loss(law, C)
    best = inference_optimal(law, loss=loss, inference_tokens=[demand * D0, more * demand * D0])
    assert best.N[1] < best.N[0]
    assert best.D[1] > best.D[0]


@given(law=laws(), C=budgets)
def test_endless_demand_leads_to_the_least_size(law: LossLaw, C: float) -> None:
    loss, _, D0 = best_loss(law, C)
    contour = Contour.of(law, loss)
    demand = 1e30 * D0
    best = inference_optimal(law, loss=loss, inference_tokens=demand)
    share = (law.beta / (law.alpha + law.beta)) ** (1 / law.alpha)
    assert contour.N_min / contour.N(0.0) == pytest.approx(share, rel=1e-9)
    # rho grows like demand^(beta/(1 + beta)): slowly for small beta.
    rho = float(best.spend_ratio)
    assert 0 <= best.N / contour.N_min - 1 <= 2 * law.alpha / law.beta / rho / law.alpha + 1e-9
    asymptote = (law.beta * law.B * demand / (3 * law.alpha * contour.reducible)) ** (
        1 / (1 + law.beta)
    )
    assert best.D == pytest.approx(
        float(asymptote), rel=0.05 + 3 * (1 + law.alpha / law.beta) / rho
    )


@given(law=laws(), C=budgets, demand=demands)
def test_the_cost_rises_with_demand_by_two_flops_a_parameter(
    law: LossLaw, C: float, demand: float
) -> None:
    loss, _, D0 = best_loss(law, C)
    step = 1e-4 * demand * D0
    middle = demand * D0
    low, high = inference_optimal(
        law, loss=loss, inference_tokens=[middle - step, middle + step]
    ).total
    N = float(inference_optimal(law, loss=loss, inference_tokens=middle).N)
    assert (high - low) / (2 * step) == pytest.approx(2 * N, rel=1e-4)


@given(law=laws(), C=budgets)
def test_the_saving_is_second_order_in_demand(law: LossLaw, C: float) -> None:
    loss, _, D0 = best_loss(law, C)
    demands = np.array([1e-2, 1e-3]) * D0
    best = inference_optimal(law, loss=loss, inference_tokens=demands)
    plain = inference_optimal(law, loss=loss, inference_tokens=0.0).serving(demands)
    saved = plain.total - best.total
    # A tenth of the demand saves a hundredth; rounding of the totals allows for the slack.
    assert saved[1] <= 0.012 * saved[0] + 1e-14 * plain.total[0]


@given(law=laws(), C=budgets, demand=demands)
def test_the_demand_can_be_read_back_from_the_optimum(
    law: LossLaw, C: float, demand: float
) -> None:
    loss, _, D0 = best_loss(law, C)
    best = inference_optimal(law, loss=loss, inference_tokens=demand * D0)
    implied = 3 * float(implied_spend_ratio(law, best.N, best.D) * best.D)
    # The ratio minus one loses digits where demand is small.
    assert implied == pytest.approx(demand * D0, rel=1e-9 / min(demand, 1))


@given(law=laws(), C=budgets, demand=demands)
def test_the_dual_gives_the_primal_back(law: LossLaw, C: float, demand: float) -> None:
    loss, _, D0 = best_loss(law, C)
    best = inference_optimal(law, loss=loss, inference_tokens=demand * D0)
    dual = best_loss_for_bill(law, total_flops=best.total, inference_tokens=demand * D0)
    assert dual.N == pytest.approx(float(best.N), rel=1e-9)
    assert dual.loss == pytest.approx(loss, rel=1e-9)
    assert elasticity_ratio(law, dual.N, dual.D) == pytest.approx(
        1 + float(dual.spend_ratio), rel=1e-9
    )


@given(law=laws(), C=budgets, demand=demands, seed=st.integers(0, 2**32 - 1))
def test_no_random_point_of_the_contour_is_cheaper(
    law: LossLaw, C: float, demand: float, seed: int
) -> None:
    loss, _, D0 = best_loss(law, C)
    best = inference_optimal(law, loss=loss, inference_tokens=demand * D0)
    contour = Contour.of(law, loss)
    sizes = float(contour.N_min) * np.exp(np.random.default_rng(seed).exponential(2.0, 200))
    cost = 6 * sizes * contour.tokens(sizes) + 2 * sizes * demand * D0
    assert best.total <= cost.min() * (1 + 1e-12)


@settings(max_examples=40)
@given(law=laws(), C=budgets, demand=demands)
def test_brute_force_over_sizes_agrees(law: LossLaw, C: float, demand: float) -> None:
    loss, N0, D0 = best_loss(law, C)
    best = inference_optimal(law, loss=loss, inference_tokens=demand * D0)
    contour = Contour.of(law, loss)
    sizes = np.geomspace(float(contour.N_min) * (1 + 1e-9), N0, 4001)
    # D by bisection on the loss itself, which shares no algebra with the closed form.
    low, high = np.full(sizes.size, -100.0), np.full(sizes.size, 400.0)
    for _ in range(60):
        middle = (low + high) / 2
        enough = law.loss(sizes, np.exp(middle)) <= loss
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    cost = 6 * sizes * np.exp(high) + 2 * sizes * demand * D0
    assert best.total == pytest.approx(cost.min(), rel=1e-4)
    assert best.N == pytest.approx(sizes[np.argmin(cost)], rel=1e-2)


@given(law=laws(), C=budgets, ratio=st.floats(0.02, 50))
def test_the_contour_inverts_the_condition_of_an_optimum_for_any_demand(
    law: LossLaw, C: float, ratio: float
) -> None:
    loss, _, D0 = best_loss(law, C)
    best = inference_optimal(law, loss=loss, inference_tokens=3 * ratio * D0)
    assert elasticity_ratio(law, best.N, best.D) == pytest.approx(
        1 + ratio * D0 / float(best.D), rel=1e-9
    )


@given(law=laws(), C=budgets)
def test_a_model_of_the_optimal_size_has_no_overhead(law: LossLaw, C: float) -> None:
    _, N0, D0 = best_loss(law, C)
    assert tokens_multiple(law, 1.0) == pytest.approx(1.0, rel=1e-12)
    assert training_overhead(law, N0, D0) == pytest.approx(0.0, abs=1e-6)


@given(law=laws(), C=budgets, shrink=st.floats(0.05, 0.95))
def test_size_overhead_and_break_even_agree_with_the_models_themselves(
    law: LossLaw, C: float, shrink: float
) -> None:
    loss, N0, D0 = best_loss(law, C)
    least = (law.beta / (law.alpha + law.beta)) ** (1 / law.alpha)
    ratio = least + (1 - least) * shrink
    N, D = ratio * N0, D0 * float(tokens_multiple(law, ratio))
    if not D < 1e60:  # close to the least size D leaves the range of sensible numbers
        return
    # Overhead near zero is a difference of nearly equal bills, and r a difference of losses.
    overhead = ratio * float(tokens_multiple(law, ratio)) - 1
    digits = 1e-13 / ((loss - law.E) / loss) * (1 + 1 / law.alpha + 1 / law.beta)
    lost = digits * (1 + overhead) / overhead
    assert training_overhead(law, N, D) == pytest.approx(overhead, rel=1e-9 + lost)
    # Served tokens at which the extra training is paid back, a third of it a token and parameter.
    expected = 3 * overhead / (1 - ratio) * D0
    assert break_even_tokens(law, N, D) == pytest.approx(expected, rel=1e-9 + 3 * lost)


@given(law=laws(), C=budgets, demand=demands, factor=st.floats(0.05, 20))
def test_a_wrong_guess_never_saves(law: LossLaw, C: float, demand: float, factor: float) -> None:
    loss, _, D0 = best_loss(law, C)
    extra = regret(law, loss, planned=[demand * D0], true=[demand * factor * D0])
    assert extra[0, 0] >= -1e-12


@settings(max_examples=30)
@given(law=laws(), C=st.floats(18, 24).map(lambda log10: 10**log10))
def test_counted_flops_of_six_a_parameter_give_the_closed_form(law: LossLaw, C: float) -> None:
    _, N, D = best_loss(law, C)
    found_N, found_D = compute_optimal_counted(law, C, lambda N: 6 * N, sizes=(1e-60, 1e80))
    # The search compares losses, which are flat to rounding over sqrt(1e-16) of the optimum,
    # more where E dwarfs what N and D change.
    reducible = float((law.loss(N, D) - law.E) / law.loss(N, D))
    assert law.loss(found_N, found_D) <= law.loss(N, D) * (1 + 1e-14)
    assert found_N == pytest.approx(N, rel=3e-6 / reducible**0.5)


@settings(max_examples=30)
@given(law=laws(), C=budgets, demand=demands, power=st.floats(0.2, 1.0))
def test_a_bill_of_any_elasticity_meets_the_general_condition(
    law: LossLaw, C: float, demand: float, power: float
) -> None:
    loss, N0, D0 = best_loss(law, C)

    def bill(N: np.ndarray) -> np.ndarray:
        return 2 * demand * D0 * N0 * ((np.asarray(N) / N0) ** power + 0.3)

    N, D = inference_optimal_with_bill(law, loss=loss, bill=bill)
    nudge = 1e-5
    eta = np.log(bill(N * np.exp(nudge)) / bill(N * np.exp(-nudge))) / (2 * nudge)
    # 2e-3 is the acceptance bound; a numerical eta and a searched N share it.
    assert elasticity_ratio(law, N, D) == pytest.approx(
        1 + float(eta * bill(N) / (6 * N * D)), rel=2e-3
    )


@settings(max_examples=20)
@given(
    alpha=st.floats(0.25, 0.5),
    beta=st.floats(0.25, 0.5),
    demand=st.floats(0.1, 5),
    share=st.floats(0.05, 2),
)
def test_scarce_data_never_helps_and_plenty_changes_nothing(
    alpha: float, beta: float, demand: float, share: float
) -> None:
    law = LossLaw(
        name="random",
        form="chinchilla",
        E=1.7,
        A=400,
        B=1500,
        alpha=alpha,
        beta=beta,
        n_counts="unknown",
        c_counts="flops_6nd",
        loss_unit="unknown",
        source="random",
    )
    loss, N0, D0 = best_loss(law, 1e22)
    fresh = inference_optimal(law, loss=loss, inference_tokens=demand * D0)
    stock = Stock(law, share * D0)
    try:
        scarce = inference_optimal_with_stock(stock, loss=loss, inference_tokens=demand * D0)
    except DataRunsOut:
        assert not np.isfinite(stock.repeating.tokens(N0 * np.geomspace(0.01, 100, 50), loss)).any()
        return
    assert scarce.total >= fresh.total * (1 - 1e-9)
    if share * D0 >= fresh.D:
        assert scarce.total == pytest.approx(float(fresh.total), rel=1e-12)
    else:
        assert stock.repeating.loss(scarce.N, scarce.D) == pytest.approx(loss, rel=1e-9)


def test_the_flop_price_is_a_third() -> None:
    assert FLOPS_RATIO == pytest.approx(2 / 6)
