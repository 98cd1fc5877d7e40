"""Resampling, profiles, verdicts and influence: honest about when not to believe a fit."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from analysis.fit.answer import fit_table
from analysis.fit.options import FitOptions
from analysis.fit.parametric import pose
from analysis.fit.records import GroupFit
from analysis.foreign_table import normalise
from analysis.law import Array, Form, constants_and_exponents, optimal_size
from analysis.solver.objective import Objective, Rows
from analysis.solver.profile import Quantity, profile
from analysis.solver.search import find_optimum
from analysis.solver.uncertainty import bootstrap, covariances, leave_one_out, resample
from tests.simulated import CHINCHILLA, grid, isoflops, law_of, table

SQUARES = FitOptions(objective=Objective("mse_log"))


def _fit(N: Array, D: Array, loss: Array) -> GroupFit:
    frame = pl.DataFrame({"n_params": N, "tokens": D, "val_loss": loss})
    return fit_table(normalise(frame), FitOptions(bootstrap=50))[0]


def _noise(n: int, size: float, seed: int = 0) -> Array:
    return np.exp(size * np.random.default_rng(seed).standard_normal(n))


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
        assert ours[name][0] == pytest.approx(theirs[name][0], rel=1e-6)


def test_leaving_a_row_out_is_the_fit_without_it() -> None:
    runs = normalise(table(*isoflops(), noise=0.005))
    problem, _ = pose(runs, FitOptions())
    problem, optimum = find_optimum(problem)
    left = problem.constants(leave_one_out(problem, optimum.x))
    without, _ = pose(runs.filter(pl.col("row") != 11), FitOptions())
    without, refit = find_optimum(without)
    assert left["alpha"][11] == pytest.approx(without.constants(refit.x[None])["alpha"][0], 1e-6)


def test_information_and_sandwich_agree_where_residuals_are_alike() -> None:
    problem, _ = pose(normalise(table(*grid(20, 20), noise=0.005)), SQUARES)
    problem, optimum = find_optimum(problem)
    both = covariances(problem, optimum.x)
    ratio = np.sqrt(np.diag(both["sandwich"]) / np.diag(both["information"]))
    # 400 rows estimate a variance to 7 %, their leverage-weighted sums to about twice that.
    np.testing.assert_allclose(ratio, 1.0, atol=0.15)


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
    size, _ = optimal_size(problem.constants(x), 1e22)
    x[:, 1] += (x[:, 3] + x[:, 4]) * (np.log(held) - np.log(size))
    assert optimal_size(problem.constants(x), 1e22)[0] == pytest.approx(held, rel=1e-9)
    scale = 2 * (problem.value(x).min() - base) / rise
    inside = 2 * (problem.value(x) - base)
    assert (inside >= scale * rise * (1 - 1e-9)).all()
    assert problem.value(x).min() >= base


GOOD = {
    "grid": grid(),
    "isoflops": isoflops(),
    "few budgets": isoflops(budgets=4, sizes=6),
}


@pytest.mark.parametrize("design", GOOD)
@pytest.mark.parametrize("noise", [0.0, 0.003])
def test_tables_that_carry_the_question_are_identified(design: str, noise: float) -> None:
    N, D = GOOD[design]
    group = _fit(N, D, CHINCHILLA.loss(N, D) * _noise(len(N), noise))
    assert {v.verdict for v in group.verdicts.values()} == {"identified"}, group.verdicts


def _degenerate() -> dict[str, tuple[Array, Array, Array, str]]:
    line = np.geomspace(5e7, 5e9, 16)
    N, D = grid()
    two_N, two_D = grid(2, 8)
    law = CHINCHILLA.loss
    return {
        "one budget": (line, 1e20 / 6 / line, law(line, 1e20 / 6 / line), "one budget"),
        "constant ratio": (line, 20 * line, law(line, 20 * line), "D/N is constant"),
        "a line": (line, 1e3 * line**0.5 * 1e2, law(line, 1e5 * line**0.5), "one line"),
        "two sizes": (two_N, two_D, law(two_N, two_D), "only 2 model sizes"),
        "one power law": (N, D, 30 * N**-0.05 * D**-0.07, "does not curve"),
        "log-linear": (N, D, 9 - 0.15 * np.log(N) - 0.1 * np.log(D), "does not curve"),
        "flat": (N, D, np.full(len(N), 3.0), "D"),
        "no D": (N, D, 1.8 + 480 * N**-0.35, "D"),
        "no N": (N, D, 1.8 + 2000 * D**-0.37, "N"),
    }


@pytest.mark.parametrize("name", _degenerate())
@pytest.mark.parametrize("noise", [0.003, pytest.param(0.0, marks=pytest.mark.slow)])
def test_degenerate_tables_are_called_not_identified(name: str, noise: float) -> None:
    N, D, loss, words = _degenerate()[name]
    group = _fit(N, D, loss * _noise(len(N), noise))
    for quantity in ("exponent_N", "exponent_D", "n_opt", "d_opt"):
        judgement = group.verdicts[quantity]
        assert judgement.verdict == "not_identified", (quantity, judgement)
    assert words in group.verdicts["exponent_N"].reason


@pytest.mark.parametrize(
    ("N_D", "words"),
    [
        (isoflops(budgets=2), "two budgets"),
        ((isoflops()[0] * 0.05, isoflops()[1] / 0.05), "smaller than the fitted optimum"),
    ],
)
def test_thin_designs_are_weak_and_say_what_to_add(N_D: tuple[Array, Array], words: str) -> None:
    N, D = N_D
    judgement = _fit(N, D, CHINCHILLA.loss(N, D)).verdicts["exponent_N"]
    assert judgement.verdict == "weak"
    assert words in judgement.reason
    assert "dd" in judgement.reason


def test_one_wild_row_does_not_hide_the_valley() -> None:
    N, D = grid()
    loss = CHINCHILLA.loss(N, D) * _noise(len(N), 0.002)
    loss[3] = 1e6
    group = _fit(N, D, loss)
    assert group.verdicts["exponent_N"].verdict == "identified"
    assert any("Row 3 " in doubt for doubt in group.doubts)


def test_checkpoints_of_two_trainings_are_weak() -> None:
    N, D = grid()
    frame = table(N, D, noise=0.002).with_columns(
        run_id=pl.Series([f"r{k // 18}" for k in range(36)])
    )
    judgement = fit_table(normalise(frame), FitOptions(bootstrap=50))[0].verdicts["exponent_N"]
    assert judgement.verdict == "weak"
    assert "checkpoints of 2 trainings" in judgement.reason


def test_e_driven_to_zero_caps_every_verdict() -> None:
    N, D = grid()
    group = _fit(N, D, law_of("chinchilla", E=0.0).loss(N, D) - 0.1)
    assert group.verdicts["E"].verdict == "not_identified"
    assert group.verdicts["exponent_N"].verdict == "weak"
    assert "driven to 0" in group.verdicts["exponent_N"].reason


def test_the_influence_table_names_rows_that_hide_each_other() -> None:
    N, D = isoflops(budgets=6, sizes=8)
    loss = CHINCHILLA.loss(N, D) * _noise(len(N), 0.002)
    # Three neighbours wrong alike: leaving out any one leaves two that say the same.
    wrong = [0, 1, 8]
    loss[wrong] *= 1.06
    rows = [influence.row for influence in _fit(N, D, loss).influence]
    assert set(wrong) <= set(rows[:4])


def test_exponents_and_sizes_follow_from_the_constants() -> None:
    constants = {k: np.array([getattr(CHINCHILLA, k)]) for k in ("A", "B", "alpha", "beta")}
    N, D = optimal_size(constants, 6e21)
    assert 6 * N[0] * D[0] == pytest.approx(6e21)
    for step in (0.98, 1.02):
        assert CHINCHILLA.loss(N, D) < CHINCHILLA.loss(N * step, D / step)
    exponents = constants_and_exponents(constants)
    assert exponents["exponent_N"][0] == CHINCHILLA.exponent_N


def test_rows_are_centred_on_their_means() -> None:
    N, D = grid()
    rows = Rows.of(N, D, CHINCHILLA.loss(N, D))
    assert rows.n.mean() == pytest.approx(0, abs=1e-12)
    assert np.exp(rows.n + rows.n_mean) == pytest.approx(N)
