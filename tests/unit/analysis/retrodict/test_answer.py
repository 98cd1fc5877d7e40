import numpy as np
import polars as pl
import pytest

from analysis import published
from analysis.frontier.allocation import compute_optimal
from analysis.frontier.figures import draw_frontier, frontier_data
from analysis.frontier.overtraining import implied_spend_ratio, same_loss_optimum, tokens_multiple
from analysis.frontier.serving import Device
from analysis.law import Constants, Support
from analysis.retrodict.answer import range_over_laws, retrodict
from analysis.retrodict.dollar_figures import (
    TASKS,
    draw_results,
    draw_serving,
    price_of_a_point,
    results_data,
    serving_data,
)
from analysis.retrodict.figures import bill_data, contour_data, draw_bill, draw_contour
from analysis.retrodict.own_sweep import OwnSweep, counted_flops_per_token
from analysis.retrodict.page import retrodict_page

A100 = Device.named("a100")


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    return retrodict(published.six_laws())


def one(rows: pl.DataFrame, model: str, law: str = "besiroglu") -> dict[str, float]:
    return rows.row(by_predicate=(pl.col("model") == model) & (pl.col("law") == law), named=True)


def test_llama_7b_assumed_an_inference_bill_as_large_as_its_training(rows: pl.DataFrame) -> None:
    row = one(rows, "LLaMA-7B")
    assert row["spend_ratio"] == pytest.approx(1.06, abs=0.005)
    # Of 90 %. Its ends scatter by about 0.01 and 0.02 with the bootstrap's seed.
    assert row["spend_ratio_low"] == pytest.approx(0.745, abs=0.015)
    assert row["spend_ratio_high"] == pytest.approx(1.57, abs=0.03)
    assert row["implied_inference_tokens"] == pytest.approx(3.2e12, rel=0.01)
    assert row["implied_inference_tokens_low"] == pytest.approx(2.23e12, rel=0.03)
    assert row["implied_inference_tokens_high"] == pytest.approx(4.7e12, rel=0.03)
    assert row["training_overhead"] == pytest.approx(0.43, abs=0.005)


def test_llama_7b_breaks_even_alike_under_six_laws(rows: pl.DataFrame) -> None:
    spread = range_over_laws(rows).row(by_predicate=pl.col("model") == "LLaMA-7B", named=True)
    assert spread["break_even_tokens_least"] == pytest.approx(0.43e12, rel=0.01)
    assert spread["break_even_tokens_most"] == pytest.approx(0.69e12, rel=0.01)
    assert spread["spend_ratio_least"] == pytest.approx(0.43, abs=0.005)
    assert spread["spend_ratio_most"] == pytest.approx(1.35, abs=0.005)


def test_llama_3_8b_has_to_serve_trillions(rows: pl.DataFrame) -> None:
    row = one(rows, "Llama-3-8B")
    assert row["spend_ratio"] == pytest.approx(4.2, abs=0.05)
    assert row["training_overhead"] == pytest.approx(4.51, abs=0.01)
    spread = range_over_laws(rows).row(by_predicate=pl.col("model") == "Llama-3-8B", named=True)
    assert spread["break_even_tokens_least"] == pytest.approx(4.9e12, rel=0.01)
    assert spread["break_even_tokens_most"] == pytest.approx(11.4e12, rel=0.01)


@pytest.mark.parametrize(
    ("model", "ratio", "overhead"),
    [("GPT-3", -0.57, 0.64), ("Gopher", -0.64, 1.01), ("PaLM-540B", -0.59, 0.73)],
)
def test_no_demand_explains_the_giants(
    rows: pl.DataFrame, model: str, ratio: float, overhead: float
) -> None:
    row = one(rows, model)
    assert row["spend_ratio"] == pytest.approx(ratio, abs=0.005)
    assert row["spend_ratio_high"] < 0
    assert row["implied_inference_tokens"] is None
    assert row["break_even_tokens"] is None
    assert row["training_overhead"] == pytest.approx(overhead, abs=0.005)
    # One law of six gives PaLM 0.004, which is none to any precision the laws have.
    assert rows.filter(pl.col("model") == model)["spend_ratio"].max() <= 0.004


