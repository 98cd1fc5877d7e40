import pytest

from analysis import published
from analysis.frontier.allocation import FrontierError, NegativeDemand, UnreachableLoss
from analysis.frontier.data_stock import DataRunsOut, Stock, inference_optimal_with_stock

# ruff: noqa: SIM300 - N and D are symbols here, not constants

C4 = published.law("muennighoff_c4")
# Of the compute-optimal 13B.
LOSS = C4.E + C4.A * 13e9**-C4.alpha * (1 + C4.alpha / C4.beta)


@pytest.mark.parametrize(("epochs", "worth"), [(1, 1.0), (4, 0.931), (16, 0.661), (40, 0.379)])
def test_repeated_tokens_lose_worth(epochs: int, worth: float) -> None:
    # Muennighoff et al. 2023, figure 5 and section 6: four epochs are almost as good as fresh.
    assert Stock(C4, 1e9).effective_tokens(epochs * 1e9) / (epochs * 1e9) == pytest.approx(
        worth, abs=5e-4
    )


def test_repetition_has_a_ceiling() -> None:
    assert Stock(C4, 1e9).effective_tokens(1e15) == pytest.approx(16.388e9, rel=1e-4)


def test_a_stock_larger_than_the_data_seen_changes_nothing() -> None:
    # Including above the stock's own fresh regime: U is capped at D.
    for U in (1e12, 1e13):
        assert Stock(C4, U).loss(6e9, 1e11) == pytest.approx(float(Stock(C4, 1e11).loss(6e9, 1e11)))
    assert Stock(C4, 1e12).loss(1e9, 5e11) == pytest.approx(float(C4.loss(1e9, 5e11)))


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
    D = stock.tokens([5e9, 9e9], 2.2)
    assert stock.loss([5e9, 9e9], D) == pytest.approx([2.2, 2.2], rel=1e-12)
    assert stock.tokens(1e8, 2.2) == float("inf")


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
