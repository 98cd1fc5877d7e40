"""Newton's method in a box, and the derivatives it steps by."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.fit.parametric import pose
from analysis.law import Array
from analysis.solver import kernels
from analysis.solver import newton as solver
from analysis.solver.objective import Objective, ObjectiveName, Rows
from analysis.solver.problem import Problem, make_problem
from analysis.solver.profile import Quantity, _exponent_chart, _size_chart
from analysis.solver.search import find_optimum
from analysis.table.columns import normalise
from tests.simulated import grid, law_of, options, table

OBJECTIVES: tuple[ObjectiveName, ...] = ("huber_log", "lad_log", "mse_log", "mse")


def _problem(noise: float = 0.0) -> tuple[Problem, Array]:
    """Squared errors of log-loss on a grid, and their optimum."""
    posed, _ = pose(
        normalise(table(*grid(), noise=noise)),
        options(objective="mse_log"),
    )
    posed, optimum = find_optimum(posed)
    return posed, optimum.x


def _boxed(problem: Problem, lower: Array, upper: Array) -> Problem:
    return replace(problem, chart=replace(problem.chart, lower=lower, upper=upper))


@pytest.mark.parametrize("reach", [0.02, 0.1])
def test_a_start_on_the_edge_of_the_box_moves_inside_to_the_optimum(reach: float) -> None:
    problem, best = _problem()
    narrow = _boxed(problem, best - reach, best + reach)
    # Ten starts, each on one face of the box.
    starts = best + reach * np.concatenate([np.eye(5), -np.eye(5)])
    solution = narrow.solve(starts)
    # Noise-free losses have their minimum at the law itself; the last step squares its error.
    np.testing.assert_allclose(solution.x, np.tile(best, (10, 1)), atol=1e-7)
    assert not solution.at_bound.any()
    assert solution.converged.all()


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("k", range(5))
def test_an_optimum_outside_the_box_leaves_the_others_at_their_best_on_its_face(
    k: int, side: int
) -> None:
    problem, best = _problem(noise=0.003)
    face = best[k] + side * 0.02
    lower, upper = problem.chart.lower.copy(), problem.chart.upper.copy()
    (lower if side > 0 else upper)[k] = face
    solution = _boxed(problem, lower, upper).solve(best[None] + side * 0.05 * np.eye(5)[k])
    assert solution.at_bound[0].tolist() == [j == k for j in range(5)]
    assert solution.x[0, k] == face
    assert solution.converged[0]
    # The gradient pushes against the face and vanishes along it.
    assert solution.gradient[0, k] * side > 1e-9
    others = np.arange(5) != k
    theta = problem.chart.to_theta(solution.x)
    _, _, hessian = problem.kernel(problem.rows, problem.objective, theta, problem.weights[None])
    assert np.abs(solution.gradient[0, others]).max() < 1e-9 * np.abs(hessian).max()


def test_a_held_coordinate_stays_where_each_problem_put_it() -> None:
    problem, best = _problem()
    held = replace(problem, chart=replace(problem.chart, held=np.arange(5) == 3))
    starts = np.repeat(best[None], 3, axis=0)
    starts[:, 3] += [-0.05, 0.0, 0.05]
    solution = held.solve(starts)
    np.testing.assert_array_equal(solution.x[:, 3], starts[:, 3])
    assert solution.converged.all()
    assert solution.value[1] < 1e-20
    assert (solution.value[[0, 2]] < held.value(starts)[[0, 2]]).all()


def test_problems_solved_in_parts_keep_their_own_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, best = _problem(noise=0.005)
    weights = np.random.default_rng(0).uniform(0.2, 2.0, (7, 36))
    starts = np.repeat(best[None], 7, axis=0)
    together = problem.solve(starts, weights)
    monkeypatch.setattr(solver, "_BATCH_ELEMENTS", 2 * 36)  # two problems a part
    parts = problem.solve(starts, weights)
    np.testing.assert_allclose(parts.x, together.x, rtol=1e-9)
    np.testing.assert_allclose(parts.value, together.value, rtol=1e-12)
    alone = problem.solve(starts[5:6], weights[5:6])
    np.testing.assert_allclose(parts.x[5], alone.x[0], rtol=1e-9)


def test_a_search_cut_short_has_not_converged() -> None:
    problem, best = _problem()
    starts = np.stack([best + 0.3, best])
    assert problem.solve(starts, max_iterations=2).converged.tolist() == [False, True]


@pytest.mark.parametrize("on", ["chinchilla", "gamma"])
def test_newton_needs_few_steps_near_the_optimum(on: str) -> None:
    law = law_of(on)  # type: ignore[arg-type]
    runs = normalise(table(*grid(), law, noise=0.003))
    problem, _ = pose(runs, options(law.form, "mse_log"))
    problem, optimum = find_optimum(problem)
    # Exact derivatives square the error in each step; damping starts at 1e-4, not 0.
    assert problem.solve(optimum.x[None] + 0.003, max_iterations=8).converged[0]


def test_a_step_goes_downhill_where_the_curvature_is_negative() -> None:
    matrix = np.array([np.diag([2.0, -1.0]), np.diag([-1.0, -3.0]), np.diag([1.0, 4.0])])
    downhill = np.array([[1.0, 3.0], [-1.0, 0.5], [2.0, -4.0]])
    step = solver._descent(matrix, downhill)
    # Newton's step over the sizes of the eigenvalues.
    sizes = np.abs(np.stack([np.diag(m) for m in matrix]))
    np.testing.assert_allclose(step, downhill / sizes, rtol=1e-12)


def _theta(form: str, rows: Rows) -> Array:
    """Two sets of internal parameters that predict losses of about the size of the table's."""
    problem = make_problem(form, Objective("mse_log"), rows, np.ones(len(rows.loss)))  # type: ignore[arg-type]
    _, optimum = find_optimum(problem)
    theta = problem.chart.to_theta(optimum.x[None])
    return np.concatenate([theta, theta + 0.03])


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("form", ["chinchilla", "gamma", "data_constrained"])
def test_gradients_and_hessians_are_slopes(form: str, objective: ObjectiveName) -> None:
    frame = table(*grid(4, 5), law_of(form), noise=0.02)  # type: ignore[arg-type]
    unique = frame["unique_tokens"].to_numpy() if "unique_tokens" in frame.columns else None
    rows = Rows.of(*(frame[c].to_numpy() for c in ("n_params", "tokens", "val_loss")), unique)
    kernel_of: dict[str, kernels.Kernel] = {
        "chinchilla": kernels.chinchilla_kernel,
        "gamma": kernels.power_kernel,
        "data_constrained": kernels.repetition_kernel,
    }
    theta, kernel = _theta(form, rows), kernel_of[form]
    size = theta.shape[1]
    weights = np.random.default_rng(1).uniform(0.5, 2.0, (len(theta), len(rows.loss)))
    # A delta with rows on both sides of it, and no row within a step of it.
    posed = Objective(objective, 0.0123)
    value, gradient, hessian = kernel(rows, posed, theta, weights)
    residual = posed.residual(kernels.predict_log(rows, theta), rows.loss)
    np.testing.assert_allclose(value, (posed.derivatives(residual)[0] * weights).sum(1), rtol=1e-9)
    step = 1e-5
    for k in range(size):
        up = kernel(rows, posed, theta + step * np.eye(size)[k], weights)
        down = kernel(rows, posed, theta - step * np.eye(size)[k], weights)
        # Central differences err by about step squared, relative to the largest entry.
        near = 1e-6 * np.abs(gradient).max()
        np.testing.assert_allclose(gradient[:, k], (up[0] - down[0]) / (2 * step), atol=near)
        if form != "data_constrained":  # whose Hessian is Gauss and Newton's
            near = 1e-6 * np.abs(hessian).max()
            numeric = (up[1] - down[1]) / (2 * step)
            np.testing.assert_allclose(hessian[:, k], numeric, atol=near)


