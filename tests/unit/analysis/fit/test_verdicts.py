"""Tables that carry the question are called so, and others by what they lack."""

import numpy as np
import polars as pl
import pytest

from analysis.fit.answer import _profiles, fit_table
from analysis.fit.design import Judgement
from analysis.fit.identifiability import judge
from analysis.fit.options import FitOptions
from analysis.fit.parametric import pose
from analysis.fit.records import GroupFit
from analysis.law import Array, Intervals
from analysis.solver.search import find_optimum
from analysis.table.columns import normalise
from tests.simulated import CHINCHILLA, grid, isoflops, law_of


def _fit(N: Array, D: Array, loss: Array) -> GroupFit:
    frame = pl.DataFrame({"n_params": N, "tokens": D, "val_loss": loss})
    return fit_table(normalise(frame), FitOptions(bootstrap=50))[0]


def _verdicts(N: Array, D: Array, loss: Array) -> dict[str, Judgement]:
    """The verdicts of `fit_table`, without the conventions, doubts and influence beside them."""
    frame = pl.DataFrame({"n_params": N, "tokens": D, "val_loss": loss})
    problem, runs = pose(normalise(frame), FitOptions())
    problem, optimum = find_optimum(problem)
    profiles = _profiles(problem, optimum, runs.used, 10 * 6 * float((N * D).max()), 0.9)
    return judge(problem, optimum, runs.used, profiles, Intervals(0.9, "none", {}, {}))


def _noise(n: int, size: float) -> Array:
    return np.exp(size * np.random.default_rng(0).standard_normal(n))


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
    verdicts = _verdicts(N, D, loss * _noise(len(N), noise))
    for quantity in ("exponent_N", "exponent_D", "n_opt", "d_opt"):
        judgement = verdicts[quantity]
        assert judgement.verdict == "not_identified", (quantity, judgement)
    assert words in verdicts["exponent_N"].reason


@pytest.mark.parametrize(
    ("N_D", "words"),
    [
        (isoflops(budgets=2), "two budgets"),
        ((isoflops()[0] * 0.05, isoflops()[1] / 0.05), "smaller than the fitted optimum"),
    ],
)
def test_thin_designs_are_weak_and_say_what_to_add(N_D: tuple[Array, Array], words: str) -> None:
    N, D = N_D
    judgement = _verdicts(N, D, CHINCHILLA.loss(N, D))["exponent_N"]
    assert judgement.verdict == "weak"
    assert words in judgement.reason
    assert "dd" in judgement.reason


def test_one_wild_row_does_not_hide_the_valley() -> None:
    N, D = grid()
    loss = CHINCHILLA.loss(N, D) * _noise(len(N), 0.002)
    loss[3] = 1e6
    group = _fit(N, D, loss)
    assert group.verdicts["exponent_N"].verdict == "identified"
    assert any("Row 4 " in doubt for doubt in group.doubts)


def test_e_driven_to_zero_caps_every_verdict() -> None:
    N, D = grid()
    verdicts = _verdicts(N, D, law_of("chinchilla", E=0.0).loss(N, D) - 0.1)
    assert verdicts["E"].verdict == "not_identified"
    assert verdicts["exponent_N"].verdict == "weak"
    assert "driven to 0" in verdicts["exponent_N"].reason


def test_the_influence_table_names_rows_that_hide_each_other() -> None:
    N, D = isoflops(budgets=6, sizes=8)
    loss = CHINCHILLA.loss(N, D) * _noise(len(N), 0.002)
    # Three neighbours wrong alike: leaving out any one leaves two that say the same.
    wrong = [0, 1, 8]
    loss[wrong] *= 1.06
    rows = [influence.row for influence in _fit(N, D, loss).influence]
    assert set(wrong) <= set(rows[:4])
