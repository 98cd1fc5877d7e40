"""Figures of the frontier: lifetime bills, regret, and what their titles say."""

import numpy as np
import polars as pl
import pytest

from analysis import published
from analysis.frontier.allocation import inference_optimal
from analysis.frontier.figures import (
    DEMANDS,
    draw_frontier,
    draw_life,
    draw_regret,
    frontier_data,
    life_data,
    regret_data,
)
from analysis.frontier.serving import Device
from analysis.law import Constants
from analysis.retrodict.dollar_figures import (
    draw_results,
    draw_serving,
    results_data,
    serving_data,
)
from analysis.retrodict.figures import contour_data, draw_bill, draw_contour

LAW = published.law("besiroglu")
# Without draws nothing is resampled.
PLAIN = published.law("hoffmann_tex")


def test_a_lifetime_bill_is_training_and_serving_and_least_at_the_best_size():
    data = life_data(LAW, 2.1, 1e12)
    N, D = data["N"].to_numpy(), data["D"].to_numpy()
    assert LAW.loss(N, D) == pytest.approx(2.1, rel=1e-6)
    assert data["train_flops"].to_numpy() == pytest.approx(6 * N * D)
    assert data["inference_flops"].to_numpy() == pytest.approx(2 * N * 1e12)
    assert data["total"].to_numpy() == pytest.approx(6 * N * D + 2 * N * 1e12)
    # What costs over four times the least is left out.
    assert data["total"].max() < 4 * data["total"].min()
    best = inference_optimal(LAW, loss=2.1, inference_tokens=1e12)
    cheapest = data.sort("total").row(0, named=True)
    # 200 sizes over a factor of ten are 1.2 % apart.
    assert cheapest["N"] == pytest.approx(float(best.N), rel=0.02)
    alone = inference_optimal(LAW, loss=2.1, inference_tokens=0.0)
    assert N.max() == pytest.approx(2.5 * float(alone.N))
    figure = draw_life(data)
    share = cheapest["inference_flops"] / cheapest["total"]
    assert figure.layout.title.text == (
        f"At the cheapest size serving is {share:.0%} of the lifetime bill"
    )
    assert figure.data[2].x == (cheapest["N"],)
    assert (figure.layout.xaxis.type, figure.layout.yaxis.rangemode) == ("log", "tozero")


def test_a_frontier_has_every_demand_at_every_budget():
    data = frontier_data(PLAIN)
    assert data["demand_ratio"].unique().sort().to_list() == list(DEMANDS)
    budgets = data["budget_flops"].unique().sort().to_numpy()
    low, high = PLAIN.support.flops if PLAIN.support else (1e19, 1e23)
    assert budgets == pytest.approx(np.geomspace(low / 10**0.5, high * 10**1.5, 61))
    N0, D0 = Constants.of(PLAIN).compute_optimal(budgets)
    for ratio in DEMANDS:
        line = data.filter(pl.col("demand_ratio") == ratio)
        assert line["inference_tokens"].to_numpy() == pytest.approx(ratio * D0)
        assert line["loss"].to_numpy() == pytest.approx(PLAIN.loss(N0, D0))
        assert line["train_flops"].to_numpy() == pytest.approx(
            6 * line["N"].to_numpy() * line["D"].to_numpy()
        )
        # Against the size that is best to train alone.
        N, D, served = (line[name].to_numpy() for name in ("N", "D", "inference_tokens"))
        spent, plain = 6 * N * D + 2 * N * served, 6 * N0 * D0 + 2 * N0 * served
        assert line["saving"].to_numpy() == pytest.approx(1 - spent / plain, abs=1e-6)
    assert data["N_low"].null_count() == data.height
    middle = data.filter(pl.col("budget_flops") == budgets[30])
    first, last = middle.row(0, named=True), middle.row(-1, named=True)
    assert draw_frontier(data).layout.title.text == (
        f"To serve 10 × the training tokens, train {last['N'] / first['N']:.2g} × the size on "
        f"{last['D'] / first['D']:.2g} × the tokens"
    )


