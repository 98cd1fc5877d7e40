"""Resampling, covariances, profiles and influence are those of theory."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.stats import t as student

from analysis.fit.options import FitOptions
from analysis.fit.parametric import pose
from analysis.law import Array, Constants, Form
from analysis.solver import uncertainty
from analysis.solver.kernels import predict_own_log
from analysis.solver.objective import Objective, ObjectiveName, Rows
from analysis.solver.problem import Problem
from analysis.solver.profile import Quantity, profile
from analysis.solver.search import find_optimum
from analysis.solver.uncertainty import (
    bootstrap,
    covariances,
    delta_intervals,
    influence,
    inverse_curvature,
    leave_one_out,
    percentile_intervals,
    refit_without,
    resample,
    score,
    step_without,
)
from analysis.table.columns import normalise
from analysis.table.observations import Table
from tests.simulated import CHINCHILLA, grid, isoflops, law_of, options, table, weighed

SQUARES = FitOptions(objective=Objective("mse_log"))


def test_resamples_hold_as_many_rows_as_the_table() -> None:
    counts = resample(30, 100, seed=0)
    assert (counts.sum(axis=1) == 30).all()
    clusters = np.repeat(np.arange(6), 5)
    together = resample(30, 100, seed=0, clusters=clusters).reshape(100, 6, 5)
    assert (together == together[:, :, :1]).all()


def test_a_resample_of_weights_is_the_fit_of_those_rows() -> None:
    problem, runs = pose(normalise(table(*isoflops(), noise=0.005)), SQUARES)
    used = runs.used
    problem, optimum = find_optimum(problem)
    drawn = bootstrap(problem, optimum.x, draws=3, seed=5)
    counts = resample(used.height, 3, seed=5)[1].astype(int)
    rows = used[np.repeat(np.arange(used.height), counts)]
    again, _ = pose(replace(runs, frame=rows), SQUARES)
    again, refit = find_optimum(again)
    ours = problem.constants(drawn[1:2])
    theirs = again.constants(refit.x[None])
    for name in ("E", "A", "B", "alpha", "beta"):
        assert getattr(ours, name)[0] == pytest.approx(getattr(theirs, name)[0], rel=1e-6)


def test_leaving_a_row_out_is_the_fit_without_it() -> None:
    runs = normalise(table(*isoflops(), noise=0.005))
    problem, _ = pose(runs, FitOptions())
    problem, optimum = find_optimum(problem)
    left = problem.constants(leave_one_out(problem, optimum.x))
    without, _ = pose(runs.filter(pl.col("row") != 11), FitOptions())
    without, refit = find_optimum(without)
    assert left.alpha[11] == pytest.approx(without.constants(refit.x[None]).alpha[0], 1e-6)


def test_information_and_sandwich_agree_where_residuals_are_alike() -> None:
    problem, _ = pose(normalise(table(*grid(20, 20), noise=0.005)), SQUARES)
    problem, optimum = find_optimum(problem)
    both = covariances(problem, optimum.x)
    ratio = np.sqrt(np.diag(both["sandwich"]) / np.diag(both["information"]))
    # 400 rows estimate a variance to 7 %, their leverage-weighted sums to about twice that.
    np.testing.assert_allclose(ratio, 1.0, atol=0.15)


def _posed(
    runs: pl.DataFrame | Table, objective: ObjectiveName = "mse_log", delta: float = 1e-3
) -> tuple[Problem, Array]:
    read = runs if isinstance(runs, Table) else normalise(runs)
    problem, _ = pose(read, options(objective=objective, delta=delta))
    problem, optimum = find_optimum(problem)
    return problem, optimum.x


def _log_slopes(problem: Problem, x: Array) -> Array:
    """d ln L in (ln E, ln A, ln B, alpha, beta), logs centred: each term's share of the loss."""
    e, a, b, alpha, beta = x
    n, d = problem.rows.n, problem.rows.d
    E, on_N, on_D = np.exp(e), np.exp(a - alpha * n), np.exp(b - beta * d)
    columns = [E + 0 * n, on_N, on_D, -n * on_N, -d * on_D]
    return np.asarray(np.stack(columns, axis=1) / (E + on_N + on_D)[:, None])