@pytest.mark.parametrize("form", ["chinchilla", "gamma", "tied", "kaplan"])
@pytest.mark.parametrize("quantity", ["exponent_N", "n_opt", "d_opt"])
def test_charts_of_profiles_know_their_slopes_and_their_way_back(
    form: str, quantity: Quantity
) -> None:
    if form == "tied" and quantity == "exponent_N":
        return
    law = law_of(form)  # type: ignore[arg-type]
    problem, _ = pose(normalise(table(*grid(), law)), options(form=law.form, objective="mse_log"))
    problem, optimum = find_optimum(problem)
    if quantity == "exponent_N":
        chart, start = _exponent_chart(problem, optimum.x)
    else:
        sizes = problem.constants(optimum.x[None]).compute_optimal(1e21)
        log_size = float(np.log(sizes[quantity == "d_opt"][0]))
        chart, start = _size_chart(
            problem, optimum.x, log_size, np.log(1e21 / 6), mirrored=quantity == "d_opt"
        )
        assert start[chart.held] == log_size
    x = start[None]
    theta = problem.chart.to_theta(optimum.x[None])
    # The chart's image of the optimum is the optimum.
    np.testing.assert_allclose(chart.to_theta(x), theta, rtol=1e-9, atol=1e-9)
    shown = np.isfinite(theta[0])  # kaplan's ln E is minus infinity
    slopes, step = chart.jacobian(x)[0], 1e-5
    gradient = np.random.default_rng(0).standard_normal(theta.shape)
    assert chart.held is not None
    free = ~chart.held
    for k in np.flatnonzero(free):
        shift = step * np.eye(x.shape[1])[k]
        up, down = chart.to_theta(x + shift)[0, shown], chart.to_theta(x - shift)[0, shown]
        np.testing.assert_allclose(slopes[shown, k], (up - down) / (2 * step), atol=1e-6)
        turned = (chart.jacobian(x + shift) - chart.jacobian(x - shift))[0] / (2 * step)
        if chart.curvature is not None:
            bend = chart.curvature(x, gradient)[0]
            np.testing.assert_allclose(bend[free, k], (gradient[0] @ turned)[free], atol=1e-5)
