"""Approach 2: valleys, refusals with advice, power laws; approach 1: the envelope."""

import numpy as np
import polars as pl
import pytest

from analysis.fit.envelope import fit_envelope
from analysis.fit.isoflop import budgets, fit_isoflop, parabola_bias
from analysis.fit.power_law import power_law
from analysis.foreign_table import normalise
from analysis.observations import TableError
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
    assert "add a size below" in fit.valleys[0].advice
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
        # None is an unbounded interval, which covers.
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
    # The losses are the law's own, so the fitted valleys must be bent just as foretold.
    assert bias.exponent_N_parabola == pytest.approx(fit.N.exponent, rel=1e-9)


def test_a_power_law_through_exact_points_is_exact() -> None:
    log_C = np.log(np.geomspace(1e18, 1e21, 4))
    law = power_law(log_C, np.log(0.3) + 0.53 * log_C, 0.9)
    assert law.exponent == pytest.approx(0.53, rel=1e-12)
    assert law.coef == pytest.approx(0.3, rel=1e-9)
    assert power_law(log_C[:2], log_C[:2], 0.9).exponent_interval is None


def _curves() -> pl.DataFrame:
    parts = []
    for N in np.geomspace(2e7, 2e9, 9):
        D = np.geomspace(0.5, 400, 150) * N
        parts.append(
            pl.DataFrame(
                {
                    "run_id": f"{N:.3e}",
                    "n_params": N,
                    "tokens": D,
                    "train_flops": 6 * N * D,
                    "train_loss": CHINCHILLA.loss(N, D),
                }
            )
        )
    return pl.concat(parts)


def test_the_envelope_of_exact_curves_has_the_laws_exponents() -> None:
    fit = fit_envelope(_curves())
    assert fit.N is not None
    assert fit.D is not None
    # Sizes are a factor 1.8 apart, so the hull is a staircase around the frontier.
    assert fit.N.exponent == pytest.approx(CHINCHILLA.exponent_N, abs=0.03)
    assert fit.D.exponent == pytest.approx(CHINCHILLA.exponent_D, abs=0.03)
    assert fit.N.exponent_interval is not None
    assert fit.N.exponent_interval[0] <= CHINCHILLA.exponent_N <= fit.N.exponent_interval[1]


def test_no_curve_point_lies_below_the_hull() -> None:
    curves = _curves()
    hull = fit_envelope(curves).hull
    x, y = hull["train_flops"].to_numpy(), hull["loss"].to_numpy()
    inside = curves.filter(
        pl.col("train_flops").is_between(hull["train_flops"].min(), hull["train_flops"].max())
    )
    line = np.interp(inside["train_flops"].to_numpy(), x, y)
    # Bins keep medians, so a point may pass below by the width of a bin.
    assert (inside["train_loss"].to_numpy() >= line - 0.02).all()
    assert (np.diff(np.diff(y) / np.diff(x)) >= -1e-12).all()


def test_one_size_makes_no_envelope_law_and_says_so() -> None:
    curves = _curves()
    fit = fit_envelope(curves.filter(pl.col("n_params") == curves["n_params"][0]))
    assert fit.N is None
    assert "sizes" in fit.reason


def test_curves_with_bad_values_or_columns_are_refused() -> None:
    with pytest.raises(TableError, match="no column train_loss"):
        fit_envelope(_curves().drop("train_loss"))
    bad = _curves().with_columns(train_loss=pl.lit(float("nan")))
    with pytest.raises(TableError, match="not finite"):
        fit_envelope(bad)
