"""Profiles: where they cross their threshold, how far they look, what they hold."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from analysis.fit.parametric import pose
from analysis.law import Array, Constants, Form
from analysis.solver.objective import ObjectiveName
from analysis.solver.problem import Problem
from analysis.solver.profile import _along, _crossings, profile
from analysis.solver.search import find_optimum
from analysis.solver.uncertainty import leave_one_out, smoothed
from analysis.table.columns import normalise
from tests.simulated import isoflops, law_of, options, table


def _posed(
    noise: float = 0.005,
    objective: ObjectiveName = "mse_log",
    form: Form = "chinchilla",
    design: tuple[Array, Array] | None = None,
) -> tuple[Problem, Array]:
    frame = table(*(design or isoflops()), law_of(form), noise=noise)
    problem, _ = pose(normalise(frame), options(form=form, objective=objective))
    problem, optimum = find_optimum(problem)
    return problem, optimum.x


def test_crossings_of_a_parabola_are_exact_between_points() -> None:
    places = np.arange(-3.0, 8.0)
    # Half a step between points: the root of a parabola's rise is a line.
    assert _crossings(places, (places - 2) ** 2, 2.25, 2.0) == pytest.approx((0.5, 3.5))
    assert _crossings(places, (places - 2) ** 2, 4.0001, 2.0) == pytest.approx((0, 4), abs=1e-4)


def test_crossings_are_the_first_on_each_side_or_none() -> None:
    places = np.arange(7.0)
    waves = np.array([9.0, 0.0, 9.0, 0.0, 9.0, 0.0, 9.0])
    assert _crossings(places, waves, 2.25, 3.0) == pytest.approx((2.5, 3.5))
    flat = np.array([1.0, 1.0, 0.5, 0.0, 1.0, 4.0, 9.0])
    assert _crossings(places, flat, 2.25, 3.0) == (None, pytest.approx(4.5))
    assert _crossings(places, flat[::-1], 2.25, 3.0) == (pytest.approx(1.5), None)


def test_a_profile_that_never_rises_is_followed_to_its_limits() -> None:
    line = np.geomspace(5e7, 5e9, 12)
    problem, x = _posed(noise=0.003, design=(line, 20 * line))
    exponent = profile(problem, x, "exponent_N")
    assert exponent.interval == (None, None)
    assert exponent.values[[0, -1]] == pytest.approx([0.01, 0.99])
    size = profile(problem, x, "n_opt", flops=1e22)
    assert size.values[[0, -1]] / size.estimate == pytest.approx([1e-6, 1e6])


@pytest.mark.parametrize("noise", [0.005, 0.02])
def test_a_profile_looks_until_it_passes_its_threshold_or_the_limits(noise: float) -> None:
    problem, x = _posed(noise=noise, design=isoflops(budgets=3, sizes=4))
    wide = profile(problem, x, "exponent_N", level=0.9)
    assert wide.rise[0] > wide.threshold or wide.values[0] == pytest.approx(0.01)
    assert wide.rise[-1] > wide.threshold or wide.values[-1] == pytest.approx(0.99)


def test_the_size_of_n_times_that_of_d_is_the_budget() -> None:
    problem, x = _posed()
    N, D = (profile(problem, x, q, flops=6e21) for q in ("n_opt", "d_opt"))
    assert 6 * N.estimate * D.estimate == pytest.approx(6e21)
    # One is the other's mirror, so their ends multiply to the budget as well.
    for mine, theirs in zip(N.interval, D.interval[::-1], strict=True):
        assert mine is not None
        assert theirs is not None
        # Ends are read off a parabola between 25 points.
        assert 6 * mine * theirs == pytest.approx(6e21, rel=1e-2)


def test_tied_exponents_share_a_half_and_their_sizes_still_have_profiles() -> None:
    problem, x = _posed(form="tied")
    assert problem.constants(x[None]).exponent_N[0] == 0.5
    low, high = profile(problem, x, "n_opt", flops=1e21).interval
    truth, _ = Constants.of(law_of("tied")).compute_optimal(1e21)
    assert low is not None
    assert high is not None
    # Three times the 90 % interval each way leaves it once in a million.
    assert low * (low / high) < truth < high * (high / low)


def test_the_smoothing_of_absolute_deviations_is_far_below_their_scatter() -> None:
    problem, x = _posed(objective="lad_log")
    scatter = np.median(np.abs(problem.residuals(x[None])))
    for smooth in (smoothed(problem, x), smoothed(problem, x, parts=30)):
        assert 1e-12 < smooth.objective.delta < scatter / 10
        # The objective itself is the same to about the rows within delta.
        assert smooth.value(x[None])[0] == pytest.approx(problem.value(x[None])[0])
    squares, x = _posed()
    assert smoothed(squares, x) is squares
    found = profile(problem, _posed(objective="lad_log")[1], "exponent_N")
    low, high = found.interval
    assert low is not None
    assert high is not None
    assert low < found.estimate < high


def test_smoothing_absolute_deviations_does_not_move_what_is_drawn_from_them() -> None:
    problem, x = _posed(objective="lad_log")
    exact = []
    for row in (3, 20):
        weights = np.where(np.arange(35) == row, 1e-9, 1.0)
        _, optimum = find_optimum(replace(problem, weights=weights))
        exact.append(problem.constants(optimum.x[None]).alpha[0])
    ours = problem.constants(leave_one_out(problem, x)).alpha[[3, 20]]
    # A delta of a hundredth of the scatter moves an optimum by about as little.
    np.testing.assert_allclose(ours, exact, atol=2e-3)


@pytest.mark.parametrize(("basin", "expected"), [(1.0, {2, 3, 4}), (9.0, {3})])
def test_a_lower_basin_of_a_neighbour_is_searched_too_and_a_higher_one_not_taken(
    basin: float, expected: set[int]
) -> None:
    """Every held value ends in one basin, of value 5, but the fourth, which ends in another."""

    def solve(x: Array) -> SimpleNamespace:
        other = (x[:, 1] > 0) | (x[:, 0] == 3)
        return SimpleNamespace(x=np.stack([x[:, 0], np.where(other, 1.0, -1.0)], axis=1))

    def value(x: Array) -> Array:
        return np.asarray(x[:, 0] + np.where(x[:, 1] > 0, basin, 5.0))

    held = np.arange(7.0)
    posed = SimpleNamespace(
        chart=SimpleNamespace(held=np.array([True, False])), solve=solve, value=value
    )
    found = _along(posed, held, np.array([0.0, -0.5]))  # type: ignore[arg-type]
    assert found == [k + (basin if k in expected else 5.0) for k in range(7)]