def test_a_regret_table_is_read_by_rows_of_truth_and_titled_by_its_worst_cells():
    demands = (0.0, 1e12, 3e12, 1e13)
    extra = np.array(
        [
            [0.0, 0.9, 0.9, 0.9],
            [0.8, 0.0, 0.04, 0.3],
            [0.8, 0.05, 0.0, 0.02],
            [2.0, 0.4, 0.06, 0.0],
        ]
    )
    data = regret_data(demands, extra)
    assert data.filter(pl.col("true") == 1e13)["extra"].to_list() == [2.0, 0.4, 0.06, 0.0]
    figure = draw_regret(data)
    # Factors 3 and 3.3 are near; the worst of all is to plan for no demand.
    assert figure.layout.title.text == (
        "A guess of demand within a factor 3 costs at most 6.0% more; the worst guess here costs "
        "200% more"
    )
    heat = figure.data[0]
    assert np.array(heat.z)[3].tolist() == [1.0, 0.4, 0.06, 0.0]
    assert [*heat.text[3]] == ["200%", "40%", "6.0%", "0.0%"]
    assert figure.layout.yaxis.autorange == "reversed"


def bill(ratios):
    rows = [
        {"law": "besiroglu", "model": f"m{number}", "family": "LLaMA", "spend_ratio": ratio,
         "spend_ratio_low": ratio - 0.1, "spend_ratio_high": ratio + 0.3, "draws": 5,
         "n_params": 1e9, "tokens": 2e10, "training_overhead": 0.25,
         "break_even_tokens": 2e12 if ratio > 0 else None,
         "implied_inference_tokens": 3e12 if ratio > 0 else None}
        for number, ratio in enumerate(ratios)
    ]  # fmt: skip
    return pl.DataFrame(rows)


def test_a_bill_counts_the_models_that_a_demand_explains():
    figure = draw_bill(bill([-0.5, 0.0, 0.5, 2.0]))
    assert "2 of 4 models are smaller than training alone" in figure.layout.title.text
    [line] = figure.data
    assert line.error_x.array == pytest.approx([0.3] * 4)
    assert line.error_x.arrayminus == pytest.approx([0.1] * 4)
    assert line.text[0] == (
        "best choice for no demand<br>never pays<br>25% more training than needed, "
        "20 tokens per parameter"
    )
    assert line.text[3].startswith(
        "best choice for 3T served tokens<br>pays once 2T are served<br>"
    )


def test_a_contours_title_is_what_was_bought_with_what():
    N, D = 6.7e9, 1e12
    data = contour_data(LAW, N, D)
    start = data.filter(pl.col("kind") == "compute-optimal").row(0, named=True)
    figure = draw_contour(data, "LLaMA-7B")
    cheaper, extra = 1 - N / start["N"], N * D / (start["N"] * start["D"]) - 1
    assert figure.layout.title.text == (
        f"LLaMA-7B bought {cheaper:.0%} cheaper serving with {extra:.0%} more training"
    )
    marks = data.filter(pl.col("kind") != "contour")
    assert marks["kind"].to_list() == [
        "compute-optimal", "actual", "300B", "1T", "10T", "100T",
    ]  # fmt: skip
    # A mark's demand is the one that its size is best for.
    assert marks["inference_tokens"].to_list()[2:] == pytest.approx([3e11, 1e12, 1e13, 1e14])


def test_a_title_in_dollars_compares_what_it_names():
    device = Device.named("a100")
    data = results_data(device)
    common = data.filter(pl.col("task") == "common_sense")
    rows = {row["model"]: row for row in common.iter_rows(named=True)}
    small, large = rows["LLaMA-13B"], rows["GPT-3"]
    figure = draw_results(data)
    assert figure.layout.title.text == (
        f"LLaMA-13B scores {small['score'] - large['score']:+.1f} points against GPT-3 on common "
        "sense and serves a token "
        f"{large['usd_per_million'] / small['usd_per_million']:.0f} times cheaper"
    )
    # Every family is in the legend once.
    shown = [trace.name for trace in figure.data if trace.showlegend]
    assert sorted(shown) == sorted(set(data["family"]))
    served = serving_data(LAW, 2.1, prompt_tokens=0.0, generated_tokens=1e12, device=device)
    spread = served["N"].max() / served["N"].min()
    assert draw_serving(served).layout.title.text.startswith(
        f"The way of serving alone moves the best size {spread:.1f}-fold"
    )
