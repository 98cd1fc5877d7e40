"""Whether a table can carry the question asked of it, quantity by quantity.

A fit always returns numbers. A verdict says whether the table determines them: first by its
design (one budget, constant D/N, too few sizes), then by the loss itself (no curvature along a
budget), then by the profile (an interval open on one side), and last by the interval's width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from scipy.stats import t as student

from analysis.forms import Optimum, Problem
from analysis.isoflop import budgets
from analysis.law import Form, Intervals
from analysis.parametric import clusters_of
from analysis.profile import Profile
from analysis.solver import Array

Verdict = Literal["identified", "weak", "not_identified"]
# Narrower designs than these factors are one budget, one ratio, or barely more.
_NO_SPAN, _THIN_SPAN = 1.3, 3.0
# Width 0.15 of the exponent is a factor 1.7 each way in N* three decades above the table.
_EXPONENT_WIDTHS = (0.15, 0.5)
_SIZE_FACTORS = (4.0, 100.0)
_BASIN_GAP = 0.05
_FAINT = 3.0
_UNSEEN = 1e-6  # relative change of a loss below which no table shows it, noise or none


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its reason, which names the runs that would help where some would."""

    verdict: Verdict
    reason: str


def judge(
    problem: Problem,
    optimum: Optimum,
    used: pl.DataFrame,
    profiles: Mapping[str, Profile],
    intervals: Intervals,
    *,
    form: Form,
    n_column: str = "n_params",
) -> dict[str, Judgement]:
    """Verdicts on exponent_N, exponent_D, n_opt, d_opt and E.

    Args:
        profiles: by quantity, as `profile.profile` returns them; n_opt and d_opt at the budget
            they were profiled for.
    """
    findings = [
        *design_findings(used, n_column),
        *_loss_findings(used, n_column),
        *_fit_findings(problem, optimum),
        *_run_findings(problem, used),
    ]
    verdicts: dict[str, Judgement] = {}
    for name, profile_name in (
        ("exponent_N", "exponent_N"),
        ("exponent_D", "exponent_N"),
        ("n_opt", "n_opt"),
        ("d_opt", "d_opt"),
    ):
        own: list[Judgement] = []
        if form == "tied" and name.startswith("exponent"):
            own = [Judgement("not_identified", "form tied sets it to 0.5; the table is not asked.")]
        elif form == "data_constrained":
            own = [_interval_finding(intervals)]
        elif profile_name in profiles:
            own = [_profile_finding(profiles[profile_name], mirrored=name == "exponent_D")]
        else:
            own = [Judgement("not_identified", "the fitted value is beyond any model: no optimum.")]
        verdicts[name] = _worst([*findings, *own])
    if "E" in problem.free or "E" in optimum.at_bound:
        verdicts["E"] = _judge_E(optimum, intervals)
        if verdicts["E"].verdict == "identified" and verdicts["exponent_N"].verdict == (
            "not_identified"
        ):
            reason = "it rests on a law this table does not determine."
            verdicts["E"] = Judgement("weak", reason)
    return verdicts


def design_findings(used: pl.DataFrame, n_column: str = "n_params") -> list[Judgement]:
    """What the places of the rows in the plane of ln N and ln D cannot show."""
    N, D = (used[c].to_numpy().astype(float) for c in (n_column, "tokens"))
    found = []
    C_span, ratio_span = _span(N * D), _span(D / N)
    for name, values, symbol in (("model size", N, "N"), ("token count", D, "D")):
        count = _levels(values)
        if count < 3:
            found.append(
                Judgement(
                    "not_identified",
                    f"only {count} {name}{'s' if count > 1 else ''}: a power of {symbol} and a "
                    f"constant need three. Train at {3 - count} more, a factor 4 apart.",
                )
            )
    if C_span < _NO_SPAN:
        found.append(
            Judgement(
                "not_identified",
                f"all rows lie on one budget (compute spans a factor {C_span:.2f}): how N* grows "
                "with C was not observed. Add rows at ten times this compute.",
            )
        )
    elif C_span < _THIN_SPAN:
        found.append(
            Judgement(
                "weak",
                f"compute spans only a factor {C_span:.1f}: extend it tenfold at either end.",
            )
        )
    if ratio_span < _NO_SPAN:
        found.append(
            Judgement(
                "not_identified",
                f"D/N is constant at {np.median(D / N):.3g} (it spans a factor "
                f"{ratio_span:.2f}): the shares of N and D in the loss cannot be told apart. Add "
                "rows with a quarter and with four times this ratio.",
            )
        )
    elif ratio_span < _THIN_SPAN:
        found.append(
            Judgement("weak", f"D/N spans only a factor {ratio_span:.1f}: add rows at both sides.")
        )
    across = _narrowest(np.log(N), np.log(D))
    if not found and across < np.log(_NO_SPAN):
        found.append(
            Judgement(
                "not_identified",
                "all rows lie on one line in the plane of ln N and ln D, so one of them stands "
                "for both. Add rows off that line.",
            )
        )
    levels = budgets(used)
    if len(levels) == 2 and C_span >= _NO_SPAN:
        found.append(
            Judgement("weak", "two budgets: nothing tests the power law between them. Add a third.")
        )
    return found


