"""The frontier under a forecast has the forecast's N*, and its intervals hold the truth."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from analysis.forecast.answer import Question, forecast
from analysis.forecast.frontier_law import frontier_law
from analysis.forecast.optimum import measured_valleys, optimum
from analysis.forecast.posterior import posterior
from analysis.forecast.rows import Rows, rows_of
from analysis.frontier.allocation import inference_optimal
from analysis.frontier.answer import Demand, advise
from analysis.frontier.decision import AtBudget, AtLoss, Goal, Like, frontier
from analysis.frontier.serving import Device, Serving
from analysis.table.columns import normalise
from analysis.table.observations import Table, TableError
from tests.simulated import CHINCHILLA, isoflops
from tests.simulated import table as simulated_table
from tests.unit.analysis.forecast.test_coverage import World, simulated, world

BUDGET = 1e22
LEVEL = 0.9


def served(tokens: float) -> Demand:
    return Demand(generated=(tokens, tokens))


@pytest.fixture(scope="module")
def runs() -> Table:
    return normalise(simulated_table(*isoflops(), noise=0.002))


def test_without_demand_the_frontier_has_the_forecasts_n_star_and_interval(runs):
    law = frontier_law(runs, AtBudget(BUDGET), served(0), "runs")
    best = optimum(posterior(rows_of(runs)), BUDGET, LEVEL, measured_valleys(runs))
    answer = frontier(law, AtBudget(BUDGET), 0.0)
    assert answer.optimum.N.item() == pytest.approx(best.n_opt, rel=1e-9)
    low, high = answer.interval("N", LEVEL)
    # Quantiles of 2,000 draws scatter by a few hundredths of a deviation.
    width = np.log(best.n_interval[1] / best.n_interval[0])
    assert np.log([low.item(), high.item()]) == pytest.approx(
        np.log(best.n_interval), abs=0.06 * width
    )


@pytest.mark.parametrize("goal", [AtBudget(BUDGET), AtLoss(2.15), Like(3e9, 2e11)])
def test_the_choice_of_a_known_law_comes_back(runs, goal: Goal):
    demand = 2e12
    law = frontier_law(runs, goal, served(demand), "runs")
    truth = inference_optimal(CHINCHILLA, loss=goal.loss_under(CHINCHILLA), inference_tokens=demand)
    answer = frontier(law, goal, demand)
    for quantity in ("N", "D", "total"):
        low, high = answer.interval(quantity, LEVEL)
        value = float(getattr(truth, quantity))
        assert low.item() < value < high.item()
        assert getattr(answer.optimum, quantity).item() == pytest.approx(value, rel=0.15)


def test_rows_that_repeat_their_tokens_move_no_n_star(runs):
    fresh = runs.frame.with_columns(unique_tokens=pl.col("tokens"))
    # Repetition costs the small models of a budget most, for they read the most tokens.
    repeats = fresh.with_columns(
        val_loss=pl.col("val_loss") * (1 + pl.col("tokens") / pl.col("n_params") / 1e3),
        unique_tokens=pl.col("tokens") / 4,
    )
    both = replace(runs, frame=pl.concat([fresh, repeats]).with_columns(row=pl.int_range(pl.len())))
    learnt = forecast(runs, Question(anyway=True))
    laws = [
        frontier_law(table, AtBudget(BUDGET), served(0), "runs", learnt) for table in (runs, both)
    ]
    assert laws[0] == laws[1]


def test_intervals_widen_beyond_the_data(runs):
    widths = []
    for C in (1e21, 1e22, 1e23):
        answer = frontier(frontier_law(runs, AtBudget(C), served(1e12), "runs"), AtBudget(C), 1e12)
        low, high = answer.interval("N", LEVEL)
        widths.append(float(np.log(high / low)[0]))
    assert widths[0] < widths[1] < widths[2]


def test_a_choice_too_far_from_the_runs_is_not_calibrated(runs):
    near = frontier_law(runs, AtBudget(BUDGET), served(0), "runs")
    assert near.trust.lines == ()
    far = frontier_law(runs, AtBudget(1e24), served(0), "runs")
    [warning] = far.trust.warnings
    assert warning.startswith("NOT CALIBRATED: N = ")
    assert "1k times the table's largest" in warning
    # A model to match is judged too, though its loss has a choice near the runs.
    like = frontier_law(runs, Like(5e7, 5e12), served(0), "runs")
    assert like.trust.warnings[0].startswith("NOT CALIBRATED: N = 50M, D = 5T: its D/N lies")
    # The budget is near, but so much is served that few parameters see very many tokens.
    served_much = frontier_law(runs, AtBudget(1e20), served(1e14), "runs")
    assert "its D/N lies" in served_much.trust.warnings[0]


def test_a_choice_in_dollars_is_foretold_and_judged_like_one_in_flops(runs):
    # Read for one sequence at once, weights cost most: the cheapest model is small, on many tokens.
    goal, demand = AtBudget(1e20), served(3e11)
    serving = Serving(Device.named("H100-80GB"), batch=1)
    learnt = forecast(runs, Question(anyway=True))
    flops_alone = frontier_law(runs, goal, demand, "runs", learnt)
    priced = frontier_law(runs, goal, demand, "runs", learnt, serving=serving)
    assert flops_alone.trust.lines == ()
    [warning] = priced.trust.warnings
    assert warning.startswith("NOT CALIBRATED: N = ")
    assert "its D/N lies" in warning
    # Where the runs say little the forecast is wide; laws taken only near the choice in FLOPs agree
    # there too well.
    widths = []
    for law in (flops_alone, priced):
        low, high = advise(law, goal, demand, serving=serving).served.intervals["N"]
        widths.append(np.log(high / low))
    assert widths[1] > 1.5 * widths[0]


def test_a_verdict_against_the_table_bars_the_law():
    N = np.geomspace(1e8, 1e10, 12)
    rows = {"n_params": N, "tokens": 20 * N, "val_loss": CHINCHILLA.loss(N, 20 * N)}
    law = frontier_law(normalise(pl.DataFrame(rows)), AtBudget(1e21), served(0), "runs")
    assert law.trust.bars[0].startswith("NOT IDENTIFIED (N*): D/N is constant")


def test_few_runs_give_no_law(runs):
    few = runs.filter(pl.col("row") < 9)
    with pytest.raises(TableError, match="a forecast needs losses at 10 pairs"):
        frontier_law(few, AtBudget(BUDGET), served(0), "runs")


def as_table(rows: Rows) -> Table:
    columns = {"n_params": np.exp(rows.n), "tokens": np.exp(rows.d), "val_loss": np.exp(rows.y)}
    return normalise(pl.DataFrame(columns))


def true_choice(truth: World, log_loss: float, demand: float, half: float) -> tuple[float, float]:
    """N and lifetime FLOPs of the cheapest model of a loss, on a fine grid of sizes."""
    n = truth.best_n(half) + np.linspace(-5, 3, 1601)
    low, high = half - n[-1] - 4 + np.zeros_like(n), half - n[0] + 14 + np.zeros_like(n)
    for _ in range(50):
        d = (low + high) / 2
        enough = truth.log_loss(n, d) <= log_loss
        low, high = np.where(enough, low, d), np.where(enough, d, high)
    bill = 6 * np.exp(n) * (np.exp(high) + demand / 3)
    bill[truth.log_loss(n, high) > log_loss + 1e-9] = np.inf
    best = int(np.argmin(bill))
    return float(np.exp(n[best])), float(bill[best])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gamma misfit", "chinchilla misfit"])
def test_the_best_size_of_a_world_with_misfit_lies_in_the_interval(kind):
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(10):
        truth = world(rng, kind)
        runs = as_table(simulated(truth, rng))
        learnt = forecast(runs, Question(anyway=True))
        for C in (3e19, 1e20, 3e20):
            half = float(np.log(C / 6))
            n = truth.best_n(half)
            least = float(truth.log_loss(np.array([n]), np.array([half - n]))[0])
            for goal, ratio in ((AtBudget(C), 3), (AtBudget(C), 30), (AtLoss(np.exp(least)), 3)):
                demand = ratio * np.exp(half - n)
                size, bill = true_choice(truth, least, demand, half)
                law = frontier_law(runs, goal, served(demand), "w", learnt)
                answer = frontier(law, goal, demand)
                for value, name in ((size, "N"), (bill, "total")):
                    low, high = answer.interval(name, LEVEL)
                    inside.append(low.item() <= value <= high.item())
    # 90 choices of 10 worlds, correlated, place a share of 0.9 within 0.05.
    assert np.mean(inside) >= 0.85
