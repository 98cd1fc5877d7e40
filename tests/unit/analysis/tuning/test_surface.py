"""A surface finds a known minimum, says how sure it is, and when it lies at the edge."""

import numpy as np
import pytest
from scipy.stats import qmc
from scipy.stats import t as student

from analysis.tuning.surface import (
    Axis,
    SurfaceError,
    Trials,
    _box_minimum,
    _line,
    fit_surfaces,
    near_minimum,
)

AXES = (Axis("lr", 2e-3, 0.06), Axis("batch_tokens", 256, 4096))
CURVATURE = np.array([[0.06, -0.012], [-0.012, 0.04]])


def trials(best, *, seed, count=16, noise=0.006):
    """Sobol points over the box, and losses of a known quadratic with the noise of seeds."""
    low, high = (np.log([getattr(axis, end) for axis in AXES]) for end in ("low", "high"))
    unit = qmc.Sobol(2, rng=seed).random(32)[:count]
    x = low + unit * (high - low)
    z = x - np.log(best)
    loss = 3.2 + np.einsum("ni,ij,nj->n", z, CURVATURE, z) / 2
    rng = np.random.default_rng(seed)
    return np.exp(x), (loss + noise * rng.standard_normal(count))[:, None]


def covers(optimum, truth):
    low, high = optimum.interval
    return (low or 0) <= truth <= (high or np.inf)


@pytest.mark.parametrize("count", [12, 24])
def test_ninety_percent_intervals_hold_the_known_optimum_in_85_to_95_percent_of_200(count):
    rng = np.random.default_rng(1)
    hits = np.zeros(2)
    for repeat in range(200):
        best = rng.uniform(6e-3, 1.6e-2), rng.uniform(600, 1600)
        points, losses = trials(best, seed=repeat, count=count)
        [[surface]] = fit_surfaces([Trials(AXES, points, losses)], draws=500)
        hits += [
            covers(surface.optima[axis.name], truth) for axis, truth in zip(AXES, best, strict=True)
        ]
    # 200 repeats of a true 90 % have a standard error of 2 %.
    assert (hits / 200 >= 0.85).all(), hits / 200
    assert (hits / 200 <= 0.95).all(), hits / 200


def test_without_noise_the_minimum_is_found_exactly():
    points, losses = trials((9e-3, 1000), seed=0, noise=0.0)
    [[surface]] = fit_surfaces([Trials(AXES, points, losses)])
    assert surface.optima["lr"].value == pytest.approx(9e-3, rel=1e-6)
    assert surface.optima["batch_tokens"].value == pytest.approx(1000, rel=1e-6)
    assert surface.loss == pytest.approx(3.2, abs=1e-9)
    np.testing.assert_allclose(surface.curvature, CURVATURE, atol=1e-8)


def test_the_surface_is_nearer_to_the_optimum_than_the_lowest_trial():
    missed = {"surface": [], "lowest": []}
    for seed in range(60):
        points, losses = trials((9e-3, 1000), seed=seed, count=16)
        [[surface]] = fit_surfaces([Trials(AXES, points, losses)], draws=50)
        missed["surface"].append(np.log(surface.optima["lr"].value / 9e-3))
        missed["lowest"].append(np.log(points[losses[:, 0].argmin(), 0] / 9e-3))
    rms = {name: np.sqrt(np.mean(np.square(values))) for name, values in missed.items()}
    assert rms["surface"] < rms["lowest"] / 2


def test_a_loss_is_what_the_surface_rises_above_its_minimum():
    points, losses = trials((9e-3, 1000), seed=0, noise=0.0)
    [[surface]] = fit_surfaces([Trials(AXES, points, losses)])
    lost, (low, high) = surface.lost(np.log([18e-3, 1000]))
    assert lost == pytest.approx(0.03 * np.log(2) ** 2, rel=1e-4)
    assert low <= lost * 1.01
    assert high >= lost * 0.99