def _loss_findings(used: pl.DataFrame, n_column: str) -> list[Judgement]:
    """Whether loss curves upwards along a budget: without that there is no optimum to find."""
    N, D, loss = (used[c].to_numpy().astype(float) for c in (n_column, "tokens", "val_loss"))
    c, r, y = np.log(N * D), np.log(D / N), np.log(loss)
    if np.ptp(y) < 1e-9:
        return [Judgement("not_identified", "every row has the same loss.")]
    half_c, half_r = max(np.ptp(c) / 2, 1e-9), max(np.ptp(r) / 2, 1e-9)
    c, r = (c - c.mean()) / half_c, (r - r.mean()) / half_r
    design = np.stack([np.ones_like(c), c, r, c * c, c * r, r * r], axis=1)
    freedom = len(y) - 6
    if freedom < 1 or np.linalg.matrix_rank(design, tol=1e-8) < 6:
        return []
    # Reweighted, so that a few wild rows do not hide the valley (Huber 1981, section 7.8).
    weight = np.ones_like(y)
    for _ in range(20):
        inverse = np.linalg.pinv((design * weight[:, None]).T @ design, hermitian=True)
        coefficient = inverse @ (design.T @ (weight * y))
        residual = y - design @ coefficient
        scale = max(1.5 * float(np.median(np.abs(residual))) / 0.6745, 1e-12)
        weight = np.minimum(1.0, scale / np.maximum(np.abs(residual), 1e-300))
    variance = float((weight * residual**2).sum()) / freedom
    # The surface is not exactly quadratic; what rounding leaves is no evidence either.
    error = max(float(np.sqrt(variance * inverse[5, 5])), 1e-9)
    if coefficient[5] / error > float(student.ppf(0.95, freedom)):
        return []
    return [
        Judgement(
            "not_identified",
            "loss does not curve upwards along a budget, so the table shows no optimum: add "
            "sizes well below and well above the present ones at the same compute, or reduce "
            "the noise.",
        )
    ]


def _fit_findings(problem: Problem, optimum: Optimum) -> list[Judgement]:
    """What the optimum itself gives away."""
    found = []
    stuck = [name for name in optimum.at_bound if name != "E"]
    if stuck:
        found.append(
            Judgement(
                "not_identified",
                f"the fit drives {', '.join(stuck)} to the edge of what is searched: the table "
                "does not show that term. Widen the range of N and D.",
            )
        )
    if "E" in optimum.at_bound and problem.form != "kaplan":
        found.append(
            Judgement(
                "weak",
                "E is driven to 0, so power laws alone describe the table and the exponents carry "
                "what E should. Add runs at larger compute, where E shows.",
            )
        )
    if not optimum.converged:
        found.append(
            Judgement("weak", "the search did not converge; treat every number as a sketch.")
        )
    if optimum.second_best is not None:
        theta = problem.constants(np.stack([optimum.x, optimum.second_best[1]]))
        share = theta["beta"] / (theta["alpha"] + theta["beta"])
        if abs(share[1] - share[0]) > _BASIN_GAP:
            found.append(
                Judgement(
                    "weak",
                    f"a second basin fits within 5 % and has exponent {share[1]:.3f} instead of "
                    f"{share[0]:.3f}.",
                )
            )
    found += _faint_terms(problem, optimum)
    theta = problem.chart.to_theta(optimum.x[None])[0]
    terms = (
        np.log(theta[3]) + theta[1] - theta[3] * problem.rows.n,
        np.log(theta[4]) + theta[2] - theta[4] * problem.rows.d,
    )
    too_small = float((terms[0] > terms[1]).mean())
    if too_small in (0.0, 1.0):
        side = "smaller" if too_small else "larger"
        found.append(
            Judgement(
                "weak",
                f"every model is {side} than the fitted optimum for its compute, which is "
                f"extrapolated: add {'larger' if too_small else 'smaller'} models.",
            )
        )
    spare = len(problem.rows.loss) - len(problem.free)
    if spare < 3:
        found.append(
            Judgement(
                "weak",
                f"{len(problem.rows.loss)} rows for {len(problem.free)} constants leave "
                f"{spare} to judge by.",
            )
        )
    return found


def _run_findings(problem: Problem, used: pl.DataFrame) -> list[Judgement]:
    """Checkpoints of a handful of trainings are not as many independent rows."""
    clusters = clusters_of(used)
    if clusters is None or clusters.max() >= len(problem.free):
        return []
    return [
        Judgement(
            "weak",
            f"the rows are checkpoints of {clusters.max() + 1} trainings, no more than there are "
            "constants, so their common errors cannot be told from the law. Add trainings.",
        )
    ]


