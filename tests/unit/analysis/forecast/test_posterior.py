"""A forecast does not depend on units or order, and without a discrepancy it is the law's fit."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from analysis.fit.options import FitOptions
from analysis.fit.parametric import fit_parametric
from analysis.forecast import posterior as module
from analysis.forecast.curve import log_loss
from analysis.forecast.optimum import optimum
from analysis.forecast.posterior import Posterior, posterior
from analysis.forecast.rows import Rows, rows_of
from analysis.solver.objective import Objective
from analysis.table.columns import normalise
from analysis.table.observations import Table
from tests.simulated import isoflops, law_of
from tests.simulated import table as simulated

N, D = np.array([1e9, 1e11]), np.array([1e10, 2e12])
FLOPS = 1e24
C = np.log(3.7)
# Sums in another order or about another origin differ in their last digits.
ROUNDING = 1e-12


@pytest.fixture(scope="module")
def table() -> Table:
    law = law_of("gamma")
    return normalise(simulated(*isoflops(law), law, noise=0.003))


@pytest.fixture(scope="module")
def rows(table) -> Rows:
    return rows_of(table)


@pytest.fixture(scope="module")
def learnt(rows) -> Posterior:
    return posterior(rows)


def best(learnt: Posterior, flops: float = FLOPS) -> float:
    return optimum(learnt, flops, 0.9).n_opt


def with_row(rows: Rows, n: float, d: float, y: float) -> Rows:
    return Rows(*(np.append(a, b) for a, b in ((rows.n, n), (rows.d, d), (rows.y, y))),
                np.append(rows.count, 1.0))  # fmt: skip


def test_noise_is_that_of_one_run_where_rows_are_means_of_many():
    law = law_of("gamma")
    rows = rows_of(normalise(simulated(*isoflops(law), law, noise=0.002)))
    means = posterior(replace(rows, count=np.full(len(rows), 16.0)))
    # Of 16 runs the mean has a fourth of the noise; the prior and the misfit take a part.
    assert means.sigma == pytest.approx(4 * posterior(rows).sigma, rel=0.2)


def test_a_loss_in_another_unit_moves_forecasts_by_its_factor(rows, learnt):
    scaled = posterior(replace(rows, y=rows.y + C))
    before, after = learnt.predict(N, D), scaled.predict(N, D)
    assert after.mean - before.mean == pytest.approx(C, abs=ROUNDING)
    assert after.sd == pytest.approx(before.sd, abs=ROUNDING)
    assert best(scaled) == pytest.approx(best(learnt), rel=1e-11)


def test_n_in_another_unit_with_c_kept_moves_n_star_by_its_factor(rows, learnt):
    scaled = posterior(replace(rows, n=rows.n + C, d=rows.d - C))
    before, after = learnt.predict(N, D), scaled.predict(3.7 * N, D / 3.7)
    assert after.mean == pytest.approx(before.mean, abs=ROUNDING)
    assert best(scaled) == pytest.approx(3.7 * best(learnt), rel=1e-11)


def test_d_in_another_unit_changes_no_loss(rows, learnt):
    scaled = posterior(replace(rows, d=rows.d + C))
    before, after = learnt.predict(N, D), scaled.predict(N, 3.7 * D)
    assert after.mean == pytest.approx(before.mean, abs=ROUNDING)
    assert best(scaled, 3.7 * FLOPS) == pytest.approx(best(learnt), rel=1e-11)


def test_the_order_of_rows_does_not_matter(rows, learnt):
    order = np.random.default_rng(0).permutation(len(rows))
    before, after = learnt.predict(N, D), posterior(rows.only(order)).predict(N, D)
    assert after.mean == pytest.approx(before.mean, abs=ROUNDING)
    assert after.sd == pytest.approx(before.sd, abs=ROUNDING)


def test_without_discrepancy_and_priors_it_is_the_fit_of_gamma_by_least_squares(
    table, rows, monkeypatch
):
    monkeypatch.setattr(module, "_SD", 1000 * module._SD)
    monkeypatch.setattr(module, "_TAU", 1e-9)
    monkeypatch.setattr(module, "_GAUSSIAN", 1e6)
    law = fit_parametric(table, FitOptions("gamma", Objective("mse_log"), bootstrap=0)).law
    free = posterior(rows).predict(np.exp(rows.n), np.exp(rows.d))
    # What is left of the priors.
    assert free.mean == pytest.approx(np.log(law.loss(np.exp(rows.n), np.exp(rows.d))), abs=1e-8)


def test_a_row_far_above_the_frontier_leaves_the_forecast_alone(rows, learnt):
    far = posterior(with_row(rows, np.log(1e11), np.log(1e8), np.log(9.0)))
    assert len(far.rows) == len(rows)
    assert far.predict(N, D).mean == pytest.approx(learnt.predict(N, D).mean, abs=ROUNDING)


@pytest.mark.parametrize("off", [0.1, 0.3])
def test_a_wrong_row_off_the_frontier_hardly_moves_the_forecast(rows, learnt, off):
    n, d = np.log(2e9), np.log(8e8)
    y = float(log_loss(learnt.phi, np.array([n]), np.array([d]), learnt.reference)[0]) + off
    moved = posterior(with_row(rows, n, d, y)).predict(N, D).mean - learnt.predict(N, D).mean
    assert np.abs(moved) == pytest.approx(0, abs=0.1 * float(learnt.predict(N, D).sd.min()))


def test_noise_follows_runs_that_repeat_n_and_d(rows):
    known = posterior(replace(rows, replicated_sd=0.01))
    # A prior deviation of 0.3 of ln sigma.
    assert known.sigma == pytest.approx(0.01, rel=0.5)
    assert known.sigma > 1.5 * posterior(rows).sigma


def test_the_chinchilla_form_keeps_gamma_at_1(rows):
    assert posterior(rows, "chinchilla").phi[-1] == pytest.approx(0, abs=1e-9)


def test_the_parts_of_the_variance_add_up_and_grow_beyond_the_data(learnt):
    near, far = learnt.predict(np.array([1e9, 1e12]), np.array([2e10, 2e13])).sd
    assert far > 3 * near
    foretold = learnt.predict(N, D)
    assert foretold.law + foretold.discrepancy == pytest.approx(np.diag(foretold.covariance))
    assert (foretold.law > 0).all()
    assert (foretold.discrepancy > 0).all()


def test_memory_grows_with_the_points_and_not_with_their_square(learnt):
    many = np.geomspace(1e9, 1e10, 4000)
    tracemalloc.start()
    learnt.predict_each(many, 20 * many)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A matrix of points by points alone has twice as many bytes.
    assert peak < 4 * len(many) ** 2


def test_losses_of_two_recipes_put_the_weight_on_the_largest_error(rows, learnt):
    step = np.where(rows.n + rows.d < np.median(rows.n + rows.d), 0.15, 0.0)
    mixed = posterior(replace(rows, y=rows.y + step))
    assert mixed.weight_of_largest_tau > 0.5
    assert learnt.weight_of_largest_tau < 0.1


def test_many_points_are_predicted_as_they_would_be_together(learnt, monkeypatch):
    monkeypatch.setattr(module, "_TOGETHER", 3)
    n, d = np.geomspace(1e8, 1e11, 7), np.geomspace(1e10, 1e12, 7)
    together, each = learnt.predict(n, d), learnt.predict_each(n, d)
    for name in ("mean", "sd", "law", "discrepancy", "noise"):
        assert getattr(each, name) == pytest.approx(getattr(together, name), rel=ROUNDING), name