@pytest.mark.parametrize(("best", "edge"), [((1e-4, 1000), "low"), ((2.0, 1000), "high")])
def test_an_optimum_outside_the_range_is_at_its_edge_and_open(best, edge):
    points, losses = trials(best, seed=0, noise=1e-4)
    [[surface]] = fit_surfaces([Trials(AXES, points, losses)], within=10)
    found = surface.optima["lr"]
    assert found.edge == edge
    assert found.interval[("low", "high").index(edge)] is None
    assert found.value == pytest.approx(getattr(AXES[0], edge))


def least_squares(points, losses):
    """Design, coefficients, residual variance and degrees of freedom of all trials, by hand."""
    x = np.log(points) - np.log(points).mean(axis=0)
    design = np.column_stack([np.ones(len(x)), x, x**2, x[:, 0] * x[:, 1]])
    coef = np.linalg.lstsq(design, losses, rcond=None)[0]
    free = len(x) - 6
    return design, coef, np.sum((losses - design @ coef) ** 2) / free, free


def test_draws_have_the_scatter_of_a_least_squares_fit_with_students_tails():
    points, losses = trials((9e-3, 1000), seed=3, count=14)
    [[surface]] = fit_surfaces([Trials(AXES, points, losses)], within=10, draws=20_000)
    design, coef, variance, free = least_squares(points, losses[:, 0])
    np.testing.assert_allclose(surface.coef, coef, rtol=1e-6)
    assert surface.noise == pytest.approx(np.sqrt(variance), rel=1e-6)
    se = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    for level in (0.5, 0.9, 0.98):
        ends = np.quantile(surface.coef_draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
        # 20 000 draws tell an end at 1 % to 2 % of it, four such each way.
        np.testing.assert_allclose(
            (ends[1] - ends[0]) / 2 / se, student.ppf(0.5 + level / 2, free), rtol=0.08
        )


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_intervals_of_a_minimum_and_of_a_loss_are_the_middle_of_the_draws(level):
    points, losses = trials((9e-3, 1000), seed=3)
    [[surface]] = fit_surfaces([Trials(AXES, points, losses)], level=level)
    tails = [(1 - level) / 2, (1 + level) / 2]
    for k, axis in enumerate(AXES):
        found = surface.optima[axis.name]
        ends = np.exp(np.quantile(surface.minimum_draws[:, k], tails))
        assert found.interval == pytest.approx(tuple(ends), rel=1e-9)
    at = np.log([0.03, 1000])
    _, ends = surface.lost(at)

    def losses_at(logs):
        x = logs - surface.centre
        terms = np.column_stack([np.ones(len(x)), x, x**2, x[:, 0] * x[:, 1]])
        return (terms * surface.coef_draws).sum(axis=1)

    above = losses_at(np.repeat(at[None], 2000, axis=0)) - losses_at(surface.minimum_draws)
    assert ends == pytest.approx(tuple(np.quantile(above, tails)), rel=1e-6)


def test_the_minimum_within_the_box_is_the_least_point_of_a_fine_grid():
    fine = np.stack(
        np.meshgrid(*(np.linspace(np.log(a.low), np.log(a.high), 301) for a in AXES)), axis=-1
    ).reshape(-1, 2)
    sides = set()
    for seed, best in enumerate(
        [(9e-3, 1000), (0.2, 1000), (5e-4, 1000), (9e-3, 5e4), (9e-3, 20), (0.2, 5e4), (5e-4, 5e4)]
    ):
        points, losses = trials(best, seed=seed, noise=1e-3)
        [[surface]] = fit_surfaces([Trials(AXES, points, losses)], within=10, draws=10)
        on_grid = fine[surface.at(fine).argmin()]
        # A step of the grid is 0.011 along the rate and 0.009 along the batch.
        np.testing.assert_allclose(surface.minimum, on_grid, atol=0.012)
        assert surface.loss <= surface.at(fine).min() + 1e-12
        sides |= {(axis.name, surface.optima[axis.name].edge) for axis in AXES}
    assert sides == {(axis.name, edge) for axis in AXES for edge in (None, "low", "high")}


@pytest.mark.parametrize("sign", [1, -1])
def test_a_surface_that_bends_down_is_least_at_a_corner(sign):
    points, _ = trials((9e-3, 1000), seed=0)
    x = np.log(points) - np.log([9e-3, 1000])
    hill = 3 - 0.01 * (x**2).sum(axis=1) + sign * 0.02 * x[:, 0]
    [[surface]] = fit_surfaces([Trials(AXES, points, hill[:, None])], within=10)
    ends = np.array([[a.low, a.high] for a in AXES])
    corners = np.log(np.stack(np.meshgrid(*ends), axis=-1).reshape(-1, 2))
    assert surface.loss == pytest.approx(surface.at(corners).min(), abs=1e-9)
    assert surface.optima["lr"].edge == ("low" if sign > 0 else "high")


def test_a_trials_height_is_over_each_budgets_own_lowest():
    # A long budget's losses are lower throughout, a short one's best trials differ.
    losses = np.array([[4.0, 2.0], [4.1, 2.01], [4.2, 2.02], [4.0, 2.5], [5.0, 2.3]])
    rows = near_minimum(losses, constants=-1, within=0.03)
    # Means over the lowest: 1, 1.015, 1.03, 1.125, 1.2.
    assert rows.tolist() == [0, 1, 2]


def test_as_many_trials_as_a_fit_needs_and_one_more_are_near_however_high():
    losses = np.linspace(3.0, 6.0, 12)[:, None]
    assert near_minimum(losses, constants=6, within=0.03).tolist() == list(range(9))


def test_eight_trials_are_enough_for_a_rate_and_a_batch():
    points, losses = trials((9e-3, 1000), seed=0, count=8, noise=1e-4)
    [[surface]] = fit_surfaces([Trials(AXES, points, losses)])
    assert len(surface.rows) == 8


def test_budgets_of_the_same_trials_share_their_luck():
    points, losses = trials((9e-3, 1000), seed=0)
    both = np.concatenate([losses, losses], axis=1)
    [[first, second]] = fit_surfaces([Trials(AXES, points, both)])
    np.testing.assert_allclose(first.minimum_draws, second.minimum_draws)


def test_companions_have_optima_of_their_own():
    axes = (*AXES, Axis("weight_decay", 0.02, 0.5))
    rng = np.random.default_rng(0)
    low, high = (np.log([getattr(axis, end) for axis in axes]) for end in ("low", "high"))
    x = low + rng.random((30, 3)) * (high - low)
    z = x - np.log([9e-3, 1000, 0.1])
    loss = 3.2 + 0.03 * z[:, 0] ** 2 + 0.02 * z[:, 1] ** 2 + 0.01 * z[:, 2] ** 2
    [[surface]] = fit_surfaces([Trials(axes, np.exp(x), loss[:, None])])
    assert surface.optima["weight_decay"].value == pytest.approx(0.1, rel=1e-6)


def test_too_few_trials_are_refused_with_the_number_it_takes():
    points, losses = trials((9e-3, 1000), seed=0, count=7)
    with pytest.raises(SurfaceError, match="has 6 constants and needs 8 trials or more"):
        fit_surfaces([Trials(AXES, points, losses)])


def test_trials_on_one_line_are_refused():
    points, losses = trials((9e-3, 1000), seed=0)
    points[:, 1] = 1000
    with pytest.raises(SurfaceError, match="do not spread over all of lr, batch_tokens"):
        fit_surfaces([Trials(AXES, points, losses)])


def two_sizes(*, seed, factor=1.0, noise=0.006):
    """Two sizes searched alike, the second one's losses steeper by a factor."""
    first, second = (trials(best, seed=seed + k, noise=noise) for k, best in enumerate(TWO))
    steeper = (second[0], 3.2 + (second[1] - 3.2) * factor)
    return [Trials(AXES, *first), Trials(AXES, *steeper)]


TWO = ((8e-3, 900), (1.2e-2, 1200))


def test_sizes_that_share_a_curvature_are_told_more_sharply_and_as_honestly():
    hits, widths, alone = [], [], []
    for seed in range(0, 400, 2):
        sizes = two_sizes(seed=seed)
        for best, [found], size in zip(TWO, fit_surfaces(sizes, draws=300), sizes, strict=True):
            hits.append([covers(found.optima[a.name], t) for a, t in zip(AXES, best, strict=True)])
            widths.append(np.std(found.minimum_draws[:, 0]))
            alone.append(np.std(fit_surfaces([size], draws=300)[0][0].minimum_draws[:, 0]))
    assert np.median(widths) < 0.9 * np.median(alone)
    share = np.mean(hits, axis=0)
    assert (share >= 0.85).all(), share
    assert (share <= 0.95).all(), share


def test_sizes_whose_curvatures_differ_are_fitted_apart():
    [[flat], [steep]] = fit_surfaces(two_sizes(seed=0, factor=6.0))
    np.testing.assert_allclose(np.diag(steep.curvature) / np.diag(flat.curvature), 6, rtol=0.4)
    [[one], [other]] = fit_surfaces(two_sizes(seed=0))
    np.testing.assert_allclose(one.curvature, other.curvature)


def test_only_trials_within_three_per_cent_of_the_lowest_shape_the_surface():
    points, losses = trials((9e-3, 1000), seed=0, count=32, noise=0.0)
    near = np.flatnonzero(losses[:, 0] <= 1.03 * losses[:, 0].min())
    assert 9 < len(near) < 32
    losses[losses > 1.03 * losses.min()] += 0.3
    [[surface]] = fit_surfaces([Trials(AXES, points, losses)])
    assert surface.rows == tuple(near.tolist())
    assert surface.loss == pytest.approx(3.2, abs=1e-9)


def test_one_curvature_is_taken_for_two_about_one_time_in_twenty():
    apart = 0
    for seed in range(0, 200, 2):
        [[one], [other]] = fit_surfaces(two_sizes(seed=seed), draws=2)
        apart += not np.allclose(one.curvature, other.curvature)
    # 5 of 100 by the test's own level, with a standard error of 2; trials are picked by loss.
    assert 1 <= apart <= 13


def test_the_least_point_of_a_parabola_between_two_ends_is_inside_or_at_the_lower_end():
    slope, square = (
        grid.ravel()
        for grid in np.meshgrid([-3.0, -0.4, 0.0, 0.5, 2.0], [-2.0, -0.3, 0.0, 0.3, 2.0])
    )
    low, high = -0.5, 2.0
    x = np.linspace(low, high, 2501)
    found = _line(slope, square, low, high)
    for a, b, at in zip(slope, square, found, strict=True):
        assert low <= at <= high
        # A step of the grid errs by its square.
        assert a * at + b * at**2 == pytest.approx((a * x + b * x**2).min(), abs=1e-6)


def test_the_least_point_of_a_quadratic_in_a_box_is_that_of_a_fine_grid():
    rng = np.random.default_rng(0)
    coef = rng.uniform(-1, 1, (200, 6))
    low, high = np.array([-0.5, -1.0]), np.array([2.0, 0.7])
    x, y = np.meshgrid(np.linspace(low[0], high[0], 101), np.linspace(low[1], high[1], 101))

    def value(c, x, y):
        return c[1] * x + c[2] * y + c[3] * x**2 + c[4] * y**2 + c[5] * x * y

    for c, (a, b) in zip(coef, _box_minimum(coef, low, high), strict=True):
        assert low[0] <= a <= high[0]
        assert low[1] <= b <= high[1]
        # The grid is never lower, and its step of a fiftieth errs by its square.
        assert value(c, a, b) <= value(c, x, y).min() + 1e-12
        assert value(c, a, b) == pytest.approx(value(c, x, y).min(), abs=2e-3)
