"""Approach 2: valleys, refusals with advice, and power laws through their minima."""

import numpy as np
import polars as pl
import pytest
from scipy.optimize import curve_fit
from scipy.stats import linregress
from scipy.stats import t as student

from analysis.fit.isoflop import budgets, fit_isoflop, parabola, parabola_bias
from analysis.fit.power_law import power_law
from analysis.frontier.allocation import compute_optimal
from analysis.table.columns import normalise
from analysis.words import short
from tests.simulated import CHINCHILLA, grid, isoflops, law_of, table


def _valleys(**kwargs: object) -> pl.DataFrame:
    return normalise(table(*isoflops(**kwargs))).used  # type: ignore[arg-type]


def test_centred_valleys_give_the_laws_exponents() -> None:
    fit = fit_isoflop(_valleys(reach=2.0))
    assert fit.N is not None
    assert fit.D is not None
    # A parabola over a factor 2 each way is off by little; over centred grids alike at all C.
    assert fit.N.exponent == pytest.approx(CHINCHILLA.exponent_N, abs=2e-3)
    assert fit.N.exponent + fit.D.exponent == pytest.approx(1.0, abs=1e-9)
    assert fit.N_akima is not None
    assert fit.N_akima.exponent == pytest.approx(CHINCHILLA.exponent_N, abs=2e-2)


def test_budgets_are_found_without_a_budget_column() -> None:
    frame = _valleys()
    found = budgets(frame)
    assert len(found) == 5
    assert [part.height for _, part in found] == [7] * 5
    N, D = grid(9, 7)
    scattered = normalise(table(N * np.exp(np.linspace(0, 1, len(N))), D)).used
    assert budgets(scattered) == []


@pytest.mark.parametrize(("scattered", "found"), [(3, 1), (6, 0)])
def test_a_budget_is_one_when_six_of_ten_rows_lie_on_budgets_of_three_sizes(
    scattered: int, found: int
) -> None:
    N = np.array([1e8, 2e8, 4e8, *np.geomspace(1e8, 4e8, scattered)])
    C = np.array([1e18] * 3 + [2e18 * 1.5**k for k in range(scattered)])
    # Of 3 + 1 + 1 rows on the budget 5 of 8 are 62 %, and 5 of 11 are 45 %.
    N, C = np.append(N, [1e8, 2e8]), np.append(C, [1e18, 1e18])
    assert len(budgets(normalise(table(N, C / 6 / N)).used)) == found


def test_two_usable_budgets_make_a_law_without_interval_and_one_makes_none() -> None:
    two = fit_isoflop(_valleys(budgets=2))
    assert two.N is not None
    assert two.N.exponent_interval is None
    assert two.N_weighted is None
    one = fit_isoflop(_valleys(budgets=1))
    assert one.N is None
    assert one.reason == "1 of 1 budget has a usable minimum; two are needed"


def test_the_spline_takes_five_sizes_and_averages_repeats() -> None:
    N, D = isoflops(budgets=1, sizes=5)
    [plain] = fit_isoflop(normalise(table(N, D)).used).valleys
    assert plain.n_akima == pytest.approx(compute_optimal(CHINCHILLA, 1e18)[0], rel=0.05)
    [four] = fit_isoflop(normalise(table(*isoflops(budgets=1, sizes=4))).used).valleys
    assert four.n_akima is None
    frame = table(N, D)
    spread = np.array([0.0, 0.01, 0.0, 0.0, 0.02])
    twice = pl.concat(
        [frame.with_columns(val_loss=pl.col("val_loss") + sign * spread) for sign in (-1, 1)]
    )
    [double] = fit_isoflop(normalise(pl.concat([twice, frame[1:2]])).used).valleys
    assert double.n_akima == pytest.approx(plain.n_akima, rel=1e-9)