def test_the_information_of_squared_errors_is_the_textbooks_least_squares() -> None:
    problem, x = _posed(table(*grid(3, 4), noise=0.002))
    slope, residual = _log_slopes(problem, x), problem.residuals(x[None])[0]
    # s² (X'X)^-1 with s² the sum of squares over n - p = 12 - 5.
    expected = (residual**2).sum() / 7 * np.linalg.inv(slope.T @ slope)
    ours = covariances(problem, x)["information"]
    # Slopes are central differences; an inverse of a bent matrix magnifies their error.
    np.testing.assert_allclose(ours, expected, rtol=1e-4)
    np.testing.assert_allclose(inverse_curvature(problem, x), np.linalg.inv(slope.T @ slope), 1e-4)


def test_the_sandwich_sums_scores_row_by_row_or_run_by_run_under_their_weights() -> None:
    w = np.tile([0.5, 1.5], 18)
    problem, x = _posed(weighed(table(*grid(), noise=0.004), w))
    slope, residual = _log_slopes(problem, x), problem.residuals(x[None])[0]
    bread = np.linalg.inv((slope * w[:, None]).T @ slope)
    scores = slope * (w * residual)[:, None]
    rows = 36 / 31 * bread @ scores.T @ scores @ bread
    # Slopes are central differences; see above.
    np.testing.assert_allclose(covariances(problem, x)["sandwich"], rows, rtol=1e-4)
    runs = np.arange(36) // 6
    summed = scores.reshape(6, 6, 5).sum(axis=1)
    by_run = 36 / 31 * bread @ summed.T @ summed @ bread
    found = covariances(problem, x, runs)
    np.testing.assert_allclose(found["sandwich"], by_run, rtol=1e-4, atol=1e-6 * by_run.max())
    squares = (residual**2).mean() * (slope * (w**2)[:, None]).T @ slope
    np.testing.assert_allclose(found["information"], 36 / 31 * bread @ squares @ bread, rtol=1e-4)


def test_the_window_of_hubers_slope_is_silvermans() -> None:
    problem, _ = _posed(table(*grid(4, 8)), "huber_log", delta=0.01)
    # 32 residuals whose median size is that of a standard normal: the window is 1.06 · 32^(-1/5).
    residual = 0.6745 * np.tile([-0.01, 0.5, -0.77, 0.79, -1.21, 1.5, 4.0, -6.0], 4)
    psi, bend = score(problem, residual)
    np.testing.assert_allclose(psi, np.clip(residual, -0.01, 0.01))
    inside, window = np.abs(residual) <= 1.06 / 2, 1.06 / 2
    assert inside.reshape(4, 8).tolist() == [[True] * 3 + [False] * 5] * 4
    np.testing.assert_allclose(bend[inside], 0.01 / window, rtol=1e-9)
    np.testing.assert_allclose(bend[~inside], 1e-3 * 0.01 / window, rtol=1e-9)


def test_a_delta_wider_than_the_window_is_the_window() -> None:
    problem, _ = _posed(table(*grid(4, 8)), "huber_log", delta=2.0)
    psi, bend = score(problem, np.linspace(-3, 3, 32))
    assert psi.min() == -2.0
    np.testing.assert_allclose(bend, np.where(np.abs(np.linspace(-3, 3, 32)) <= 2, 1.0, 1e-3))


