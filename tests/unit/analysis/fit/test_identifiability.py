"""Where a verdict turns: each threshold from both sides, each reason with its numbers."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from analysis.fit.design import Judgement
from analysis.fit.identifiability import judge, trust
from analysis.fit.parametric import finish, pose
from analysis.law import Form, Intervals, LawFit
from analysis.solver.problem import Problem
from analysis.solver.profile import Profile
from analysis.solver.search import Optimum, find_optimum
from analysis.table.columns import normalise
from analysis.table.observations import Doubt
from analysis.words import short
from tests.simulated import CHINCHILLA, grid, isoflops, law_of, options, table

Ends = tuple[float | None, float | None]
NO_INTERVALS = Intervals(0.9, "none", {}, {})


class Fitted(NamedTuple):
    problem: Problem
    optimum: Optimum
    used: pl.DataFrame


def _fitted(frame: pl.DataFrame, form: Form = "chinchilla") -> Fitted:
    problem, runs = pose(normalise(frame), options(form=form, objective="mse_log"))
    problem, optimum = find_optimum(problem)
    return Fitted(problem, optimum, runs.used)


@pytest.fixture(scope="module")
def good() -> Fitted:
    """A table about which nothing is to be said."""
    return _fitted(table(*isoflops(), noise=0.001))


def _profiles(exponent: Ends = (0.5, 0.51), size: Ends = (1e9, 1.1e9)) -> dict[str, Profile]:
    def closed(quantity: str, ends: Ends) -> Profile:
        values = np.array([0.01, 0.98]) if quantity == "exponent_N" else np.array([1e3, 1e15])
        return Profile(quantity, 1e22, 0.5, values, np.zeros(2), 2.7, ends)  # type: ignore[arg-type]

    return {
        "exponent_N": closed("exponent_N", exponent),
        "n_opt": closed("n_opt", size),
        "d_opt": closed("d_opt", size),
    }


def _judged(
    fitted: Fitted,
    profiles: dict[str, Profile] | None = None,
    intervals: Intervals = NO_INTERVALS,
    **changes: object,
) -> dict[str, Judgement]:
    optimum = replace(fitted.optimum, **changes)  # type: ignore[arg-type]
    return judge(
        fitted.problem, optimum, fitted.used, _profiles() if profiles is None else profiles,
        intervals,
    )  # fmt: skip


def test_the_interval_of_the_exponent_of_d_is_that_of_n_turned_round(good: Fitted) -> None:
    verdicts = _judged(good, _profiles(exponent=(0.55, 0.625)))
    assert verdicts["exponent_N"].reason == "its profile closes on both sides: 0.550 to 0.625."
    assert verdicts["exponent_D"].reason == "its profile closes on both sides: 0.375 to 0.450."


@pytest.mark.parametrize(
    ("width", "verdict"),
    [(0.149, "identified"), (0.151, "weak"), (0.499, "weak"), (0.501, "not_identified")],
)
def test_wide_profiles_of_exponents_are_weak_and_wider_ones_not_identified(
    good: Fitted, width: float, verdict: str
) -> None:
    verdicts = _judged(good, _profiles(exponent=(0.3, 0.3 + width)))
    assert verdicts["exponent_N"].verdict == verdict
    assert verdicts["exponent_D"].verdict == verdict
    assert verdicts["n_opt"].verdict == "identified"
    spread = f"{0.7 - width:.3f} to 0.700"
    assert spread in verdicts["exponent_D"].reason


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(3.99, "identified"), (4.01, "weak"), (99.0, "weak"), (101.0, "not_identified")],
)
def test_wide_profiles_of_sizes_are_judged_by_their_ratio(
    good: Fitted, factor: float, verdict: str
) -> None:
    verdicts = _judged(good, _profiles(size=(1e9, factor * 1e9)))
    assert [verdicts[q].verdict for q in ("n_opt", "d_opt")] == [verdict] * 2
    assert f"1B to {short(factor * 1e9)}" in verdicts["d_opt"].reason
    assert verdicts["exponent_N"].verdict == "identified"


@pytest.mark.parametrize(
    ("ends", "of_N", "of_D"),
    [
        (
            (None, 0.5),
            "below the estimate, down to 0.010:",
            "above the estimate, up to 0.990:",
        ),
        (
            (0.5, None),
            "above the estimate, up to 0.980:",
            "below the estimate, down to 0.020:",
        ),
        (
            (None, None),
            "on either side, from 0.010 to 0.980:",
            "on either side, from 0.020 to 0.990:",
        ),
    ],
)
def test_an_open_profile_says_how_far_it_looked_and_the_exponent_of_d_the_other_way(
    good: Fitted, ends: Ends, of_N: str, of_D: str
) -> None:
    verdicts = _judged(good, _profiles(exponent=ends, size=ends))
    assert {v.verdict for q, v in verdicts.items() if q != "E"} == {"not_identified"}
    assert of_N in verdicts["exponent_N"].reason
    assert of_D in verdicts["exponent_D"].reason
    # D* has a profile of its own.
    assert of_N.partition(",")[0] in verdicts["d_opt"].reason
    assert ("1k" in verdicts["d_opt"].reason) == (ends[0] is None)


def test_a_quantity_without_a_profile_has_no_optimum(good: Fitted) -> None:
    profiles = _profiles()
    del profiles["n_opt"]
    verdicts = _judged(good, profiles)
    assert "no optimum" in verdicts["n_opt"].reason
    assert verdicts["d_opt"].verdict == "identified"


@pytest.mark.parametrize(
    ("places", "seeds", "verdict", "cause"),
    [
        (5, 1, "not_identified", "5 rows for 5 constants: a law through every loss shows no error"),
        (6, 1, "weak", "6 rows for 5 constants leave 1 to judge by"),
        (7, 1, "weak", "7 rows for 5 constants leave 2 to judge by"),
        (8, 1, None, ""),
        (5, 8, "not_identified", "40 rows at 5 pairs of N and D for 5 constants: a law through "),
        (6, 8, "weak", "48 rows at 6 pairs of N and D for 5 constants leave 1 to judge by"),
        (8, 8, None, ""),
    ],
)
def test_fewer_than_three_spare_places_are_weak_none_determine_nothing_and_seeds_add_none(
    places: int, seeds: int, verdict: str | None, cause: str
) -> None:
    N, D = grid(3, 3)
    keep = np.repeat([0, 2, 4, 6, 8, 1, 3, 5][:places], seeds)
    judgement = _judged(_fitted(table(N[keep], D[keep], noise=0.001)))["exponent_N"]
    assert ("constants" in judgement.reason) == (verdict is not None)
    if verdict is not None:
        assert judgement.verdict == verdict
        assert cause in judgement.reason


@pytest.mark.parametrize(("trainings", "told"), [(5, True), (6, False)])
def test_as_many_trainings_as_constants_are_weak(trainings: int, told: bool) -> None:
    runs = [f"r{k % trainings}" for k in range(36)]
    frame = table(*grid(), noise=0.001).with_columns(run_id=pl.Series(runs))
    verdict = _judged(_fitted(frame))["exponent_N"]
    assert ("checkpoints of 5 trainings" in verdict.reason) == told
    assert (verdict.verdict == "weak") == told


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ((1.8, 1.9), "identified"),
        ((1.0, 1.49), "identified"),
        ((1.0, 1.51), "weak"),
        ((0.101, 2.0), "weak"),
        ((0.099, 2.0), "not_identified"),
    ],
)
def test_e_is_judged_by_the_ratio_of_its_ends(
    good: Fitted, ends: tuple[float, float], verdict: str
) -> None:
    found = Intervals(0.9, "bootstrap_rows", {"E": ends}, {})
    assert _judged(good, intervals=found)["E"].verdict == verdict
    beside = Intervals(0.9, "none", {}, {}, {"sandwich": {"E": ends}})
    assert _judged(good, intervals=beside)["E"].verdict == verdict


def test_e_is_no_surer_than_the_exponent(good: Fitted) -> None:
    sure = Intervals(0.9, "bootstrap_rows", {"E": (1.8, 1.81)}, {})
    verdicts = _judged(good, _profiles(exponent=(None, 0.5)), sure)
    assert verdicts["E"] == Judgement("weak", "it rests on a law this table does not determine.")
    weak = _judged(good, _profiles(exponent=(0.4, 0.6)), sure)
    assert (weak["exponent_N"].verdict, weak["E"].verdict) == ("weak", "identified")
    assert _judged(good)["E"].reason == "no interval was computed for it."


@pytest.mark.parametrize(("gap", "told"), [(0.04, False), (0.06, True), (-0.06, True)])
def test_a_second_basin_counts_from_a_gap_of_a_twentieth(
    good: Fitted, gap: float, told: bool
) -> None:
    x = good.optimum.x.copy()
    total, share = x[3] + x[4], x[4] / (x[3] + x[4]) + gap
    x[3:5] = (1 - share) * total, share * total
    verdict = _judged(good, second_best=(good.optimum.value * 1.01, x))["exponent_N"]
    assert (f"has exponent {share:.3f}" in verdict.reason) == told
    assert (verdict.verdict == "weak") == told


def test_a_constant_at_its_edge_is_named_and_e_there_caps_at_weak(good: Fitted) -> None:
    stuck = _judged(good, at_bound=("alpha", "beta"))["n_opt"]
    assert stuck.verdict == "not_identified"
    assert "drives alpha, beta to the edge" in stuck.reason
    at_zero = _judged(good, at_bound=("E",))
    assert at_zero["exponent_N"].verdict == "weak"
    assert at_zero["E"].verdict == "not_identified"
    assert "did not converge" in _judged(good, converged=False)["d_opt"].reason


@pytest.mark.parametrize(
    ("factor", "side", "add"), [(0.05, "smaller", "larger"), (20.0, "larger", "smaller")]
)
def test_sizes_all_on_one_side_of_the_optimum_ask_for_the_other(
    factor: float, side: str, add: str
) -> None:
    N, D = isoflops()
    verdict = _judged(_fitted(table(N * factor, D / factor)))["exponent_N"]
    assert f"every model is {side} than the fitted optimum" in verdict.reason
    assert f"add {add} models" in verdict.reason


def test_the_side_is_judged_under_unequal_exponents() -> None:
    law = law_of("chinchilla", alpha=0.7, beta=0.2, A=2e5, B=50.0)
    N, D = isoflops(law)
    # The largest size at 0.88 of the optimum: nothing lies above it.
    fitted = _fitted(table(N * 0.22, D / 0.22, law))
    assert "every model is smaller" in _judged(fitted)["exponent_N"].reason


def test_one_size_on_the_other_side_is_enough(good: Fitted) -> None:
    N, D = isoflops()
    some = _fitted(table(np.append(N * 0.1, 8 * N[20]), np.append(D * 10, D[20] / 8)))
    assert "every model" not in _judged(some)["exponent_N"].reason
    assert "every model" not in _judged(good)["exponent_N"].reason


@pytest.mark.parametrize(("times", "told"), [(2.9, True), (3.1, False)])
@pytest.mark.parametrize("symbol", ["N", "D"])
def test_a_term_below_three_times_the_scatter_is_too_faint(
    symbol: str, times: float, told: bool
) -> None:
    N, D = grid()
    law = CHINCHILLA
    terms = {"N": law.A * N**-law.alpha, "D": law.B * D**-law.beta}
    held = np.median(terms["D" if symbol == "N" else "N"])
    moved = np.ptp(np.log(law.E + terms[symbol] + held))
    frame = table(N, D)
    fitted = _fitted(frame)
    # Losses at one distance above and below the law, which is left where it is.
    sign = np.where(np.arange(36) % 2 == 0, 1.0, -1.0)
    spread = replace(
        fitted.problem,
        rows=replace(
            fitted.problem.rows, loss=fitted.problem.rows.loss * np.exp(sign * moved / times)
        ),
    )
    verdict = _judged(Fitted(spread, fitted.optimum, fitted.used))["exponent_N"]
    assert (f"the term of {symbol} moves the loss by {100 * moved:.2g} %" in verdict.reason) == told


def test_the_tied_form_has_no_verdict_on_its_exponents() -> None:
    fitted = _fitted(table(*isoflops(), law_of("tied"), noise=0.001), "tied")
    verdicts = _judged(fitted)
    assert "sets it to 0.5" in verdicts["exponent_D"].reason
    assert verdicts["n_opt"].verdict == "identified"


@pytest.mark.parametrize(
    ("width", "verdict"),
    [(0.149, "identified"), (0.151, "weak"), (0.499, "weak"), (0.501, "not_identified")],
)
def test_the_form_without_profiles_is_judged_by_its_bootstrap(width: float, verdict: str) -> None:
    fitted = _fitted(table(*grid(6, 8), law_of("data_constrained")), "data_constrained")
    ends = Intervals(0.9, "bootstrap_rows", {"exponent_N": (0.3, 0.3 + width)}, {})
    assert _judged(fitted, {}, ends)["exponent_N"].verdict == verdict
    assert "none was drawn" in _judged(fitted, {})["exponent_N"].reason


SURE = Judgement("identified", "its profile closes.")
WIDE = Judgement("weak", "it is wide.", ("Two budgets only.",))
OPEN = Judgement("not_identified", "it is open.")


@pytest.fixture(scope="module")
def converged(good: Fitted) -> LawFit:
    frame = normalise(table(*isoflops(), noise=0.001))
    return finish(good.problem, good.optimum, frame, options(), name="fit", source="")


@pytest.mark.parametrize(
    ("exponent", "size", "changes", "bars", "warnings"),
    [
        (SURE, SURE, {}, [], []),
        (OPEN, OPEN, {}, ["NOT IDENTIFIED (exponent of N*): it is open."], []),
        (WIDE, OPEN, {}, ["NOT IDENTIFIED (N* at 1.00e+22 FLOPs): it is open."], []),
        (WIDE, SURE, {}, [], ["WEAK (exponent of N*): it is wide."]),
        (SURE, WIDE, {}, [], ["WEAK (N* at 1.00e+22 FLOPs): it is wide."]),
        (
            WIDE, SURE, {"status": "at_bound", "at_bound": ("E",)},
            ["AT A BOUND (E): it is wide. Two budgets only."], [],
        ),
        (
            WIDE, WIDE, {"status": "not_converged"},
            ["NOT CONVERGED: it is wide. Two budgets only."], [],
        ),
        (
            OPEN, OPEN, {"status": "at_bound", "at_bound": ("alpha",)},
            ["NOT IDENTIFIED (exponent of N*): it is open."], [],
        ),
    ],
)  # fmt: skip
def test_the_worse_of_exponent_and_size_decides_whether_an_optimum_is_trusted(
    converged: LawFit,
    exponent: Judgement,
    size: Judgement,
    changes: dict[str, object],
    bars: list[str],
    warnings: list[str],
) -> None:
    fit = replace(converged, **changes)  # type: ignore[arg-type]
    said = trust(fit, {"exponent_N": exponent, "n_opt": size}, (), target_flops=1e22)
    assert (list(said.bars), list(said.warnings)) == (bars, warnings)


def test_only_a_doubt_that_bars_the_optimum_is_held_against_a_law(converged: LawFit) -> None:
    doubts = (Doubt("N is in millions.", bars_optimum=True), Doubt("One row is odd."))
    said = trust(converged, {"exponent_N": SURE, "n_opt": WIDE}, doubts, target_flops=1e22)
    assert said.bars == ("DOUBTFUL: N is in millions.",)
    assert said.lines == (*said.bars, "WEAK (N* at 1.00e+22 FLOPs): it is wide.")


def test_under_form_tied_the_size_alone_decides(good: Fitted) -> None:
    tied = _fitted(table(*isoflops(), noise=0.001), form="tied")
    frame = normalise(table(*isoflops(), noise=0.001))
    fit = finish(tied.problem, tied.optimum, frame, options(form="tied"), name="fit", source="")
    said = trust(fit, {"exponent_N": OPEN, "n_opt": SURE}, (), target_flops=1e22)
    assert said.bars == ()
    assert said.warnings == ("WEAK (exponent of N*): it is open.",)


def test_every_reason_after_the_first_begins_with_a_capital(good: Fitted) -> None:
    verdicts = _judged(good, _profiles(exponent=(0.3, 0.9)), at_bound=("alpha",))
    reason = verdicts["exponent_N"].reason
    assert reason.startswith(verdicts["exponent_N"].cause)
    assert "D. Its profile closes but is wide" in reason