def test_the_implied_bill_falls_with_size_inside_a_family_under_every_law(
    rows: pl.DataFrame,
) -> None:
    for family in ("LLaMA", "Llama-2", "Llama-3"):
        for law in published.SIX_LAWS:
            line = rows.filter((pl.col("family") == family) & (pl.col("law") == law))
            assert line.sort("n_params")["spend_ratio"].is_sorted(descending=True)


def test_only_the_law_with_draws_has_intervals(rows: pl.DataFrame) -> None:
    drawn = rows.filter(pl.col("draws").is_not_null())
    assert drawn["law"].unique().to_list() == ["besiroglu"]
    assert drawn.height == published.models().height
    assert rows.height == 6 * published.models().height


def test_the_level_reaches_every_column() -> None:
    law = published.law("besiroglu")
    models = published.models().filter(pl.col("model") == "LLaMA-7B")
    [row] = retrodict([law], models, level=0.5).to_dicts()
    N, D = row["n_params"], row["tokens"]
    N0, D0 = same_loss_optimum(law, N, D)
    assert row["compute_optimal_N"] == pytest.approx(float(N0), rel=1e-9)
    assert row["compute_optimal_D"] == pytest.approx(float(D0), rel=1e-9)
    ratio = float(implied_spend_ratio(law, N, D))
    assert row["implied_inference_tokens"] == pytest.approx(3 * ratio * D, rel=1e-9)
    assert row["break_even_tokens"] == pytest.approx(
        float(3 * (N * D - N0 * D0) / (N0 - N)), rel=1e-9
    )
    draws = Constants.of_draws(law)
    N1, D1 = same_loss_optimum(draws, N, D)
    ratios = implied_spend_ratio(draws, N, D)
    drawn = {
        "spend_ratio": ratios,
        "implied_inference_tokens": 3 * ratios * D,
        "break_even_tokens": 3 * (N * D - N1 * D1) / (N1 - N),
        "training_overhead": N * D / (N1 * D1) - 1,
    }
    for name, column in drawn.items():
        ends = np.quantile(column, [0.25, 0.75])
        # 2000 draws: their quantiles by two definitions differ by one draw at most.
        found = (row[f"{name}_low"], row[f"{name}_high"])
        assert found == pytest.approx(tuple(ends), rel=3e-3), name
    assert row["draws"] == 2000


def test_a_range_over_laws_has_no_least_where_a_law_gives_none(rows: pl.DataFrame) -> None:
    spread = range_over_laws(rows)
    for row in spread.iter_rows(named=True):
        own = rows.filter(pl.col("model") == row["model"])
        for name in ("implied_inference_tokens", "break_even_tokens", "training_overhead"):
            none = own[name].null_count()
            assert row[f"{name}_none"] == none
            assert row[f"{name}_least"] == (None if none else own[name].min())
            assert row[f"{name}_most"] == own[name].max()
    assert 0 < spread.filter(pl.col("break_even_tokens_none") > 0).height < spread.height


def test_models_outside_the_data_are_labelled(rows: pl.DataFrame) -> None:
    assert one(rows, "Llama-3-8B")["extrapolated"]
    assert one(rows, "Llama-3-8B", "gadre_rpj")["extrapolated"] is None


def test_the_bill_is_drawn_for_every_model_and_law(rows: pl.DataFrame) -> None:
    data = bill_data(rows)
    assert data["model"][-1] == "Llama-3-8B"
    assert data["model"][0] == "Gopher"
    figure = draw_bill(data)
    assert len(figure.data) == 6
    assert len(figure.data[0].y) == 16
    assert "12 of 16 models" in figure.layout.title.text


def test_the_contour_passes_through_the_model() -> None:
    law = published.law("besiroglu")
    data = contour_data(law, 6738415616.0, 1e12)
    actual = data.row(by_predicate=pl.col("kind") == "actual", named=True)
    assert actual["N"] == pytest.approx(6738415616, rel=1e-9)
    assert actual["D"] == pytest.approx(1e12, rel=1e-9)
    labelled = data.row(by_predicate=pl.col("kind") == "10T", named=True)
    assert labelled["inference_tokens"] == pytest.approx(1e13, rel=1e-9)
    assert law.loss(data["N"].to_numpy(), data["D"].to_numpy()) == pytest.approx(data["loss"][0])
    assert "43% more training" in draw_contour(data, "LLaMA-7B").layout.title.text


