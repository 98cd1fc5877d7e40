"""A law of minima is weighted least squares, widened by their scatter about it."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.tuning.law import Exponents, TunedPoint, fit_laws
from analysis.tuning.surface import Axis, Optimum, Surface


def minima_about_a_law(scatter):
    """lr* = 2 N^-0.4 D^0.1 at six points, each known to 0.1 in logs and off by `scatter` of it."""
    # Not seed 0, from which the laws draw what is known of their exponents.
    rng = np.random.default_rng(1)
    points = []
    for N in (1e5, 4e5, 1.6e6):
        for D in (1e7, 4e7):
            noise = 0.1 * rng.standard_normal((4000, 1))
            off = scatter * 0.1 * rng.standard_normal()
            minimum = np.array([np.log(2) - 0.4 * np.log(N) + 0.1 * np.log(D) + off])
            surface = Surface(
                axes=(Axis("lr", 1e-6, 1.0),),
                centre=minimum,
                coef=np.array([3.0, 0.0, 0.03]),
                minimum=minimum,
                optima={"lr": Optimum(value=np.exp(minimum[0]), interval=(None, None), edge=None)},
                loss=3.0,
                noise=0.01,
                rows=(),
                coef_draws=np.empty((0, 3)),
                minimum_draws=minimum + noise,
                level=0.9,
            )
            points.append(TunedPoint(N, D, surface))
    return points


def test_minima_that_scatter_k_times_their_errors_widen_the_intervals_by_k():
    def half(scatter, level=0.9):
        law = fit_laws(minima_about_a_law(scatter), level)[0]
        low, high = law.intervals["exponent_N"]
        return (high - low) / 2

    # Twice the scatter is twice the width: the draws are the same, so only rounding differs.
    assert half(20) == pytest.approx(2 * half(10), rel=1e-9)
    # Minima nearer to the law than their errors say do not narrow it.
    assert half(0.1) == pytest.approx(half(0.0), rel=1e-9)
    # Least squares: 0.1 over the root of the sum of squares of six ln N about their mean, and
    # 1.645 of that at 90 %. 4000 draws tell an end to 2 %, and an error of each point too.
    known = 0.1 / np.sqrt(4) / np.log(4)
    assert half(0.0) == pytest.approx(1.645 * known, rel=0.05)
    assert half(0.0, level=0.5) == pytest.approx(0.674 * known, rel=0.05)
    # The errors of all six are alike, so Birge's factor is the root of the residuals' mean
    # square over them, with three of six degrees left.
    points = minima_about_a_law(10)
    X = np.stack([[1.0, np.log(point.N), np.log(point.D)] for point in points])
    y = np.array([point.surface.minimum[0] for point in points])
    residual = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
    birge = np.sqrt(residual @ residual / 3) / 0.1
    assert birge > 2
    assert half(10) / half(0.0) == pytest.approx(birge, rel=0.05)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_every_interval_of_a_law_is_the_middle_of_its_draws(level):
    law = fit_laws(minima_about_a_law(1.0), level)[0]
    tails = [(1 - level) / 2, (1 + level) / 2]
    columns = {"coef": np.exp(law.draws[:, 0]), "exponent_N": law.draws[:, 1]}
    columns["exponent_D"] = law.draws[:, 2]
    assert set(law.intervals) == set(columns)
    for name, column in columns.items():
        assert law.intervals[name] == pytest.approx(np.quantile(column, tails), rel=1e-9)
    drawn = columns["coef"] * 1e7 ** columns["exponent_N"] * 1e9 ** columns["exponent_D"]
    # Interpolated between neighbouring draws in logs, not in values.
    ends = np.quantile(drawn, tails)
    assert law.interval_at(1e7, 1e9, level) == pytest.approx(tuple(ends), rel=1e-4)
    # The draws are centred on the law.
    assert np.median(drawn) == pytest.approx(law.at(1e7, 1e9), rel=0.05)


def test_a_minimum_counts_by_the_inverse_of_its_variance():
    points = minima_about_a_law(5.0)
    errors = (0.05, 0.1, 0.2, 0.1, 0.3, 0.1)
    points = [
        replace(
            point,
            surface=replace(
                point.surface,
                minimum_draws=point.surface.minimum
                + error / 0.1 * (point.surface.minimum_draws - point.surface.minimum),
            ),
        )
        for point, error in zip(points, errors, strict=True)
    ]
    law = fit_laws(points, 0.9)[0]
    X = np.stack([[1.0, np.log(point.N), np.log(point.D)] for point in points])
    y = np.array([point.surface.minimum[0] for point in points])
    W = 1 / np.square(errors)
    best = np.linalg.solve((X.T * W) @ X, (X.T * W) @ y)
    plain = np.linalg.lstsq(X, y, rcond=None)[0]
    # Each error is read off 4000 draws, to 2 %.
    assert law.exponent_N == pytest.approx(best[1], abs=0.1 * abs(best[1] - plain[1]))
    assert abs(best[1] - plain[1]) > 0.05


def test_published_exponents_enter_as_minima_with_their_own_errors():
    known = Exponents(np.array([-0.2, 0.3]), np.array([[0.05, -0.02], [-0.02, 0.03]]) / 100, "")
    points = minima_about_a_law(0.0)
    law = fit_laws(points, 0.9, {"lr": known})[0]
    X = np.stack([[1.0, np.log(point.N), np.log(point.D)] for point in points])
    y = np.array([point.surface.minimum[0] for point in points])
    # The product of the minima's likelihood and the normal prior.
    precision = X.T @ X / 0.1**2
    right = X.T @ y / 0.1**2
    inverse = np.linalg.inv(known.covariance)
    precision[1:, 1:] += inverse
    right[1:] += inverse @ known.mean
    best = np.linalg.solve(precision, right)
    # Each error is read off 4000 draws, to 2 %.
    assert (law.exponent_N, law.exponent_D) == pytest.approx((best[1], best[2]), abs=5e-3)
    scatter = np.concatenate(
        [(y - X @ best) / 0.1, np.linalg.cholesky(inverse).T @ (known.mean - best[1:])]
    )
    # Eight measurements of three constants.
    birge = max(1.0, np.sqrt(scatter @ scatter / 5))
    sd = birge * np.sqrt(np.diag(np.linalg.inv(precision)))
    assert law.draws.std(axis=0)[1:] == pytest.approx(sd[1:], rel=0.05)