def test_the_splines_law_goes_through_the_splines_minima() -> None:
    frame = _scattered()
    fit = fit_isoflop(frame)
    log_N = np.log([v.n_akima for v in fit.valleys if v.n_akima])
    line = linregress(np.log([v.flops for v in fit.valleys]), log_N)
    assert fit.N_akima is not None
    assert fit.N is not None
    assert fit.N_akima.exponent == pytest.approx(line.slope, rel=1e-9)
    assert abs(fit.N.exponent - line.slope) > 1e-4


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_at_the_ends_of_a_minimums_interval_the_slope_is_t_standard_errors(level: float) -> None:
    frame = _scattered()
    for valley, (_, part) in zip(
        fit_isoflop(frame, level=level).valleys, budgets(frame), strict=True
    ):
        u = np.log(part["n_params"].to_numpy())
        c, V = np.polyfit(u - u.mean(), part["val_loss"].to_numpy(), 2, cov=True)
        assert valley.n_interval is not None
        for end, sign in zip(np.log(valley.n_interval) - u.mean(), (-1, 1), strict=True):
            se = np.sqrt(V[1, 1] + 4 * end * V[0, 1] + 4 * end**2 * V[0, 0])
            # ln N keeps about thirteen digits of its own, and noise is a ten-thousandth of it.
            slope = c[1] + 2 * c[0] * end
            assert slope == pytest.approx(sign * student.ppf(0.5 + level / 2, 4) * se, rel=1e-6)


def test_a_curvature_that_may_be_zero_bounds_no_minimum() -> None:
    u = np.linspace(-1.2, 1.2, 7)
    # Orthogonal to every parabola on seven points: noise that moves no coefficient.
    noise = np.array([-1, 1, 1, 0, -1, -1, 1]) / np.sqrt(6)
    for size, bounded in ((0.04, True), (0.05, False)):
        frame = pl.DataFrame(
            {
                "n_params": 1e8 * np.exp(u),
                "tokens": 1e10 * np.exp(-u),
                "val_loss": 3 + 0.03 * u**2 + size * noise,
                "flops_budget": [6e18] * 7,
            }
        )
        [valley] = fit_isoflop(normalise(frame).used).valleys
        assert valley.status == "ok"
        assert (valley.n_interval is not None) == bounded


def test_a_valley_is_what_lies_within_six_times_its_minimum_or_four_points() -> None:
    [wide] = fit_isoflop(normalise(table(*isoflops(budgets=1, sizes=13, reach=30.0))).used).valleys
    N, D = isoflops(budgets=1, sizes=13, reach=30.0)
    assert wide.n_opt is not None
    within = np.abs(np.log(N / wide.n_opt)) <= np.log(6)
    assert wide.rows == tuple(np.flatnonzero(within).tolist())
    assert len(wide.rows_all) == 13
    N, D = isoflops(budgets=1, sizes=6, reach=5.0**2.5)
    [sparse] = fit_isoflop(normalise(table(N, D)).used).valleys
    assert len(sparse.rows) == 4


@pytest.mark.parametrize("dip", [4, 8])
def test_a_valley_moves_from_the_lowest_point_to_the_minimum(dip: int) -> None:
    u = np.linspace(-3.4, 3.4, 13)
    noise = np.zeros(13)
    noise[dip] = -0.045
    frame = pl.DataFrame(
        {
            "n_params": 1e8 * np.exp(u),
            "tokens": 1e10 * np.exp(-u),
            "val_loss": 3 + 0.03 * u**2 + noise,
            "flops_budget": [6e18] * 13,
        }
    )
    [valley] = fit_isoflop(normalise(frame).used).valleys
    assert valley.n_opt is not None
    around, lowest = (
        tuple(np.flatnonzero(np.abs(u - centre) <= np.log(6)).tolist())
        for centre in (np.log(valley.n_opt / 1e8), u[dip])
    )
    assert valley.rows == around != lowest


def test_the_parabola_that_is_drawn_is_the_one_through_the_points() -> None:
    N = np.geomspace(1e7, 1e9, 5)
    u, loss = parabola(N, 3 + 0.05 * np.log(N / 2e8) ** 2, points=9)
    assert u == pytest.approx(np.geomspace(1e7, 1e9, 9), rel=1e-9)
    assert loss == pytest.approx(3 + 0.05 * np.log(u / 2e8) ** 2, rel=1e-9)