def test_absolute_deviations_have_signs_for_scores_and_a_density_for_slope() -> None:
    problem, _ = _posed(table(*grid(4, 8), noise=0.01), "lad_log")
    residual = np.random.default_rng(0).standard_normal(100_000)
    psi, bend = score(problem, residual)
    assert set(psi) == {-1.0, 1.0}
    # The slope of E sign(r + t) at 0 is twice the density there. A window of 0.11 deviations
    # has 8,500 rows in it (1 %) and flattens the density by 0.2 %.
    assert bend.mean() == pytest.approx(2 / np.sqrt(2 * np.pi), rel=0.04)


def test_intervals_by_the_delta_method_have_students_width_at_n_minus_p() -> None:
    N, D = (column[[0, 1, 2, 3, 5, 7, 10, 14]] for column in grid(4, 4))
    problem, x = _posed(table(N, D, noise=0.001))
    covariance = np.diag([0.01, 0.02, 0.03, 0.002, 0.003]) ** 2
    for level in (0.5, 0.9):
        ends = delta_intervals(problem, x, covariance, Constants.named, level)
        t = student.ppf(0.5 + level / 2, 3)
        # On logs: E's coordinate is ln E, alpha's is alpha itself.
        half = {"E": 0.01 * t, "alpha": 0.002 * t / x[3], "beta": 0.003 * t / x[4]}
        for name, size in half.items():
            value = problem.constants(x[None]).named()[name][0]
            # Differences of a step of 1e-5 err by its square.
            expected = (value * np.exp(-size), value * np.exp(size))
            assert ends[name] == pytest.approx(expected, rel=1e-7), name


def test_percentiles_leave_half_of_the_rest_at_each_end() -> None:
    draws = {"a": np.random.default_rng(0).permutation(np.arange(1001.0))}
    assert percentile_intervals(draws, 0.9)["a"] == pytest.approx((50, 950))
    assert percentile_intervals(draws, 0.5)["a"] == pytest.approx((250, 750))


def test_a_draw_keeps_the_better_of_two_basins() -> None:
    problem, x = _posed(table(*grid(), noise=0.005))
    # A start at alpha's upper edge, so far off that the search stops short of the optimum.
    far = x + np.array([0.0, -30.0, 0.0, 3.0, 0.0])
    alone = bootstrap(problem, x, draws=20, seed=1)
    for both in (np.stack([x, far]), np.stack([far, x])):
        np.testing.assert_allclose(bootstrap(problem, both, draws=20, seed=1), alone, atol=1e-5)


def test_a_bootstrap_draws_from_the_weights_of_the_table() -> None:
    frame = table(*grid(), noise=0.005)
    # Rows of negligible weight do not move a draw, however large their loss.
    weight = np.where(np.arange(36) < 6, 1e-9, 1.0)
    wild = pl.when(pl.int_range(pl.len()) < 6).then(1.1 * pl.col("val_loss"))
    drawn = []
    for loss in (pl.col("val_loss"), wild.otherwise(pl.col("val_loss"))):
        problem, x = _posed(weighed(frame.with_columns(loss.alias("val_loss")), weight))
        drawn.append(problem.constants(bootstrap(problem, x, draws=10, seed=2)).alpha)
    # A weight of 1e-9 on an error of 10 % against 0.5 % everywhere else.
    np.testing.assert_allclose(drawn[0], drawn[1], rtol=1e-5)


def test_influence_is_the_effect_of_leaving_out_where_rows_act_alone() -> None:
    problem, x = _posed(table(*isoflops(budgets=6, sizes=8), noise=0.002))
    whole = problem.constants(x[None]).exponent_N[0]
    alone = problem.constants(leave_one_out(problem, x)).exponent_N
    averaged, effect = influence(problem, x), alone - whole
    slope = float(averaged @ effect / (effect @ effect))
    # 4,000 resamples leave an error of 1/63 of the exponent's own deviation in each of 48 rows;
    # leverage makes leaving out move the fit a little more than a covariance says.
    assert 0.8 < slope < 1.05
    assert np.corrcoef(averaged, effect)[0, 1] > 0.95


