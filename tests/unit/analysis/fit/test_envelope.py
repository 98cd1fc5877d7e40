"""Approach 1: the envelope of training curves, and the power laws through its hull."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import t as student

from analysis.fit.envelope import fit_envelope
from analysis.table.observations import TableError
from tests.simulated import CHINCHILLA


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


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_envelopes_interval_is_the_jackknife_over_runs(level: float) -> None:
    # Counted FLOPs, under which the exponents of N and D do not move as one.
    curves = _curves().filter(pl.col("n_params") < 3e8)
    curves = curves.with_columns(train_flops=50 * pl.col("n_params") ** 0.9 * pl.col("tokens"))
    fit = fit_envelope(curves, level=level)
    runs = curves["run_id"].unique(maintain_order=True)
    without = [fit_envelope(curves.filter(pl.col("run_id") != run)) for run in runs]
    for name in ("N", "D"):
        law = getattr(fit, name)
        left = np.array([getattr(other, name).exponent for other in without])
        # Efron and Tibshirani 1993, eq. 11.5.
        n = len(left)
        se = np.sqrt((n - 1) / n * np.sum((left - left.mean()) ** 2))
        half = student.ppf(0.5 + level / 2, n - 1) * se
        ends = (law.exponent - half, law.exponent + half)
        assert law.exponent_interval == pytest.approx(ends, rel=1e-9)


def test_a_vertex_of_the_hull_weighs_by_the_stretch_of_compute_around_it() -> None:
    fit = fit_envelope(_curves())
    used = fit.hull.filter("used")
    x = np.log(used["train_flops"].to_numpy())
    stretch = np.concatenate([[x[1] - x[0]], (x[2:] - x[:-2]) / 2, [x[-1] - x[-2]]])
    for law, column in ((fit.N, "n_params"), (fit.D, "tokens")):
        line = np.polyfit(x, np.log(used[column].to_numpy()), 1, w=np.sqrt(stretch))
        assert law is not None
        # Both solve the same two equations; only rounding may differ.
        assert law.exponent == pytest.approx(line[0], rel=1e-9)
        even = np.polyfit(x, np.log(used[column].to_numpy()), 1)
        assert abs(even[0] - line[0]) > 1e-3


def test_the_end_sizes_of_the_hull_give_one_vertex_each() -> None:
    hull = fit_envelope(_curves()).hull
    sizes, used = hull["n_params"].to_numpy(), hull["used"].to_numpy()
    for end in (sizes[0], sizes[-1]):
        assert (sizes == end).sum() > 1
        assert used[sizes == end].sum() == 1
    # Of the smallest its last vertex, of the largest its first.
    assert used[(sizes == sizes[0]).sum() - 1]
    assert used[len(sizes) - (sizes == sizes[-1]).sum()]
    assert used[(sizes != sizes[0]) & (sizes != sizes[-1])].all()


def test_one_lucky_point_of_a_curve_does_not_make_the_envelope() -> None:
    curves = pl.concat(
        part.with_columns(pl.lit(k).alias("k"))
        for k in range(8)
        for part in [_curves().with_columns(train_flops=pl.col("train_flops") * (1 + 1e-5 * k))]
    )
    lucky = curves.with_columns(
        train_loss=pl.when(pl.col("k") == 3).then(1.0).otherwise("train_loss")
    )
    assert fit_envelope(lucky.drop("k")).hull["loss"].min() > 1.9


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


def test_a_hull_ends_at_its_lowest_loss() -> None:
    curves = _curves()
    last = curves.filter(pl.col("train_flops") == pl.col("train_flops").max())
    rising = pl.concat(
        last.with_columns(
            train_flops=pl.col("train_flops") * factor, train_loss=pl.col("train_loss") + 0.1
        )
        for factor in (2.0, 4.0)
    )
    hull = fit_envelope(pl.concat([curves, rising])).hull
    assert hull["loss"].is_sorted(descending=True)
    assert hull["loss"][-1] == pytest.approx(curves["train_loss"].min(), rel=1e-9)