def test_three_budgets_are_enough_to_weigh_them() -> None:
    fit = fit_isoflop(_valleys(budgets=3))
    assert fit.N_weighted is not None
    assert fit.N_weighted.budgets == 3


def test_rows_left_out_of_the_fit_are_in_no_valley() -> None:
    frame = _valleys()
    spoilt = frame.with_columns(val_loss=pl.col("val_loss") - 1.0).with_columns(
        row=pl.col("row") + 100, excluded_reason=pl.lit("diverged")
    )
    together = pl.concat([frame, spoilt])
    assert fit_isoflop(normalise(together).used).N == fit_isoflop(frame).N


def test_budgets_are_of_counted_flops_where_the_table_has_them() -> None:
    N = np.tile(np.geomspace(1e8, 1.6e9, 5), 2)
    C = np.repeat([1e18, 1e19], 5)
    frame = table(N, C / 50 / N**0.9).with_columns(train_flops=C)
    assert [flops for flops, _ in budgets(normalise(frame).used)] == pytest.approx([1e18, 1e19])


def test_a_row_of_small_steps_in_compute_is_no_budget() -> None:
    C = 1e18 * 1.05 ** np.arange(12)
    N = np.tile([1e8, 2e8, 4e8], 4)
    assert budgets(normalise(table(N, C / 6 / N)).used) == []


def test_a_minimum_at_the_edge_is_refused_with_the_size_to_add() -> None:
    frame = _valleys()
    cut = frame.filter(
        (pl.col("flops_6nd") > 2e18) | (pl.col("n_params") > 1.5 * frame["n_params"].min())
    )
    best = cut.filter(pl.col("flops_6nd") < 2e18).sort("val_loss")["n_params"][0]
    cut = cut.filter((pl.col("flops_6nd") > 2e18) | (pl.col("n_params") >= best))
    fit = fit_isoflop(cut)
    assert fit.valleys[0].status == "edge"
    assert fit.valleys[0].n_opt is None
    step = np.exp(np.log(16) / 6)
    assert f"add a size below it, N = {short(best / step)} for a start" in fit.valleys[0].advice
    assert fit.N is not None
    assert fit.N.budgets == 4


def test_two_sizes_and_downward_curves_are_refused() -> None:
    C, N = 6e18, np.array([1e8, 2e8, 4e8, 8e8])
    base = {"tokens": C / 6 / N, "n_params": N, "flops_budget": [C] * 4}
    hill = normalise(pl.DataFrame({**base, "val_loss": [3.1, 3.0, 3.3, 3.05]})).used
    assert fit_isoflop(hill).valleys[0].status in ("no_minimum", "edge")
    two = normalise(pl.DataFrame({**base, "val_loss": [3.1, 3.0, 3.1, 3.2]})).used[:2]
    valley = fit_isoflop(two).valleys[0]
    assert valley.status == "too_few_sizes"
    assert "train 1 more" in valley.advice


def test_the_vertex_interval_covers_the_minimum_at_its_level() -> None:
    N, D = isoflops(budgets=1, reach=2.0)
    exact = fit_isoflop(normalise(table(N, D)).used).valleys[0].n_opt
    assert exact is not None
    hits = 0
    for seed in range(300):
        runs = normalise(table(N, D, noise=3e-4, seed=seed))
        interval = fit_isoflop(runs.used).valleys[0].n_interval
        # An interval of None is unbounded, so it covers the truth.
        hits += interval is None or interval[0] <= exact <= interval[1]
    # 300 draws of a 90 % interval scatter by 1.7 %: three of them each way.
    assert 0.85 <= hits / 300 <= 0.95


def test_the_weighted_law_trusts_the_precise_budgets() -> None:
    N, D = isoflops(budgets=6)
    noise = np.where(6 * N * D < 5e18, 0.003, 1e-5)
    frame = normalise(table(N, D)).used
    rng = np.random.default_rng(1)
    frame = frame.with_columns(val_loss=frame["val_loss"] * np.exp(noise * rng.standard_normal(42)))
    fit = fit_isoflop(frame)
    assert fit.N is not None
    assert fit.N_weighted is not None
    off = abs(fit.N.exponent - CHINCHILLA.exponent_N)
    assert abs(fit.N_weighted.exponent - CHINCHILLA.exponent_N) < off