@pytest.mark.parametrize("level", [0.5, 0.9])
@pytest.mark.parametrize("objective", ["mse_log", "huber_log"])
@pytest.mark.parametrize("quantity", ["exponent_N", "n_opt", "d_opt"])
def test_a_profile_closes_where_students_interval_does(
    quantity: Quantity, objective: ObjectiveName, level: float
) -> None:
    """Near a well determined optimum the profile is a parabola, and F(1, n - p) is t squared."""
    problem, x = _posed(table(*isoflops(budgets=3, sizes=4), noise=1e-5), objective)
    found = profile(problem, x, quantity, flops=1e20, level=level)
    assert np.sqrt(found.threshold) == pytest.approx(student.ppf(0.5 + level / 2, 12 - 5))

    def asked(constants: Constants) -> dict[str, Array]:
        N, D = constants.compute_optimal(1e20)
        return {"exponent_N": constants.exponent_N, "n_opt": N, "d_opt": D}

    sandwich = covariances(problem, x)["sandwich"]
    expected = delta_intervals(problem, x, sandwich, asked, level)[quantity]  # type: ignore[arg-type]
    # Noise of 1e-5 leaves a bend of about as much; the crossing is read off 25 points.
    width = np.log(expected[1] / expected[0])
    assert np.log(found.interval) == pytest.approx(np.log(expected), abs=0.01 * width)


def test_checkpoints_that_err_together_widen_the_profile() -> None:
    N, D = isoflops(budgets=6, sizes=6)
    runs = np.arange(36) // 3
    common = np.random.default_rng(3).standard_normal(12)[runs]
    frame = pl.DataFrame({"n_params": N, "tokens": D, "val_loss": 0.0})
    frame = frame.with_columns(val_loss=CHINCHILLA.loss(N, D) * np.exp(1e-3 * common))
    problem, x = _posed(frame)
    apart = profile(problem, x, "exponent_N")
    together = profile(problem, x, "exponent_N", clusters=runs)
    variances = [covariances(problem, x, clusters)["sandwich"] for clusters in (None, runs)]
    step = np.array([0, 0, 0, -x[4], x[3]]) / (x[3] + x[4]) ** 2  # d exponent_N / dx
    ratio = np.sqrt((step @ variances[1] @ step) / (step @ variances[0] @ step))
    widths = [float(np.diff(found.interval)[0]) for found in (apart, together)]
    assert ratio > 1.2
    # The profile is nearly a parabola: its width follows the deviation.
    assert widths[1] / widths[0] == pytest.approx(ratio, rel=0.05)


@pytest.mark.parametrize("form", ["chinchilla", "gamma", "tied", "kaplan"])
@pytest.mark.parametrize("quantity", ["exponent_N", "n_opt", "d_opt"])
def test_a_profile_touches_zero_at_the_estimate_and_rises(form: Form, quantity: Quantity) -> None:
    if form == "tied" and quantity == "exponent_N":
        return
    frame = table(*isoflops(), law_of(form), noise=0.003)
    problem, _ = pose(normalise(frame), FitOptions(form))
    problem, optimum = find_optimum(problem)
    found = profile(problem, optimum.x, quantity, flops=1e22)
    nearest = int(np.argmin(np.abs(np.log(found.values / found.estimate))))
    assert found.rise[nearest] == pytest.approx(0.0, abs=1e-6)
    assert (found.rise >= 0).all()
    low, high = found.interval
    assert low is not None
    assert high is not None
    assert low < found.estimate < high


