"""Published and independently computed frontier values, each beside its source.

`computed` values were worked out once with numpy and scipy from the laws' constants; the
others are printed by the papers' authors or by their code.
"""

# ruff: noqa: SIM300 - N and D are symbols here, not constants
import polars as pl
import pytest

from analysis import published
from analysis.frontier.allocation import Allocation, compute_optimal, inference_optimal
from analysis.frontier.contour import Contour
from analysis.frontier.data_stock import Stock
from analysis.frontier.overtraining import tokens_multiple
from analysis.law import LossLaw
from analysis.retrodict.answer import retrodict
from llama_core.config import ModelConfig, llama_ffn_width
from llama_core.counting import count_params

A100_BF16, A100_INT8 = 312e12, 624e12


def loss_of_size(law: LossLaw, N0: float) -> float:
    """The loss whose compute-optimal size is N0."""
    return float(law.E + law.A * N0**-law.alpha * (1 + law.alpha / law.beta))


def served(
    law: LossLaw, loss: float, demand: float, **prices: float
) -> tuple[Allocation, Allocation]:
    best = inference_optimal(law, loss=loss, inference_tokens=demand, **prices)
    plain = inference_optimal(law, loss=loss, inference_tokens=0.0, **prices).serving(demand)
    return best, plain


# Sardana et al. 2024: figure 1 and appendix B table 2 print 7B, 17 %; 6B, 1.18; 13.6B, 2.84,
# 28 %; 41.6B, 7.92T, 12 %; 1.3 %. The digits are computed.
@pytest.mark.parametrize(
    ("N0", "demand", "N", "tokens_ratio", "saving"),
    [
        (13e9, 2e12, 6.9686e9, None, 0.174467),
        (7e9, 1e11, 5.99972e9, 1.17576, None),
        (30e9, 1e13, 1.36128e10, 2.84481, 0.279848),
        (70e9, 1e13, 4.15513e10, None, 0.119492),
    ],
)
def test_sardana_worked_examples_come_out(
    N0: float, demand: float, N: float, tokens_ratio: float | None, saving: float | None
) -> None:
    law = published.law("sardana")
    best, plain = served(law, loss_of_size(law, N0), demand)
    assert best.N == pytest.approx(N, rel=1e-3)
    if tokens_ratio is not None:
        assert best.D / plain.D == pytest.approx(tokens_ratio, rel=1e-3)
    if saving is not None:
        assert 1 - best.total / plain.total == pytest.approx(saving, rel=1e-3)


def test_sardana_absolute_saving_and_tokens_come_out() -> None:
    law = published.law("sardana")
    best, plain = served(law, loss_of_size(law, 13e9), 2e12)
    assert plain.total - best.total == pytest.approx(1.692e22, rel=1e-3)  # prints 1.7e22
    best, _ = served(law, loss_of_size(law, 70e9), 1e13)
    assert best.D == pytest.approx(7.9225e12, rel=1e-3)  # prints 7.92T
    best, plain = served(law, loss_of_size(law, 70e9), 2e12)
    assert plain.total / best.total - 1 == pytest.approx(0.01331, rel=5e-3)  # prints 1.3 %


def test_the_flop_example_of_the_authors_readme_comes_out() -> None:
    # github.com/nikhilsardana/beyond-chinchilla, README: 24.18B, 2.657T, 95.22 %.
    best, plain = served(published.law("sardana"), 1.947, 2e12)
    assert best.N == pytest.approx(2.418e10, rel=5e-4)
    assert best.D == pytest.approx(2.657e12, rel=5e-4)
    assert best.total / plain.total == pytest.approx(0.9522, rel=2e-4)


def dollars(usd_per_hour: float, peak: float, utilisation: float) -> float:
    return usd_per_hour / (3600 * peak * utilisation)


def at_train_price(
    prompt_tokens: float, generated_tokens: float, *, prompt: float, generated: float, train: float
) -> float:
    """Tokens whose serving costs as much at the price of training (Sardana et al. 2024, eq. 5).

    Prices are of one FLOP.
    """
    return (prompt_tokens * prompt + generated_tokens * generated) / train


def test_the_dollar_example_of_the_authors_readme_comes_out() -> None:
    # Same README; the bills are the authors' code re-run. 1e10 requests of 1000 + 250 tokens.
    train = dollars(1.40, A100_BF16, 0.5)
    demand = at_train_price(
        1e13,
        2.5e12,
        prompt=dollars(0.60, A100_INT8, 0.4),
        generated=dollars(0.60, A100_INT8, 0.2),
        train=train,
    )
    best, plain = served(published.law("sardana"), 1.947, demand)
    assert best.N == pytest.approx(2.053e10, rel=5e-4)
    assert best.D == pytest.approx(3.302e12, rel=5e-4)
    assert best.total * train == pytest.approx(1425059.7, rel=1e-5)
    assert plain.total * train == pytest.approx(1605531.94, rel=1e-5)
    assert best.total / plain.total == pytest.approx(0.8876, rel=2e-4)