def _scattered() -> pl.DataFrame:
    """Parabolas whose minima scatter about C^0.5 by 0.1, known well at two budgets only."""
    rng = np.random.default_rng(2)
    parts = []
    for place, C in enumerate(np.geomspace(1e18, 1e21, 6)):
        log_N = np.log(1e8) + 0.5 * np.log(C / 1e18) + 0.1 * rng.standard_normal()
        # Uneven, so that errors of slope and curvature go together.
        u = log_N + np.array([-1.2, -1.1, -0.7, 0.0, 0.3, 0.5, 1.2])
        noise = (1e-5 if place in (0, 1) else 3e-3) * rng.standard_normal(7)
        # Counted FLOPs, of which every other budget's attention takes its own share.
        log_D = np.log(C / 6) - log_N - (1.0 if place % 2 else 0.6) * (u - log_N)
        parts.append(
            pl.DataFrame(
                {
                    "n_params": np.exp(u),
                    "tokens": np.exp(log_D),
                    "val_loss": 3 + 0.05 * (u - log_N) ** 2 + noise,
                    "flops_budget": C,
                }
            )
        )
    return normalise(pl.concat(parts)).used


@pytest.mark.parametrize("name", ["n", "d"])
def test_a_budget_weighs_by_its_own_and_the_common_variance(name: str) -> None:
    fit = fit_isoflop(_scattered())
    law = fit.N_weighted if name == "n" else fit.D_weighted
    assert law is not None
    X = np.stack([np.ones(6), np.log([v.flops for v in fit.valleys])], axis=1)
    X[:, 1] -= X[:, 1].mean()
    y = np.log([getattr(v, f"{name}_opt") for v in fit.valleys])
    own = np.array([getattr(v, f"{name}_se_log") for v in fit.valleys]) ** 2
    # DerSimonian and Laird 1986: the sum of squares that the own errors leave is n - p on
    # average, and rises with the common variance by the trace of what takes residuals.
    W = np.diag(1 / own)
    left = W - W @ X @ np.linalg.inv(X.T @ W @ X) @ X.T @ W
    common = (y @ left @ y - 4) / np.trace(left)
    assert common > 10 * own.min()
    weights = 1 / (own + common)
    # polyfit scales its covariance by the residuals, too, and wants roots of weights.
    line, covariance = np.polyfit(X[:, 1], y, 1, w=np.sqrt(weights), cov=True)
    # Both sides solve the same six equations; only rounding may differ.
    assert law.exponent == pytest.approx(line[0], rel=1e-6)
    half = student.ppf(0.95, 4) * np.sqrt(covariance[0, 0])
    assert law.exponent_interval == pytest.approx((line[0] - half, line[0] + half), rel=1e-6)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_a_power_laws_intervals_are_those_of_simple_regression(level: float) -> None:
    rng = np.random.default_rng(0)
    log_C = np.log(np.geomspace(1e18, 1e21, 6))
    log_N = np.log(0.3) + 0.53 * log_C + 0.1 * rng.standard_normal(6)
    law = power_law(log_C, log_N, level)
    line = linregress(log_C, log_N)
    width = student.ppf(0.5 + level / 2, 4)
    ends = [line.slope - width * line.stderr, line.slope + width * line.stderr]
    # ln C is near 45, so a coefficient at C = 1 keeps about ten of sixteen digits.
    assert law.exponent_interval == pytest.approx(tuple(ends), rel=1e-8)
    assert law.coef_interval is not None
    middle, half = line.intercept, width * line.intercept_stderr
    assert np.log(law.coef_interval) == pytest.approx([middle - half, middle + half], rel=1e-8)