def test_a_profile_point_is_the_optimum_of_a_search_over_the_rest() -> None:
    frame = table(*isoflops(), noise=0.003)
    problem, _ = pose(normalise(frame), SQUARES)
    problem, optimum = find_optimum(problem)
    found = profile(problem, optimum.x, "n_opt", flops=1e22)
    held, rise = found.values[3], found.rise[3]
    base = problem.value(optimum.x[None])[0]
    # Any law with that N* fits no better; draws around the optimum are moved onto it in A.
    rng = np.random.default_rng(0)
    x = optimum.x + 0.02 * rng.standard_normal((4000, 5))
    size, _ = problem.constants(x).compute_optimal(1e22)
    x[:, 1] += (x[:, 3] + x[:, 4]) * (np.log(held) - np.log(size))
    assert problem.constants(x).compute_optimal(1e22)[0] == pytest.approx(held, rel=1e-9)
    scale = 2 * (problem.value(x).min() - base) / rise
    inside = 2 * (problem.value(x) - base)
    assert (inside >= scale * rise * (1 - 1e-9)).all()
    assert problem.value(x).min() >= base


def test_rows_are_centred_on_their_means() -> None:
    N, D = grid()
    rows = Rows.of(N, D, CHINCHILLA.loss(N, D))
    assert rows.n.mean() == pytest.approx(0, abs=1e-12)
    assert np.exp(rows.n + rows.n_mean) == pytest.approx(N)


@pytest.mark.parametrize("objective", ["mse_log", "mse"])
def test_a_step_without_a_row_is_the_refit_without_it_where_the_penalty_is_smooth(
    objective: ObjectiveName,
) -> None:
    problem, x = _posed(table(*isoflops(), noise=0.004), objective)
    whole = problem.constants(x[None]).exponent_N
    exact = problem.constants(refit_without(problem, x, np.arange(35))).exponent_N - whole
    step = problem.constants(step_without(problem, x)).exponent_N - whole
    # What a step leaves is quadratic in it, and the residuals' own bend.
    np.testing.assert_allclose(step, exact, atol=0.03 * np.abs(exact).max())
    by_step, by_refit = (
        predict_own_log(problem.rows, problem.chart.to_theta(ends)) - np.log(problem.rows.loss)
        for ends in (step_without(problem, x), leave_one_out(problem, x))
    )
    assert np.sqrt((by_step**2).mean()) == pytest.approx(np.sqrt((by_refit**2).mean()), rel=2e-3)


def test_steps_rank_rows_as_hubers_resampled_tables_do() -> None:
    problem, x = _posed(table(*grid(16, 20), noise=0.004), "huber_log")
    whole = problem.constants(x[None]).exponent_N
    averaged = influence(problem, x)
    step = problem.constants(step_without(problem, x)).exponent_N - whole
    # 4,000 resamples of 320 rows know an effect to about a quarter of its usual size.
    assert np.corrcoef(averaged, step)[0, 1] > 0.85
    assert step @ averaged / (averaged @ averaged) == pytest.approx(1.0, abs=0.25)
    by_step, by_refit = (
        predict_own_log(problem.rows, problem.chart.to_theta(ends)) - np.log(problem.rows.loss)
        for ends in (step_without(problem, x), leave_one_out(problem, x))
    )
    # The share of the prediction error that is printed: two digits.
    assert np.sqrt((by_step**2).mean()) == pytest.approx(np.sqrt((by_refit**2).mean()), rel=5e-3)


def test_a_step_leaves_a_coordinate_at_its_edge() -> None:
    problem, x = _posed(table(*isoflops(), noise=0.004))
    held = x.copy()
    held[3] = problem.chart.upper[3]
    assert (step_without(problem, held)[:, 3] == held[3]).all()


def test_a_bootstrap_in_parts_is_the_bootstrap_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, x = _posed(table(*isoflops(), noise=0.005), "huber_log")
    runs = np.arange(35) // 5
    whole = bootstrap(problem, x, draws=10, seed=3, clusters=runs)
    monkeypatch.setattr(uncertainty, "_DRAWN_ELEMENTS", 4 * 35)
    # The same tables; sums over a batch of another size round differently, and refits stop at
    # relative steps of 1e-8.
    parts = bootstrap(problem, x, draws=10, seed=3, clusters=runs)
    np.testing.assert_allclose(parts, whole, atol=1e-6)