def test_the_thirty_billion_dollar_example_agrees_with_the_authors_code() -> None:
    # Their code at $1.10 an hour; the paper's printed 16B fits $1.00. 1.5e9 requests of 70 + 215.
    train = dollars(1.50, A100_BF16, 0.5)
    demand = at_train_price(
        1.5e9 * 70,
        1.5e9 * 215,
        prompt=dollars(1.10, A100_INT8, 0.5),
        generated=dollars(1.10, A100_INT8, 0.01),
        train=train,
    )
    best, _ = served(published.law("sardana"), 1.958253360475841, demand)
    assert best.N == pytest.approx(1.567e10, rel=5e-4)
    assert best.D == pytest.approx(3.507e12, rel=5e-4)
    assert best.total * train == pytest.approx(1378537.107, rel=1e-6)


def test_de_vries_table_comes_out() -> None:
    # de Vries 2023, "Go smol or go home": 2.8 %, 20 %, 188 % and the table for C = 1e23.
    law = published.law("sardana")
    assert 0.75 * tokens_multiple(law, 0.75) - 1 == pytest.approx(0.02846, rel=1e-3)
    assert 0.5 * tokens_multiple(law, 0.5) - 1 == pytest.approx(0.20782, rel=1e-3)
    assert 0.25 * tokens_multiple(law, 0.25) - 1 == pytest.approx(1.88883, rel=1e-4)
    N0, D0 = compute_optimal(law, 1e23)
    assert N0 == pytest.approx(1.873e10, rel=1e-3)
    assert D0 == pytest.approx(8.8963e11, rel=1e-3)
    assert D0 * tokens_multiple(law, 0.5) == pytest.approx(2.14902e12, rel=1e-3)
    assert D0 * tokens_multiple(law, 0.3) == pytest.approx(6.09586e12, rel=1e-3)


@pytest.mark.parametrize(
    ("N", "D", "loss"),
    [(6.34e9, 242e9, 2.2256440889984477), (8.67e9, 178e9, 2.2269634075087867)],
)
def test_repetition_agrees_with_the_datablations_readme(N: float, D: float, loss: float) -> None:
    stock = Stock(published.law("muennighoff_c4"), 25e9)
    assert stock.repeating.loss(N, D) == pytest.approx(loss, rel=1e-9)


@pytest.mark.parametrize(("name", "N"), [("hoffmann_tex", 4.036e10), ("besiroglu", 7.236e10)])
def test_gophers_budget_asks_for_a_smaller_model(name: str, N: float) -> None:
    # Hoffmann et al. 2022, figure 4, states 40B; the printed constants would give 32B.
    assert compute_optimal(published.law(name), 5.76e23)[0] == pytest.approx(N, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "share"),
    [("besiroglu", 0.146446), ("hoffmann_tex", 0.099078), ("muennighoff_c4", 0.140088)],
)
def test_the_least_size_is_a_fixed_share_of_the_compute_optimal_one(
    name: str, share: float
) -> None:
    # (beta/(alpha + beta))^(1/alpha), computed.
    contour = Contour.of(published.law(name), 2.2)
    assert contour.N_min / contour.N(0.0) == pytest.approx(share, rel=1e-5)


@pytest.mark.parametrize(
    ("model", "demand"),
    [
        ("LLaMA-7B", 3.1768e12),
        ("LLaMA-13B", 1.91268e12),
        ("LLaMA-33B", 1.45652e12),
        ("LLaMA-65B", 2.39349e11),
    ],
)
def test_llamas_implied_demand_under_besiroglu(model: str, demand: float) -> None:
    # Computed from the constants, LLaMA's exact parameter counts and 1T or 1.4T tokens.
    rows = retrodict([published.law("besiroglu")])
    row = rows.row(by_predicate=pl.col("model") == model, named=True)
    assert row["implied_inference_tokens"] == pytest.approx(demand, rel=1e-4)


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("LLaMA-7B", 6738415616),
        ("LLaMA-13B", 13015864320),
        ("LLaMA-33B", 32528943616),
        ("LLaMA-65B", 65285660672),
    ],
)
def test_llama_shapes_count_to_their_published_sizes(model: str, params: int) -> None:
    # Touvron et al. 2023, table 2: 6.7, 13.0, 32.5 and 65.2 billion.
    row = published.models().row(by_predicate=pl.col("model") == model, named=True)
    shape = ModelConfig(
        vocab_size=32000,
        d_model=row["d_model"],
        n_layers=row["n_layers"],
        n_heads=row["n_heads"],
        n_kv_heads=row["n_kv_heads"],
        head_dim=row["head_dim"],
        d_ffn=llama_ffn_width(row["d_model"]),
    )
    assert count_params(shape).total == params == row["n_params"]