def test_a_valley_is_the_least_squares_parabola_with_its_standard_errors() -> None:
    frame = _scattered()
    for valley, (_, part) in zip(fit_isoflop(frame).valleys, budgets(frame), strict=True):
        for name, column in (("n", "n_params"), ("d", "tokens")):
            u = np.log(part[column].to_numpy())

            def curve(u, place, height, bend):  # type: ignore[no-untyped-def]
                return height + bend * (u - place) ** 2

            start = (u.mean(), 3.0, 0.05)
            best, covariance = curve_fit(curve, u, part["val_loss"].to_numpy(), start)
            # curve_fit stops at about 1e-8 of its place, from differences of 1e-8.
            assert np.log(getattr(valley, f"{name}_opt")) == pytest.approx(best[0], abs=1e-5)
            se = getattr(valley, f"{name}_se_log")
            assert se == pytest.approx(covariance[0, 0] ** 0.5, rel=1e-3)
            if name == "n":
                assert valley.loss == pytest.approx(best[1], abs=1e-6)
                assert valley.curvature == pytest.approx(best[2], rel=1e-3)


def test_intervals_of_n_and_d_are_one_another_seen_along_the_budget() -> None:
    for place, valley in enumerate(fit_isoflop(_scattered(), level=0.8).valleys):
        assert valley.n_interval is not None
        assert valley.d_interval is not None
        slope = 1.0 if place % 2 else 0.6
        n_low, n_high = np.log(valley.n_interval) - np.log(valley.n_opt)
        d_low, d_high = np.log(valley.d_interval) - np.log(valley.d_opt)
        # ln D is linear in ln N; six digits are left of places near 20.
        assert (d_low, d_high) == pytest.approx((-slope * n_high, -slope * n_low), rel=1e-5)


def test_off_centre_grids_are_shown_to_bend_the_parabola() -> None:
    law = law_of("chinchilla", alpha=0.7, A=4e5, beta=0.4, B=4000.0)
    N, D = isoflops(law, sizes=9)
    drift = np.repeat(np.geomspace(3, 1 / 3, 5), 9)
    frame = normalise(table(N * drift, D / drift, law)).used
    fit = fit_isoflop(frame)
    bias = parabola_bias(fit, frame, law)
    assert fit.N is not None
    assert bias is not None
    assert bias.exponent_N_law == law.exponent_N
    assert abs(bias.exponent_N_parabola - law.exponent_N) > 0.005
    # The grid that is searched for the law's own minimum is 0.3 % fine.
    shifts = [v.n_opt / compute_optimal(law, v.flops)[0] for v in fit.valleys if v.n_opt]
    assert bias.shift_N_factors == pytest.approx(shifts, rel=3e-3)
    assert max(shifts) > 1.03
    # The losses are the law's own, so the fitted valleys must be bent just as foretold.
    assert bias.exponent_N_parabola == pytest.approx(fit.N.exponent, rel=1e-9)


def test_a_power_law_through_exact_points_is_exact() -> None:
    log_C = np.log(np.geomspace(1e18, 1e21, 4))
    law = power_law(log_C, np.log(0.3) + 0.53 * log_C, 0.9)
    assert law.exponent == pytest.approx(0.53, rel=1e-12)
    assert law.coef == pytest.approx(0.3, rel=1e-9)
    assert power_law(log_C[:2], log_C[:2], 0.9).exponent_interval is None


def test_named_budgets_that_differ_by_rounding_are_one_with_their_median() -> None:
    N, D = isoflops(budgets=3)
    named = np.repeat([1e18, 1e19, 1e20], 7) * np.tile(1 + 0.003 * np.arange(-3, 4), 3)
    used = normalise(table(N, D).with_columns(flops_budget=named)).used
    assert [flops for flops, _ in budgets(used)] == pytest.approx([1e18, 1e19, 1e20])
    assert [part.height for _, part in budgets(used)] == [7, 7, 7]


def test_a_budget_column_of_every_rows_own_compute_names_no_budgets() -> None:
    # Two hundred rows over two decades leave no gap of 2 % where they lie close.
    C = np.geomspace(1e18, 3e19, 200)
    N = np.sqrt(C) / 20
    used = normalise(table(N, C / 6 / N).with_columns(flops_budget=C)).used
    assert budgets(used) == []
