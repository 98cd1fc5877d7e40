"""N* of a known law comes back, with an interval, a regret, and the budgets' own minima."""

import numpy as np
import polars as pl
import pytest

from analysis.forecast.optimum import measured_valleys, optimum
from analysis.forecast.posterior import posterior
from analysis.forecast.rows import rows_of
from analysis.law import Constants
from analysis.table.columns import normalise
from tests.simulated import CHINCHILLA, isoflops, law_of
from tests.simulated import table as simulated


@pytest.fixture(scope="module", params=["chinchilla", "gamma"])
def law(request):
    return CHINCHILLA if request.param == "chinchilla" else law_of("gamma", alpha=0.5, beta=0.4)


@pytest.fixture(scope="module")
def table(law):
    return normalise(simulated(*isoflops(law), law, noise=0.001))


@pytest.fixture(scope="module")
def learnt(table):
    return posterior(rows_of(table))


def test_n_star_of_the_law_lies_within_the_interval(law, learnt):
    for flops in (3e21, 1e22):
        best = optimum(learnt, flops, 0.9)
        N, D = Constants.of(law).compute_optimal(flops)
        low, high = best.n_interval
        assert low < N < high
        assert best.n_opt == pytest.approx(float(N), rel=0.1)
        assert best.d_opt == pytest.approx(flops / 6 / best.n_opt)
        assert best.d_interval[0] < float(D) < best.d_interval[1]
        assert best.loss_interval[0] < law.loss(N, D) < best.loss_interval[1]


def test_the_steeper_side_of_a_valley_does_not_move_n_star(law):
    exact = posterior(rows_of(normalise(simulated(*isoflops(law), law, noise=0.0))))
    N, _ = Constants.of(law).compute_optimal(1e22)
    # The vertex of a parabola through seven points lies 0.6 and 3 % away.
    assert optimum(exact, 1e22, 0.9).n_opt == pytest.approx(float(N), rel=3e-3)


@pytest.mark.parametrize("height", [-0.02, 0.0])
def test_losses_without_a_valley_give_an_n_star_as_unsure_as_they_are_flat(height):
    N, D = isoflops(CHINCHILLA)
    # A hill along each budget, or no slope at all.
    away = np.log(N / Constants.of(CHINCHILLA).compute_optimal(6 * N * D)[0])
    loss = 3 + height * away**2 - 0.1 * np.log(N * D / 1e17) * (height != 0)
    rows = rows_of(normalise(pl.DataFrame({"n_params": N, "tokens": D, "val_loss": loss})))
    best = optimum(posterior(rows), 1e22, 0.9)
    low, high = best.n_interval
    assert low < best.n_opt < high
    assert high > 10 * low


def test_a_target_far_beyond_all_reason_has_an_interval_without_an_overflow():
    # As of a table in millions of parameters and billions of tokens, read as it stands.
    N, D = isoflops(CHINCHILLA)
    loss = CHINCHILLA.loss(N, D) * np.exp(0.002 * np.random.default_rng(0).standard_normal(len(N)))
    frame = pl.DataFrame({"n_params": N / 1e6, "tokens": D / 1e9, "val_loss": loss})
    with np.errstate(all="raise", under="ignore"):
        best = optimum(posterior(rows_of(normalise(frame))), 1e22, 0.9)
    assert 0 < best.n_interval[0] < best.n_opt < best.n_interval[1] < np.inf


def test_a_wider_level_gives_wider_intervals(learnt):
    narrow, wide = (optimum(learnt, 1e22, level) for level in (0.5, 0.95))
    assert wide.n_interval[0] < narrow.n_interval[0] < narrow.n_interval[1] < wide.n_interval[1]
    assert wide.loss_interval[1] > narrow.loss_interval[1]
    assert wide.n_opt == narrow.n_opt


def test_the_regret_is_what_the_law_says_of_the_interval_s_ends(law, learnt):
    best = optimum(learnt, 3e21, 0.9)
    N = np.array([best.n_opt, *best.n_interval])
    losses = law.loss(N, 3e21 / 6 / N)
    # The forecast's valley is its own, and this near the bottom flat.
    assert best.rise == pytest.approx(tuple(losses[1:] / losses[0] - 1), abs=5e-4)
    for rise, wasted in zip(best.regret, best.regret_flops, strict=True):
        assert 0 <= rise < wasted < 1
    # With so much less compute the law's best loss is that of the interval's end.
    cheaper = Constants.of(law).compute_optimal(3e21 * (1 - best.regret_flops[1]))
    assert law.loss(*cheaper) == pytest.approx(losses[2], rel=1e-3)


def test_the_minima_of_budgets_are_found_at_their_6nd(law, table):
    log_C, log_N = measured_valleys(table)
    assert len(log_C) == 5
    assert log_C == pytest.approx(np.log(np.geomspace(1e18, 1e21, 5)), abs=1e-9)
    assert np.exp(log_N) == pytest.approx(
        Constants.of(law).compute_optimal(np.exp(log_C))[0], rel=0.1
    )


def test_measured_valleys_are_half_of_the_estimate(table, learnt):
    own = optimum(learnt, 1e22, 0.9)
    line = (np.log([1e20, 1e21]), np.log([1e9, 2e9]))
    both = optimum(learnt, 1e22, 0.9, line)
    assert both.n_opt == pytest.approx(np.sqrt(own.n_opt * 4e9))
    # What an end costs is held against the lowest loss, which such an estimate does not have.
    assert min(both.regret) >= 0
    assert max(both.regret) > max(own.regret)


def test_a_table_without_budgets_has_no_measured_valleys():
    rng = np.random.default_rng(0)
    N, D = np.exp(rng.uniform(18, 22, 30)), np.exp(rng.uniform(21, 25, 30))
    assert measured_valleys(normalise(simulated(N, D))) is None
