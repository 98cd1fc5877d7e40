"""Whether the data determine each quantity.

A fit always returns numbers. A verdict says whether the table determines them: first by its
design (one budget, constant D/N, too few sizes), then by the loss itself (no curvature along a
budget), then by the profile (an interval open on one side), and last by the interval's width.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import polars as pl

from analysis import words
from analysis.fit.design import Judgement, Verdict, design_findings, loss_findings, run_findings
from analysis.law import Intervals, LawFit, Trust
from analysis.solver.problem import Problem
from analysis.solver.profile import Profile
from analysis.solver.search import Optimum
from analysis.table.observations import Doubt

# Width 0.15 of the exponent is a factor 1.7 each way in N* three decades above the table.
_EXPONENT_WIDTHS = (0.15, 0.5)
_SIZE_FACTORS = (4.0, 100.0)
_BASIN_GAP = 0.05
_ORDER: tuple[Verdict, ...] = ("not_identified", "weak", "identified")
_FAINT = 3.0
_UNSEEN = 1e-6  # relative change of a loss below which no table shows it, noise or none


def judge(
    problem: Problem,
    optimum: Optimum,
    used: pl.DataFrame,
    profiles: Mapping[str, Profile],
    intervals: Intervals,
) -> dict[str, Judgement]:
    """Verdicts on exponent_N, exponent_D, n_opt, d_opt and E.

    Args:
        profiles: by quantity, as `profile.profile` returns them; n_opt and d_opt at the budget
            they were profiled for.
    """
    findings = [
        *design_findings(used),
        *loss_findings(used),
        *_fit_findings(problem, optimum),
        *run_findings(problem, used),
    ]
    verdicts: dict[str, Judgement] = {}
    for name in ("exponent_N", "exponent_D", "n_opt", "d_opt"):
        profile = profiles.get("exponent_N" if name == "exponent_D" else name)
        if problem.form == "tied" and name.startswith("exponent"):
            own = Judgement("not_identified", "form tied sets it to 0.5, whatever the table.")
        elif problem.form == "data_constrained":
            own = _interval_finding(intervals)
        elif profile is not None:
            own = _profile_finding(profile, mirrored=name == "exponent_D")
        else:
            own = Judgement("not_identified", "the fitted value is beyond any model: no optimum.")
        verdicts[name] = _worst([*findings, own])
    if "E" in problem.free or "E" in optimum.at_bound:
        verdicts["E"] = _judge_E(optimum, intervals)
        sure = verdicts["E"].verdict == "identified"
        if sure and verdicts["exponent_N"].verdict == "not_identified":
            verdicts["E"] = Judgement("weak", "it rests on a law this table does not determine.")
    return verdicts


def doubted(
    verdicts: Mapping[str, Judgement], names: Iterable[str], reason: str
) -> dict[str, Judgement]:
    """The verdicts with those of these names at most weak, for a reason in the first lines."""
    return dict(verdicts) | {
        name: Judgement("weak", reason, (verdicts[name].cause, *verdicts[name].others))
        for name in names
        if name in verdicts and verdicts[name].verdict == "identified"
    }


def trust(
    fit: LawFit, verdicts: Mapping[str, Judgement], doubts: Iterable[Doubt], *, target_flops: float
) -> Trust:
    """What the verdicts and the table's doubts say against the optima of a law.

    N* rests on its exponent and on its own profile at the target budget; the form tied sets the
    exponent, so there the profile alone counts. A weak verdict warns; one not identified, a
    constant at a bound, a search that did not converge and a doubt that `bars_optimum` bar N*.
    """
    exponent, size = verdicts["exponent_N"], verdicts["n_opt"]
    bars = [f"DOUBTFUL: {doubt.sentence}" for doubt in doubts if doubt.bars_optimum]
    warnings = []
    subject, judged = "exponent of N*", exponent
    tied = fit.law.form == "tied"
    if tied or _ORDER.index(size.verdict) < _ORDER.index(exponent.verdict):
        subject, judged = f"N* at {words.flops(target_flops)} FLOPs", size
    if judged.verdict == "not_identified":
        bars.append(f"NOT IDENTIFIED ({subject}): {judged.cause}")
    elif fit.status == "at_bound":
        bars.append(f"AT A BOUND ({', '.join(fit.at_bound)}): {judged.reason}")
    elif fit.status == "not_converged":
        bars.append(f"NOT CONVERGED: {judged.reason}")
    elif judged.verdict == "weak":
        warnings.append(f"WEAK ({subject}): {judged.cause}")
    if tied:
        warnings.append(f"WEAK (exponent of N*): {exponent.cause}")
    return Trust(bars=tuple(bars), warnings=tuple(warnings))


def _fit_findings(problem: Problem, optimum: Optimum) -> Iterator[Judgement]:
    """Weaknesses that the optimum itself shows."""
    stuck = [name for name in optimum.at_bound if name != "E"]
    if stuck:
        yield Judgement(
            "not_identified",
            f"the fit drives {', '.join(stuck)} to the edge of the search range: the table "
            "does not show that term. Widen the range of N and D.",
        )
    if "E" in optimum.at_bound and problem.form != "kaplan":
        yield Judgement(
            "weak",
            "E is driven to 0, so power laws alone describe the table and the exponents carry "
            "what E should. Add runs at larger compute, where E shows.",
        )
    if not optimum.converged:
        yield Judgement("weak", "the search did not converge; treat every number as a sketch.")
    if optimum.second_best is not None:
        share = problem.constants(np.stack([optimum.x, optimum.second_best[1]])).exponent_N
        if abs(share[1] - share[0]) > _BASIN_GAP:
            yield Judgement(
                "weak",
                f"a second basin fits within 5 % and has exponent {share[1]:.3f} instead of "
                f"{share[0]:.3f}.",
            )
    yield from _faint_terms(problem, optimum)
    theta = problem.chart.to_theta(optimum.x[None])[0]
    terms = (
        np.log(theta[3]) + theta[1] - theta[3] * problem.rows.n,
        np.log(theta[4]) + theta[2] - theta[4] * problem.rows.d,
    )
    too_small = float((terms[0] > terms[1]).mean())
    if too_small in (0.0, 1.0):
        side = "smaller" if too_small else "larger"
        yield Judgement(
            "weak",
            f"every model is {side} than the fitted optimum for its compute, which is "
            f"extrapolated: add {'larger' if too_small else 'smaller'} models.",
        )
    yield from _few_places(problem)


def _few_places(problem: Problem) -> Iterator[Judgement]:
    """Fewer places of N and D than show how far a law is off: seeds at one place add none."""
    rows, places, constants = len(problem.rows.loss), problem.rows.places, len(problem.free)
    given, every, more = f"{rows} rows", "every loss", "Add three runs or more."
    if places < rows:
        given, every = f"{rows} rows at {places} pairs of N and D", "the mean of every pair"
        more = "Add three runs or more, at other N or D."
    if places <= constants:
        yield Judgement(
            "not_identified",
            f"{given} for {constants} constants: a law through {every} shows no error, so "
            f"nothing says how far off N* is. {more}",
        )
    elif places < constants + 3:
        yield Judgement(
            "weak", f"{given} for {constants} constants leave {places - constants} to judge by."
        )


def _faint_terms(problem: Problem, optimum: Optimum) -> Iterator[Judgement]:
    """Terms that vary over the table by less than three times the scatter around the law."""
    constants = problem.constants(optimum.x[None])
    rows, loss = problem.rows, problem.rows.loss
    scatter = float(np.median(np.abs(problem.residuals(optimum.x[None])[0])))
    if not problem.objective.on_log:
        scatter /= float(np.median(loss))
    N, D = np.exp(rows.n + rows.n_mean), np.exp(rows.d + rows.d_mean)
    terms = {"N": constants.A * N**-constants.alpha, "D": constants.B * D**-constants.beta}
    inner = terms["N"] + terms["D"]
    for symbol, term in terms.items():
        # What the loss would do if only this term varied as it does over the table.
        held = np.median(inner - term)
        moved = np.ptp(np.log(constants.E + (term + held) ** constants.gamma))
        if moved < max(_FAINT * scatter, _UNSEEN):
            yield Judgement(
                "not_identified",
                f"over this table the term of {symbol} moves the loss by "
                f"{100 * float(moved):.2g} %, and runs scatter by {100 * scatter:.2g} %: "
                f"widen the range of {symbol}, or reduce the noise.",
            )


def _profile_finding(profile: Profile, *, mirrored: bool) -> Judgement:
    """The verdict of a profile; `mirrored` reads the exponent of D* as one minus that of N*."""
    (low, high), (first, last) = profile.interval, profile.values[[0, -1]].tolist()
    if mirrored:
        low, high = (None if end is None else 1 - end for end in (high, low))
        first, last = 1 - last, 1 - first
    exponent = profile.quantity == "exponent_N"
    show = "{:.3f}".format if exponent else words.short
    if low is None or high is None:
        where = f"above the estimate, up to {show(last)}"
        if low is None:
            where = f"below the estimate, down to {show(first)}"
            if high is None:
                where = f"on either side, from {show(first)} to {show(last)}"
        reason = f"its profile never rises enough {where}: values there fit as well."
        advice = "Add budgets further apart, with sizes on both sides of each minimum."
        return Judgement("not_identified", f"{reason} {advice}")
    size = high - low if exponent else high / low
    good, poor = _EXPONENT_WIDTHS if exponent else _SIZE_FACTORS
    spread = f"{low:.3f} to {high:.3f}" if exponent else words.between(low, high)
    if size <= good:
        return Judgement("identified", f"its profile closes on both sides: {spread}.")
    verdict: Verdict = "weak" if size <= poor else "not_identified"
    return Judgement(verdict, f"its profile closes but is wide: {spread}.")


def _interval_finding(intervals: Intervals) -> Judgement:
    """For a form without profiles: the width of the exponent's interval."""
    interval = intervals.values.get("exponent_N")
    if interval is None:
        return Judgement(
            "weak",
            "this form is judged by its bootstrap, and none was drawn: set --bootstrap above 0.",
        )
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
    for verdict in _ORDER:
        reasons = [finding.reason for finding in findings if finding.verdict == verdict]
        if reasons:
            return Judgement(verdict, reasons[0], tuple(reasons[1:]))
    return Judgement("weak", "nothing speaks for or against it.")