def test_results_hold_only_models_with_all_benchmarks_of_a_family() -> None:
    data = results_data(A100)
    assert set(data["task"]) == set(TASKS)
    reading = data.filter(pl.col("task") == "reading")["model"].to_list()
    assert "Gopher" not in reading
    assert "LLaMA-65B" in reading
    gsm = data.row(
        by_predicate=(pl.col("task") == "mathematics") & (pl.col("model") == "LLaMA-65B"),
        named=True,
    )
    # Touvron et al. 2023, table 7: GSM8k 50.9 and MATH 10.6.
    assert gsm["score"] == pytest.approx((50.9 + 10.6) / 2)
    assert len(draw_results(data).data) == 2 * data.select("task", "family").unique().height


def test_a_point_of_mathematics_is_cheaper_than_one_of_reading() -> None:
    price = price_of_a_point(results_data(A100))
    by_task = dict(zip(price["task"], price["more_training"], strict=True))
    assert 0 < by_task["mathematics"] < by_task["reading"]
    # The slope is log-linear through four points: a hand check with its two ends.
    data = results_data(A100).filter(
        (pl.col("task") == "mathematics") & (pl.col("family") == "LLaMA")
    )
    ends = data.sort("train_flops")
    by_ends = (ends["train_flops"][-1] / ends["train_flops"][0]) ** (
        1 / (ends["score"][-1] - ends["score"][0])
    ) - 1
    assert by_task["mathematics"] == pytest.approx(by_ends, rel=0.1)


def test_serving_setups_are_drawn_with_their_elasticity() -> None:
    data = serving_data(
        published.law("besiroglu"), 2.1, prompt_tokens=1e11, generated_tokens=3e11, device=A100
    )
    assert (data["eta"] < 1).all()
    assert data["N"][0] < data["N"][-1]
    assert len(draw_serving(data).data[0].y) == data.height


def test_the_frontier_figure_suits_toy_laws_and_large_ones() -> None:
    data = frontier_data(published.law("besiroglu"))
    assert data["N_low"].null_count() == 0
    assert (data["N_low"] <= data["N"]).all()
    assert "10 ×" in draw_frontier(data).layout.title.text
    plain = data.filter(pl.col("demand_ratio") == 0)
    served = data.filter(pl.col("demand_ratio") == 10)
    assert (served["N"] < plain["N"]).all()
    assert plain["saving"].abs().max() < 1e-12
    toy = published.law("sardana").model_copy(update={"support": None})
    assert frontier_data(toy)["extrapolated"].null_count() == 4 * 61


def own_sweep() -> OwnSweep:
    """Pairs of equal loss: compute-optimal models, and half their size on more data."""
    box = Support(flops=(1e13, 1e17), tokens_per_param=(1, 1000))
    law = published.law("besiroglu").model_copy(update={"support": box})
    N0, D0 = compute_optimal(law, np.geomspace(1e13, 1e17, 9))
    N = np.concatenate([N0, N0 / 2])
    D = np.concatenate([D0, D0 * tokens_multiple(law, 0.5)])
    frame = pl.DataFrame(
        {
            "n_params": N,
            "tokens": D,
            "val_loss": law.loss(N, D),
            # Attention weighs more on small models.
            "train_flops": 18 * N**0.95 * D,
        }
    )
    return OwnSweep("mine", law, frame)


def test_counted_flops_come_back_from_a_sweeps_runs() -> None:
    per_token, sizes = counted_flops_per_token(own_sweep().observations)
    assert per_token(np.array([1e6])) == pytest.approx(18 * 1e6**0.95, rel=1e-9)
    sweep = own_sweep().observations["n_params"].to_numpy()
    assert sizes == pytest.approx((sweep.min() / 10, sweep.max() * 10))


def test_the_page_puts_our_sweep_beside_the_published_models(rows: pl.DataFrame) -> None:
    html = retrodict_page(rows, level=0.9, own=own_sweep()).html()
    assert "Sweep mine: 18 observations" in html
    assert "counted FLOPs, attention included" in html
    assert "mild form of the test" in html
    assert "No sweep was named" in retrodict_page(rows, level=0.9).html()