def _faint_terms(problem: Problem, optimum: Optimum) -> list[Judgement]:
    """Terms that vary over the table by less than three times the scatter around the law."""
    constants = {k: float(v[0]) for k, v in problem.constants(optimum.x[None]).items()}
    rows, loss = problem.rows, problem.rows.loss
    scatter = float(np.median(np.abs(problem.residuals(optimum.x[None])[0])))
    if not problem.objective.on_log:
        scatter /= float(np.median(loss))
    N, D = np.exp(rows.n + rows.n_mean), np.exp(rows.d + rows.d_mean)
    terms = {
        "N": constants["A"] * N ** -constants["alpha"],
        "D": constants["B"] * D ** -constants["beta"],
    }
    inner = terms["N"] + terms["D"]
    found = []
    for symbol, term in terms.items():
        # What the loss would do if only this term varied as it does over the table.
        held = np.median(inner - term)
        moved = np.ptp(np.log(constants["E"] + (term + held) ** constants["gamma"]))
        if moved < max(_FAINT * scatter, _UNSEEN):
            found.append(
                Judgement(
                    "not_identified",
                    f"over this table the term of {symbol} moves the loss by "
                    f"{100 * float(moved):.2g} %, and runs scatter by {100 * scatter:.2g} %: "
                    f"widen the range of {symbol}, or reduce the noise.",
                )
            )
    return found


def _profile_finding(profile: Profile, *, mirrored: bool) -> Judgement:
    """What a profile says; `mirrored` reads the exponent of D* as one minus that of N*."""
    low, high = profile.interval
    if mirrored:
        low, high = (None if end is None else 1 - end for end in (high, low))
    if low is None or high is None:
        side = (
            "either side" if low is None and high is None else "below" if low is None else "above"
        )
        return Judgement(
            "not_identified",
            f"its profile never rises enough on {side}: other values fit as well."
            if side == "either side"
            else f"its profile never rises enough {side} the estimate: values there fit as well.",
        )
    exponent = profile.quantity == "exponent_N"
    size = high - low if exponent else high / low
    good, poor = _EXPONENT_WIDTHS if exponent else _SIZE_FACTORS
    spread = f"{low:.3f} to {high:.3f}" if exponent else f"{low:.2e} to {high:.2e}"
    if size <= good:
        return Judgement("identified", f"its profile closes on both sides: {spread}.")
    verdict: Verdict = "weak" if size <= poor else "not_identified"
    return Judgement(verdict, f"its profile closes but is wide: {spread}.")


def _interval_finding(intervals: Intervals) -> Judgement:
    """For the form without profiles: the width of the exponent's interval."""
    interval = intervals.values.get("exponent_N")
    if interval is None:
        return Judgement("weak", "this form is judged by its bootstrap, and there is none.")
    low, high = interval
    good, poor = _EXPONENT_WIDTHS
    reason = f"the exponent's interval is {low:.3f} to {high:.3f}."
    if high - low <= good:
        return Judgement("identified", reason)
    return Judgement("weak" if high - low <= poor else "not_identified", reason)


def _judge_E(optimum: Optimum, intervals: Intervals) -> Judgement:
    if "E" in optimum.at_bound:
        return Judgement("not_identified", "E is driven to 0: the table does not reach near it.")
    interval = intervals.values.get("E") or intervals.beside.get("sandwich", {}).get("E")
    if interval is None:
        return Judgement("weak", "no interval was computed for it.")
    low, high = interval
    spread = f"{low:.4g} to {high:.4g}"
    if low <= 0.05 * high:
        return Judgement("not_identified", f"its interval reaches down to 0: {spread}.")
    if high / low > 1.5:
        return Judgement("weak", f"its interval is wide: {spread}.")
    return Judgement("identified", f"its interval is {spread}.")


def _worst(findings: list[Judgement]) -> Judgement:
    """The lowest verdict, with every reason at that level."""
    order: tuple[Verdict, ...] = ("not_identified", "weak", "identified")
    for verdict in order:
        reasons = [finding.reason for finding in findings if finding.verdict == verdict]
        if reasons:
            return Judgement(verdict, " ".join(reasons))
    return Judgement("weak", "nothing speaks for or against it.")


def _span(values: Array) -> float:
    return float(values.max() / values.min())


def _levels(values: Array) -> int:
    """Different values, those within 2 % counted as one."""
    return 1 + int((np.diff(np.log(np.sort(values))) > 0.02).sum())


def _narrowest(u: Array, v: Array) -> float:
    """Extent of the points across their narrowest direction."""
    centred = np.stack([u - u.mean(), v - v.mean()], axis=1)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return float(np.ptp(centred @ vectors[:, 0]))
