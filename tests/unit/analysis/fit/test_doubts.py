"""What is doubtful about a fit, and from where on it is said."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from analysis.fit import outlying
from analysis.fit.answer import fit_table
from analysis.fit.conventions import Convention
from analysis.fit.doubts import doubts
from analysis.fit.isoflop import ParabolaBias
from analysis.fit.parametric import pose
from analysis.fit.records import GroupFit, Influence
from analysis.law import Array
from analysis.solver.search import find_optimum
from analysis.table.columns import normalise
from analysis.table.observations import LINE
from analysis.table.runs import Duplicate
from tests.simulated import grid, isoflops, law_of, options, table

Say = Callable[..., str]


@pytest.fixture(scope="module")
def group() -> GroupFit:
    return fit_table(normalise(table(*isoflops(), noise=0.002)), options(bootstrap=100))[0]


@pytest.fixture
def said(group: GroupFit) -> Say:
    """Every doubt in one string, with parts of the answer replaced."""
    frame = table(*isoflops(), noise=0.002)
    runs = normalise(frame)
    problem, _ = pose(runs, options())
    problem, optimum = find_optimum(problem)

    law = group.fit.law.model_copy(update={"n_counts": "n_params"})
    silent = replace(
        group,
        fit=replace(group.fit, law=law),
        parabola_bias=None,
        influence=(),
        conventions=(),
        duplicates=(),
    )

    def say(
        optimum_changes: dict[str, Any] | None = None, derived: str = "", **changes: Any
    ) -> str:
        changed = replace(optimum, **optimum_changes or {})
        return "\n".join(
            doubts(problem, changed, replace(silent, **changes), replace(runs, derived=derived))
        )

    return say


def test_nothing_is_doubted_where_nothing_is_wrong(said: Say) -> None:
    assert said() == ""


@pytest.mark.parametrize(
    ("share", "named"), [(0.26, True), (-0.26, True), (0.24, False), (-0.24, False)]
)
def test_a_row_that_moves_the_exponent_either_way_by_a_quarter_of_its_interval_is_named(
    said: Say, group: GroupFit, share: float, named: bool
) -> None:
    low, high = group.fit.intervals.values["exponent_N"]
    effect = share * (high - low)
    words = said(influence=[Influence(17, effect, effect), Influence(3, effect / 2, effect)])
    assert (f"Row 18 alone moves exponent_N by {effect:+.3f}" in words) == named
    assert "Row 4" not in words


@pytest.mark.parametrize(("times", "named"), [(8.3, True), (-8.3, True), (8.1, False)])
def test_rows_beyond_eight_median_deviations_are_named(
    said: Say, group: GroupFit, times: float, named: bool
) -> None:
    residual = np.where(np.arange(35) % 2 == 0, 0.002, -0.002)
    # 35 rows and 5 constants: 8 · (1 + 20/30²) = 8.18. Row 10 is in the middle of the grid.
    residual[10] = 0.002 * times
    words = said(used=group.used.with_columns(residual=pl.Series(residual)))
    assert ("8 times the median deviation of 0.2 %" in words) == named
    assert ("Row 11 (counted from 1) lies 1." in words) == named
    assert "--where" not in words


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ([10], "Line 12 lies 170 % off the law, more than 8 times the median deviation of 0.2 %. "
               "If that run went wrong, leave it out: --where 'source_line <> 12'."),
        ([9, 10], "Lines 11, 12 lie up to 170 % off the law, more than 8 times the median "
                  "deviation of 0.2 %. If those runs went wrong, leave them out: "
                  "--where 'source_line not in (11, 12)'."),
    ],
)  # fmt: skip
def test_lines_far_off_the_law_come_with_the_filter_that_leaves_them_out(
    said: Say, group: GroupFit, wrong: list[int], words: str
) -> None:
    residual = np.where(np.arange(35) % 2 == 0, 0.002, -0.002)
    residual[wrong] = np.log([1.5, 2.7])[-len(wrong) :]
    lines = pl.Series(LINE, range(2, 37))
    assert words in said(used=group.used.with_columns(lines, residual=pl.Series(residual)))


def test_a_row_that_hides_by_pulling_the_law_is_named_with_the_law_without_it(
    said: Say, group: GroupFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden(residual: Array, slope: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        assert slope.shape == (35, 5)
        return residual > np.inf, np.arange(35) == 6

    monkeypatch.setattr(outlying, "find_outliers", hidden)
    words = said()
    assert words.startswith("Row 7 (counted from 1) pulls the law near: more than 8 times")
    assert words.endswith("% from the law fitted without it.")


def test_a_table_without_noise_has_no_outliers(said: Say, group: GroupFit) -> None:
    residual = np.where(np.arange(35) == 10, 1e-6, 1e-12)
    assert said(used=group.used.with_columns(residual=pl.Series(residual))) == ""


@pytest.mark.parametrize(("trainings", "told"), [(11, True), (12, False)])
def test_fewer_than_twelve_trainings_make_intervals_rough(
    said: Say, group: GroupFit, trainings: int, told: bool
) -> None:
    runs = pl.Series([f"r{k % trainings}" for k in range(35)])
    used = group.used.with_columns(run_id=runs)
    words = said(used=used)
    assert ("come from 11 trainings" in words) == told
    assert ("make intervals rough" in words) == told


def test_the_search_is_doubted_for_what_it_did(said: Say) -> None:
    assert "did not converge" in said({"converged": False})
    assert "alpha is at the edge" in said({"at_bound": ("alpha",)})
    assert "beta did not move" in said({"unmoved": ("beta",)})
    assert "Only 5 of 12 starts" in said({"starts": 12, "agree": 5})
    assert "starts ended" not in said({"starts": 12, "agree": 6})


def test_a_second_basin_is_told_with_both_values(said: Say, group: GroupFit) -> None:
    report = replace(group.fit.objective, second_best=0.25, second_best_exponent_N=0.625)
    words = said(fit=replace(group.fit, objective=report))
    assert f"objective 0.25 against {group.fit.objective.value:.6g}" in words
    assert f"exponent_N 0.625 against {group.fit.law.exponent_N:.3f}" in words
    same = replace(report, second_best_exponent_N=group.fit.law.exponent_N + 1e-4)
    assert "second basin" not in said(fit=replace(group.fit, objective=same))


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize(("gap", "told"), [(0.01, True), (-0.01, False)])
def test_approaches_disagree_when_their_intervals_do_not_meet(
    said: Say, group: GroupFit, side: int, gap: float, told: bool
) -> None:
    low, high = group.fit.intervals.values["exponent_N"]
    assert group.isoflop.N is not None
    near = high + gap if side > 0 else low - gap
    ends = (near, near + 0.1) if side > 0 else (near - 0.1, near)
    valleys = replace(group.isoflop.N, exponent_interval=ends)
    assert ("disagree" in said(isoflop=replace(group.isoflop, N=valleys))) == told


@pytest.mark.parametrize(("gap", "told"), [(0.01, True), (-0.01, False)])
def test_two_budgets_are_named_in_place_of_an_interval_they_lack(
    said: Say, group: GroupFit, gap: float, told: bool
) -> None:
    high = group.fit.intervals.values["exponent_N"][1]
    assert group.isoflop.N is not None
    valleys = replace(group.isoflop.N, exponent=high + gap, exponent_interval=None, budgets=2)
    words = said(isoflop=replace(group.isoflop, N=valleys))
    assert ("Approach 2 rests on two budgets, too few for an interval" in words) == told
    assert "disagree" not in words


@pytest.mark.parametrize(
    ("parabola", "told"), [(0.521, True), (0.479, True), (0.519, False), (0.481, False)]
)
def test_a_bent_parabola_is_told_either_way(said: Say, parabola: float, told: bool) -> None:
    assert ("bends the parabolas" in said(parabola_bias=ParabolaBias(0.5, parabola, ()))) == told


@pytest.mark.parametrize(("k", "told"), [(6.36, True), (5.64, True), (6.24, False), (5.76, False)])
def test_counted_flops_five_percent_from_6nd_are_told(
    said: Say, group: GroupFit, k: float, told: bool
) -> None:
    used = group.used.with_columns(train_flops=k * pl.col("n_params") * pl.col("tokens"))
    assert (f"{k / 6:.2f} to {k / 6:.2f} times 6·N·D" in said(used=used)) == told


@pytest.mark.parametrize(("gap", "told"), [(0.021, True), (0.019, False)])
def test_counts_that_move_the_exponent_by_two_hundredths_are_told(
    said: Say, gap: float, told: bool
) -> None:
    counts = [
        Convention("n_params", "unknown", "flops_6nd", share, 1 - share, 1e9, 20.0, 1e21)
        for share in (0.5 + gap, 0.5, 0.5 + gap / 2)
    ]
    words = said(conventions=counts)
    assert (f"from 0.500 to {0.5 + gap:.3f} over the 3 ways" in words) == told


def test_duplicates_exact_and_near_are_apart(said: Say) -> None:
    words = said(duplicates=[Duplicate(5, 2, True), Duplicate(9, 8, False)])
    assert "Exact duplicates are counted twice: row 6 repeats 3." in words
    assert "Near duplicates are counted twice: row 10 repeats 9." in words
    many = [Duplicate(k + 1, k, True) for k in range(10)]
    assert "9 repeats 8 and 2 more." in said(duplicates=many)


@pytest.mark.parametrize(
    ("rows", "gamma", "told"), [(12, 0.3, True), (11, 0.3, False), (12, 1.0, False)]
)
def test_a_misfit_is_told_from_twelve_rows_on(
    group: GroupFit, rows: int, gamma: float, told: bool
) -> None:
    N, D = grid(4, 3)
    law = law_of("gamma", gamma=gamma, A=3e4, B=2e5)
    frame = table(N, D, law, noise=1e-5)[:rows]
    problem, runs = pose(normalise(frame), options(objective="mse_log"))
    problem, optimum = find_optimum(problem)
    used = runs.used.with_columns(residual=pl.lit(0.0))
    words = "\n".join(doubts(problem, optimum, replace(group, used=used), runs))
    assert ("The form misfits" in words) == told
