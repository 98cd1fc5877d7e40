"""Approach 3: found, shown to be found, and kept at full precision."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from analysis.fit.options import FitOptions
from analysis.fit.parametric import fit_parametric, pose
from analysis.law import Form, LossLaw
from analysis.solver.objective import Objective, ObjectiveName
from analysis.solver.search import find_optimum
from analysis.table.columns import normalise
from analysis.table.observations import TableError
from analysis.table.runs import clusters_of
from tests.simulated import CHINCHILLA, grid, isoflops, law_of, options, table, weighed

FORMS: tuple[Form, ...] = ("chinchilla", "gamma", "tied", "kaplan", "data_constrained")
UNSURE = FitOptions(bootstrap=0)
OBJECTIVES: tuple[ObjectiveName, ...] = ("huber_log", "lad_log", "mse_log", "mse")


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("form", FORMS)
def test_noise_free_data_give_every_constant_back(form: Form, objective: ObjectiveName) -> None:
    law = law_of(form)
    N, D = grid(6, 8)
    options = FitOptions(form, Objective(objective), bootstrap=0)
    fit = fit_parametric(normalise(table(N, D, law)), options)
    for name in ("E", "A", "B", "alpha", "beta", "gamma"):
        assert getattr(fit.law, name) == pytest.approx(getattr(law, name), rel=1e-6), name
    if law.repetition is not None:
        assert fit.law.repetition is not None
        assert pytest.approx(law.repetition.R_D, rel=1e-6) == fit.law.repetition.R_D
        assert pytest.approx(law.repetition.R_N, rel=1e-6) == fit.law.repetition.R_N


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_small_move_of_any_constant_lowers_the_objective(objective: ObjectiveName) -> None:
    runs = normalise(table(*isoflops(), noise=0.01))
    problem, _ = pose(runs, FitOptions(objective=Objective(objective)))
    problem, optimum = find_optimum(problem)
    rng = np.random.default_rng(0)
    for size in (1e-2, 1e-4, 1e-6):
        near = optimum.x + size * rng.standard_normal((200, 5))
        assert problem.value(near).min() >= optimum.value * (1 - 1e-12)
    assert optimum.converged
    assert optimum.agree > optimum.starts / 2


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_scaling_the_objective_does_not_move_the_law(
    objective: ObjectiveName, scale: float
) -> None:
    frame = table(*isoflops(), noise=0.005)
    options = FitOptions(objective=Objective(objective), bootstrap=0)
    plain = fit_parametric(normalise(frame), options)
    scaled = fit_parametric(weighed(frame, scale), options)
    for name in ("E", "A", "B", "alpha", "beta"):
        # A vertex or a smooth minimum is the same point; only rounding may differ.
        assert getattr(scaled.law, name) == pytest.approx(getattr(plain.law, name), rel=1e-9)
    assert scaled.objective.value == pytest.approx(scale * plain.objective.value, rel=1e-9)


def test_a_weight_of_two_is_a_row_twice() -> None:
    frame = table(*grid(), noise=0.005)
    weights = np.where(np.arange(frame.height) < 10, 2.0, 1.0)
    doubled = fit_parametric(normalise(pl.concat([frame, frame[:10]])), UNSURE)
    weighted = fit_parametric(weighed(frame, weights), UNSURE)
    assert weighted.law.alpha == pytest.approx(doubled.law.alpha, rel=1e-9)
    assert weighted.objective.value == pytest.approx(doubled.objective.value, rel=1e-9)


def test_the_objective_is_hubers_sum() -> None:
    frame = table(*grid(), noise=0.005)
    fit = fit_parametric(
        normalise(frame), FitOptions(objective=Objective("huber_log", 2e-3), bootstrap=0)
    )
    r = np.abs(
        np.log(fit.law.loss(frame["n_params"], frame["tokens"]) / frame["val_loss"].to_numpy())
    )
    huber = np.where(r <= 2e-3, r**2 / 2, 2e-3 * (r - 1e-3))
    assert fit.objective.value == pytest.approx(huber.sum(), rel=1e-12)


def test_e_driven_to_zero_is_a_bound_and_zero() -> None:
    frame = table(*grid(), law_of("chinchilla", E=0.0)).with_columns(pl.col("val_loss") - 0.1)
    fit = fit_parametric(normalise(frame), UNSURE)
    assert fit.law.E == 0.0
    assert fit.status == "at_bound"
    assert "E" in fit.at_bound


def test_fewer_rows_than_constants_name_the_rows() -> None:
    N, D = grid(2, 2)
    with pytest.raises(TableError, match="5 free constants") as caught:
        fit_parametric(normalise(table(N, D)), UNSURE)
    assert caught.value.rows == (0, 1, 2, 3)


def test_repetition_needs_unique_tokens_and_repeats() -> None:
    frame = table(*grid())
    with pytest.raises(TableError, match="unique_tokens"):
        fit_parametric(normalise(frame), FitOptions("data_constrained"))
    with pytest.raises(TableError, match="no row has tokens above"):
        fit_parametric(
            normalise(frame.with_columns(unique_tokens=pl.lit(1e15))),
            FitOptions("data_constrained"),
        )


def test_a_negative_delta_is_refused() -> None:
    with pytest.raises(ValueError, match="delta"):
        Objective("huber_log", delta=-1.0)


def test_excluded_rows_stay_with_their_reason() -> None:
    frame = table(*grid()).with_columns(
        excluded_reason=pl.Series(["bad seed"] + [None] * 35, dtype=pl.String)
    )
    fit = fit_parametric(normalise(frame), UNSURE)
    assert [(row.row, row.reason) for row in fit.rows_excluded] == [(0, "bad seed")]
    assert len(fit.rows_used) == 35


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    frame = table(*isoflops(), noise=0.005)
    first, again, other = (
        fit_parametric(normalise(frame), FitOptions(bootstrap=50, seed=seed)).draws.alpha
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_checkpoints_of_one_run_are_resampled_together() -> None:
    N, D = grid(6, 6)
    runs = np.searchsorted(np.unique(N), N)
    frame = table(N, D, noise=0.003).with_columns(run_id=pl.Series([f"r{k}" for k in runs]))
    fit = fit_parametric(normalise(frame), FitOptions(bootstrap=50))
    assert fit.intervals.method == "bootstrap_runs"
    apart = frame.with_columns(run_id=pl.Series([f"r{k}" for k in range(36)]))
    fit = fit_parametric(normalise(apart), FitOptions(bootstrap=50))
    assert fit.intervals.method == "bootstrap_rows"


def test_branches_of_one_trunk_are_resampled_together() -> None:
    N, D = grid(8, 5)
    trunk = np.searchsorted(np.unique(N), N)
    common = 0.003 * np.random.default_rng(0).standard_normal(8)[trunk]
    frame = table(N, D).with_columns(pl.col("val_loss") * pl.Series(np.exp(common)))
    # As the sweep writes them: each branch has an id of its own and its trunk's beside it.
    branches = frame.with_columns(
        run_id=pl.Series([f"r{k}@{d:.0f}" for k, d in zip(trunk, D, strict=True)]),
        parent_run_id=pl.Series([f"r{k}" for k in trunk]),
    )
    numbers = clusters_of(branches)
    assert numbers is not None
    assert [len(set(numbers[trunk == k])) for k in range(8)] == [1] * 8
    assert sorted(set(numbers)) == list(range(8))
    together = fit_parametric(normalise(branches), options(bootstrap=200)).intervals
    apart = fit_parametric(
        normalise(branches.drop("parent_run_id")), options(bootstrap=200)
    ).intervals
    assert (together.method, apart.method) == ("bootstrap_runs", "bootstrap_rows")
    wide, narrow = (float(np.diff(i.values["alpha"])[0]) for i in (together, apart))
    # Five rows that err alike are one: about the root of 5 for what they err in.
    assert wide > 1.3 * narrow
    wide, narrow = (i.beside["sandwich"]["alpha"] for i in (together, apart))
    assert np.diff(wide) > 1.2 * np.diff(narrow)


def test_a_trunk_without_a_parent_keeps_its_own_id() -> None:
    frame = table(*grid(2, 3)).with_columns(
        run_id=pl.Series(["a", "a@1", "a@2", "b", "b@1", "c"]),
        parent_run_id=pl.Series([None, "a", "a", None, "b", None]),
    )
    numbers = clusters_of(frame)
    assert numbers is not None
    assert numbers.tolist() == [0, 0, 0, 1, 1, 2]
    one = frame.with_columns(run_id=pl.lit("a"), parent_run_id=pl.lit("a"))
    assert clusters_of(one) is None


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_intervals_are_quantiles_of_the_draws_at_the_level_asked_for(level: float) -> None:
    frame = table(*grid(8, 8), noise=0.005)
    fit = fit_parametric(normalise(frame), options(objective="mse_log", bootstrap=200, level=level))
    assert fit.intervals.level == level
    for name in ("E", "A", "alpha", "exponent_N"):
        ends = np.quantile(fit.draws.named()[name], [0.5 - level / 2, 0.5 + level / 2])
        assert fit.intervals.values[name] == pytest.approx(tuple(ends))
        assert fit.intervals.standard_errors[name] == pytest.approx(np.std(fit.draws.named()[name]))
    assert fit.law.draws["A"] == tuple(fit.draws.A)
    for method in ("information", "sandwich"):
        low, high = fit.intervals.beside[method]["alpha"]
        # Three ways to one interval: 64 rows and 200 draws place its width within a fifth.
        assert np.log(high / low) == pytest.approx(
            np.log(np.divide(*fit.intervals.values["alpha"][::-1])), rel=0.3
        )


@pytest.mark.parametrize(("rows", "method"), [(5, "none"), (6, "bootstrap_rows")])
def test_a_table_without_a_spare_row_has_no_intervals(rows: int, method: str) -> None:
    N, D = (column[[0, 1, 2, 3, 6, 8]][:rows] for column in grid(3, 3))
    assert fit_parametric(normalise(table(N, D)), options(bootstrap=20)).intervals.method == method


@pytest.mark.parametrize("objective", ["huber_log", "lad_log"])
def test_a_weighted_row_counts_in_every_objective(objective: ObjectiveName) -> None:
    frame = table(*grid(), noise=0.005)
    weights = np.where(np.arange(frame.height) < 10, 3.0, 1.0)
    repeated = fit_parametric(
        normalise(pl.concat([frame, frame[:10], frame[:10]])),
        options(objective=objective, bootstrap=0),
    )
    weighted = fit_parametric(
        weighed(frame, weights),
        options(objective=objective, bootstrap=0),
    )
    assert weighted.law.alpha == pytest.approx(repeated.law.alpha, rel=1e-8)
    assert weighted.objective.value == pytest.approx(repeated.objective.value, rel=1e-9)


def test_least_absolute_deviations_pass_through_as_many_rows_as_constants() -> None:
    problem, _ = pose(
        normalise(table(*grid(), noise=0.005)),
        options(objective="lad_log"),
    )
    problem, optimum = find_optimum(problem)
    residual = problem.residuals(optimum.x[None])[0]
    # A vertex: doubles resolve a log-loss to 1e-16, the linear programs stop at steps of 1e-11.
    assert (np.abs(residual) < 1e-10).sum() == 5
    # The signs of the rest balance within what the five zeros can carry: |multiplier| <= 1.
    slope = problem.slope(optimum.x)
    zero = np.abs(residual) < 1e-10
    pull = slope[~zero].T @ np.sign(residual[~zero])
    multipliers = np.linalg.solve(slope[zero].T, -pull)
    assert np.abs(multipliers).max() <= 1 + 1e-6
    assert optimum.gradient_norm < 1e-5


def test_a_small_e_is_found_and_not_taken_for_none() -> None:
    N, D = grid()
    law = law_of("chinchilla", E=0.001)
    assert law.loss(N, D).min() > 0.001 * np.exp(5)  # where E = 0 is tried
    fit = fit_parametric(normalise(table(N, D, law)), options(bootstrap=0))
    assert fit.status == "converged"
    assert pytest.approx(0.001, rel=1e-4) == fit.law.E


def test_the_support_is_the_tables_counted_compute_and_ratio() -> None:
    frame = table(*grid())
    six = fit_parametric(normalise(frame), options(bootstrap=0)).law
    N, D = grid()
    assert six.support is not None
    assert six.support.flops == pytest.approx((6 * N.min() * D.min(), 6 * N.max() * D.max()))
    ratio = D / N
    assert six.support.tokens_per_param == pytest.approx((ratio.min(), ratio.max()))
    assert six.c_counts == "flops_6nd"
    counted = fit_parametric(
        normalise(frame.with_columns(train_flops=7 * N * D)), options(bootstrap=0)
    ).law
    assert counted.support is not None
    assert counted.support.flops == pytest.approx((7 * N.min() * D.min(), 7 * N.max() * D.max()))


def test_another_count_of_n_is_fitted_and_named() -> None:
    N, D = grid()
    frame = table(N, D).with_columns(n_params_non_embedding=N / 2).drop("n_params")
    law = fit_parametric(normalise(frame), UNSURE).law
    assert law.n_counts == "n_params_non_embedding"
    assert pytest.approx(CHINCHILLA.A * 0.5**CHINCHILLA.alpha, rel=1e-5) == law.A
    assert law.support is not None
    assert law.support.tokens_per_param[0] == pytest.approx((2 * D / N).min())


@pytest.mark.parametrize(
    ("unit", "meant"),
    [("nats per token", "nats_per_token"), ("bits/byte", "bits_per_byte"), ("BPB", "bits_per_byte"),
     ("nats", "nats_per_token"), ("perplexity", "unknown")],
)  # fmt: skip
def test_the_losss_unit_is_read_in_its_spellings(unit: str, meant: str) -> None:
    frame = table(*grid()).with_columns(loss_unit=pl.lit(unit))
    assert fit_parametric(normalise(frame), options(bootstrap=0)).law.loss_unit == meant


def test_a_saved_law_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    runs = normalise(table(*isoflops(), noise=0.005))
    law = fit_parametric(runs, FitOptions(bootstrap=20)).law
    law.save(tmp_path / "law.json")
    assert LossLaw.load(tmp_path / "law.json") == law


def test_outliers_move_huber_less_than_squares() -> None:
    frame = table(*grid(), noise=0.001).with_columns(
        val_loss=pl.when(pl.int_range(pl.len()) == 5)
        .then(pl.col("val_loss") * 1.2)
        .otherwise(pl.col("val_loss"))
    )
    huber, squares = (
        fit_parametric(
            normalise(frame), FitOptions(objective=Objective(name), bootstrap=0)
        ).law.exponent_N
        for name in OBJECTIVES[::2]
    )
    assert abs(huber - CHINCHILLA.exponent_N) < abs(squares - CHINCHILLA.exponent_N) / 3


@pytest.mark.parametrize("name", OBJECTIVES)
def test_derivatives_of_the_penalty_are_its_slopes(name: ObjectiveName) -> None:
    objective = Objective(name, 1e-2)
    r = np.array([-0.05, -0.011, -0.004, 0.003, 0.02])
    _, first, second = objective.derivatives(r)
    step = 1e-7
    up, down = objective.derivatives(r + step), objective.derivatives(r - step)
    np.testing.assert_allclose(first, (up[0] - down[0]) / (2 * step), rtol=1e-6)
    np.testing.assert_allclose(second, (up[1] - down[1]) / (2 * step), rtol=1e-6, atol=1e-9)
