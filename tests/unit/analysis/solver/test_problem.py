"""The search: which end is the best, who else came there, and what was given up."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.fit.parametric import pose
from analysis.law import Array, Form
from analysis.solver.lad import polish_lad
from analysis.solver.newton import Solution
from analysis.solver.objective import Objective, ObjectiveName, Rows
from analysis.solver.problem import Problem, make_problem
from analysis.solver.search import _distinct, _judge, find_optimum
from analysis.table.columns import normalise
from tests.simulated import grid, law_of, options, table, weighed

FORMS: tuple[Form, ...] = ("chinchilla", "gamma", "tied", "kaplan", "data_constrained")


def test_rows_that_differ_in_luck_share_a_place() -> None:
    N, D = np.array([1e8, 1e8 * 1.00001, 1e8, 1.01e8]), np.array([1e10, 1e10, 1.01e10, 1e10])
    loss = np.ones(4)
    assert Rows.of(N, D, loss).places == 3
    unique = np.array([1e9, 2e9, 1e9, 1e9])
    assert Rows.of(N, D, loss, unique).places == 4


def _problem(objective: ObjectiveName = "mse_log", noise: float = 0.005) -> tuple[Problem, Array]:
    problem, _ = pose(
        normalise(table(*grid(), noise=noise)),
        options(objective=objective),
    )
    problem, optimum = find_optimum(problem)
    return problem, optimum.x


def _ends(problem: Problem, x: Array, converged: list[bool]) -> Solution:
    at_bound = np.zeros(x.shape, bool)
    return Solution(x, problem.value(x), np.zeros_like(x), np.array(converged), at_bound)


def _away(problem: Problem, x: Array, rise: float) -> Array:
    """A point at which the objective is `rise` times that of the optimum."""
    low, high = 0.0, 0.5
    for _ in range(60):
        middle = (low + high) / 2
        at = problem.value((x + middle * np.eye(5)[0])[None])[0] / problem.value(x[None])[0]
        low, high = (middle, high) if at < rise else (low, middle)
    return np.asarray(x + low * np.eye(5)[0])


@pytest.mark.parametrize(
    ("rise", "converged", "kept"), [(1.049, True, True), (1.051, True, False), (1.01, False, False)]
)
def test_a_second_basin_lies_within_five_percent_and_has_converged(
    rise: float, converged: bool, kept: bool
) -> None:
    problem, x = _problem()
    other = _away(problem, x, rise)
    found = _judge(
        problem, np.stack([other, x]), _ends(problem, np.stack([other, x]), [converged, True])
    )
    np.testing.assert_array_equal(found.x, x)
    assert (found.second_best is not None) == kept
    if found.second_best is not None:
        assert found.second_best[0] == pytest.approx(rise * found.value, rel=1e-6)
        np.testing.assert_array_equal(found.second_best[1], other)


def test_starts_that_went_on_as_one_count_each() -> None:
    problem, x = _problem()
    other = _away(problem, x, 2.0)
    ends = _ends(problem, np.stack([other, x, x + 1e-7]), [True] * 3)
    # Six starts: one went to the far end, three on to x, two to its neighbour.
    starts = np.repeat((x + 0.3)[None], 6, axis=0)
    starts[1, :3] = x[0] + 1e-3, x[1] + 0.2, x[2]
    found = _judge(problem, starts, ends, np.array([0, 1, 1, 1, 2, 2]))
    assert (found.starts, found.agree) == (6, 5)
    # B ended exactly where the start that led there had put it.
    assert found.unmoved == ("B",)


def test_constants_on_their_box_are_named_and_out_of_the_gradients_norm() -> None:
    problem, x = _problem()
    ends = replace(
        _ends(problem, x[None], [True]),
        at_bound=np.array([[False, False, True, False, True]]),
        gradient=np.array([[3.0, 0.0, 100.0, 4.0, 100.0]]),
    )
    found = _judge(problem, x[None], ends)
    assert found.at_bound == ("B", "beta")
    assert found.gradient_norm == pytest.approx(5.0)


def test_of_equal_ends_one_that_converged_is_the_best() -> None:
    problem, x = _problem()
    assert _judge(
        problem, np.stack([x, x]), _ends(problem, np.stack([x, x]), [False, True])
    ).converged


def test_points_closer_than_a_thousandth_are_one() -> None:
    x = np.array([[1.0, 2.0], [1.0, 2.002], [1.0, 2.004], [5.0, 2.0], [5.001, 2.0]])
    # Relative to 1 + the largest coordinate: 1e-3 of 3, and of 6.
    chosen, member = _distinct(x)
    assert member.tolist() == [0, 0, 1, 2, 2]
    np.testing.assert_array_equal(chosen, x[[0, 2, 3]])


@pytest.mark.parametrize("form", FORMS)
def test_slopes_of_residuals_are_those_of_log_loss(form: Form) -> None:
    problem, _ = pose(
        normalise(table(*grid(), law_of(form), noise=0.01)),
        options(form=form, objective="mse_log"),
    )
    problem, optimum = find_optimum(problem)
    step = 1e-3 * np.random.default_rng(0).standard_normal(len(optimum.x))
    moved = (
        problem.residuals((optimum.x + step)[None])[0]
        - problem.residuals((optimum.x - step)[None])[0]
    )
    # A chord of 1e-3 errs by its square.
    np.testing.assert_allclose(problem.slope(optimum.x) @ step, moved / 2, rtol=1e-3, atol=1e-6)
    assert problem.value(optimum.x[None])[0] == pytest.approx(
        0.5 * (problem.residuals(optimum.x[None]) ** 2).sum()
    )


def test_a_problems_weights_have_mean_one() -> None:
    problem, _ = _problem()
    weighed = make_problem(
        "chinchilla", problem.objective, problem.rows, np.linspace(1, 5, len(problem.rows.loss))
    )
    assert weighed.weights.mean() == pytest.approx(1)
    assert weighed.weights[-1] == pytest.approx(5 * weighed.weights[0])


def test_e_is_given_up_only_when_that_fits_as_well() -> None:
    N, D = grid()
    none, _ = pose(
        normalise(table(N, D, law_of("chinchilla", E=1e-9))),
        options(objective="mse_log"),
    )
    reduced, optimum = find_optimum(none)
    # E of 1e-9 in losses of 0.4 is below their box of e^-14.
    assert reduced.zero_E
    assert optimum.at_bound == ("E",)
    assert reduced.constants(optimum.x[None]).E[0] == 0.0
    # An E of 1e-3 moves the least losses by 0.3 %, noise by 0.01 %: giving it up fits worse.
    small = table(N, D, law_of("chinchilla", E=1e-3), noise=1e-4)
    some, _ = pose(normalise(small), options(objective="mse_log"))
    kept, optimum = find_optimum(some)
    assert not kept.zero_E
    assert kept.constants(optimum.x[None]).E[0] == pytest.approx(1e-3, rel=0.3)


def test_only_the_lowest_ends_are_polished_and_those_near_them_follow() -> None:
    problem, best = _problem("lad_log")
    smooth = replace(problem, objective=Objective("lad_log", 1e-4))
    end = smooth.solve(best[None] + 0.001).x[0]
    far = [_away(problem, best, rise) for rise in (1.5, 2.0, 3.0, 4.0)]
    x = np.stack([far[3], end, far[1], end + 1e-5, far[0]])
    out = polish_lad(problem, _ends(problem, x, [True] * 5), most=1)
    assert out.converged.tolist() == [False, True, False, True, False]
    np.testing.assert_array_equal(out.x[1], out.x[3])
    np.testing.assert_allclose(out.x[1], best, atol=1e-9)
    np.testing.assert_array_equal(out.x[[0, 2, 4]], x[[0, 2, 4]])
    np.testing.assert_allclose(out.value, problem.value(out.x))
    assert not out.at_bound.any()


@pytest.mark.parametrize("far", [0.02, 0.3, 0.7])
def test_linear_programs_find_the_weighted_optimum_from_afar(far: float) -> None:
    frame = table(*grid(), noise=0.005)
    weights = np.random.default_rng(4).uniform(0.2, 3.0, 36)
    problem, _ = pose(
        weighed(frame, weights),
        options(objective="lad_log"),
    )
    problem, optimum = find_optimum(problem)
    start = optimum.x + far * np.array([1.0, -1.0, 1.0, 0.3, -0.3])
    out = polish_lad(problem, _ends(problem, start[None], [False]))
    assert out.converged[0]
    # A vertex is exact to the programs' own last step of 1e-8.
    np.testing.assert_allclose(out.x[0], optimum.x, atol=1e-7)


@pytest.mark.parametrize("side", [-1, 1])
def test_least_absolute_deviations_stop_at_their_box(side: int) -> None:
    problem, best = _problem("lad_log")
    lower, upper = problem.chart.lower.copy(), problem.chart.upper.copy()
    face = best[3] + side * 0.01
    (lower if side > 0 else upper)[3] = face
    boxed = replace(problem, chart=replace(problem.chart, lower=lower, upper=upper))
    start = best + side * 0.05 * np.eye(5)[3]
    out = polish_lad(boxed, _ends(boxed, start[None], [True]))
    assert out.at_bound[0].tolist() == [False, False, False, True, False]
    assert out.x[0, 3] == face
    # One constant is held by the box, so one residual fewer vanishes.
    assert (np.abs(boxed.residuals(out.x)[0]) < 1e-10).sum() == 4
    assert problem.value(best[None])[0] < out.value[0]


def test_a_start_for_which_the_linear_program_fails_has_not_converged() -> None:
    problem, best = _problem("lad_log")
    chart = problem.chart
    # Outside the box by more than the trust region's radius, so no step is allowed.
    start = np.where(np.arange(5) == 3, chart.upper + 0.5, best)
    out = polish_lad(problem, _ends(problem, start[None], [True]))
    assert not out.converged[0]
    np.testing.assert_array_equal(out.x[0], start)
    assert out.value[0] > 10 * problem.value(best[None])[0]
