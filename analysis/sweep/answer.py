"""The answer of a sweep: its fit in one frozen record, and in a few sentences."""

from collections.abc import Mapping
from dataclasses import dataclass

from analysis.fit.answer import fit_table
from analysis.fit.isoflop import Valley
from analysis.fit.options import FitOptions
from analysis.fit.power_law import PowerLaw
from analysis.fit.records import GroupFit
from analysis.fit.text import remaining_doubts
from analysis.forecast.lead import Lead, led
from analysis.own_runs.largest_budget import LargestBudget, largest_budget, largest_sentence
from analysis.own_runs.outcome import Interval
from analysis.repetition.text import facts_sentence
from analysis.table.observations import Table, TableError
from analysis.words import bracket, counted, flops, short


@dataclass(frozen=True, slots=True)
class Findings:
    """A sweep's observations, the fit to them, and the forecast that goes before it.

    Attributes:
        table: every observation, those left out with their reason.
        group: the fit; None where the table is too small for one.
        refusal: why there is no fit; empty when there is one.
        lead: the forecast at the fit's target; None without a fit.
        largest: how its largest budget was foretold; None without losses of two budgets.
    """

    table: Table
    group: GroupFit | None
    refusal: str
    lead: Lead | None = None
    largest: LargestBudget | None = None


def find(
    table: Table,
    *,
    source: str,
    bootstrap: int = 1000,
    registered: Mapping[str, Interval] | None = None,
) -> Findings:
    """Fit a sweep's observations; a table too small for a law gives a refusal, not an error.

    Args:
        registered: forecasts written before their losses were recorded, by `run_id`.
    """
    largest = largest_budget(table, registered or {})
    try:
        [group] = fit_table(table, FitOptions(bootstrap=bootstrap), source=source)
    except TableError as error:
        return Findings(table, None, str(error), largest=largest)
    group, first = led(group, record=True)
    return Findings(table, group, "", first, largest)


def verdict(findings: Findings) -> str:
    """The answer in a few lines for a terminal."""
    last = [largest_sentence(findings.largest)] if findings.largest is not None else []
    if findings.group is None:
        return "\n".join([f"No law: {findings.refusal}", *last])
    group = findings.group
    foretold = [findings.lead.sentence] if findings.lead and findings.lead.sentence else []
    repeated = [facts_sentence(group.repeated)] if group.repeated is not None else []
    lines = [*group.warnings, *foretold, isoflop_sentence(group), law_sentence(group), *repeated]
    doubts = remaining_doubts(group)
    if not group.optimal:
        # Without an answer, the runs to add are what a reader needs next.
        advice = [valley.advice for valley in group.isoflop.valleys if valley.advice]
        doubts.sort(key=lambda doubt: not any(each in doubt for each in advice))
    lines += [f"Doubtful: {doubt}" for doubt in doubts[:3]]
    if len(doubts) > 3:
        more = len(doubts) - 3
        lines.append(
            "One more is in the report." if more == 1 else f"{more} more are in the report."
        )
    return "\n".join([*lines, *last])


def numbers(findings: Findings) -> dict[str, float]:
    """The numbers that MLflow keeps beside the report."""
    group = findings.group
    if group is None:
        return {}
    law = group.fit.law
    constants = {name: getattr(law, name) for name in ("E", "A", "B", "alpha", "beta")}
    constants["exponent_N_parametric"] = law.exponent_N
    if group.leave_one_out_percent is not None:
        constants["leave_one_out_percent"] = group.leave_one_out_percent
    if group.isoflop.N is not None:
        constants["exponent_N_isoflop"] = group.isoflop.N.exponent
    return constants


def isoflop_sentence(group: GroupFit) -> str:
    """Approach 2 in a sentence."""
    isoflop = group.isoflop
    good = [valley for valley in isoflop.valleys if valley.status == "ok"]
    budgets = counted(len(isoflop.valleys), "budget")
    share = f"the minimum lies inside the grid at {len(good)} of {budgets}"
    if isoflop.N is None or isoflop.D is None:
        return f"IsoFLOP: no power law. {isoflop.reason}."
    low, high = good[0], good[-1]
    growth = (
        f"IsoFLOP: the best size grows as N* ~ C^{_exponent(isoflop.N, isoflop.level)}, the best "
        f"token count as D* ~ C^{_exponent(isoflop.D, isoflop.level)}; {share}."
    )
    if not group.optimal:
        return growth
    return (
        f"{growth} At {flops(low.flops)} FLOPs the best model has {short(low.n_opt)} parameters on "
        f"{short(low.d_opt)} tokens ({short(ratio(low))} per parameter), at {flops(high.flops)} "
        f"FLOPs {short(high.n_opt)} on {short(high.d_opt)} ({short(ratio(high))})."
    )


def law_sentence(group: GroupFit) -> str:
    """Approach 3 in a sentence."""
    law = group.fit.law
    spread = bracket(group.fit.intervals.values.get("exponent_N"), "{:.2f}".format)
    points, percent = len(group.fit.rows_used), group.leave_one_out_percent
    error = f"With {points} points for its constants it fits exactly, so its error is not known."
    if percent is not None:
        error = f"Each point is predicted from the others to {percent:.2f} % rms ({points} points)."
    return (
        f"Parametric law: {law.formula} nats per token, N* ~ C^{law.exponent_N:.2f}{spread} "
        f"for C = 6ND. {error}"
    )


def _exponent(law: PowerLaw, level: float) -> str:
    if law.exponent_interval is None:
        return f"{law.exponent:.2f}"
    low, high = law.exponent_interval
    return f"{law.exponent:.2f} [{low:.2f}, {high:.2f}, {level:.0%}]"


def ratio(valley: Valley) -> float:
    """D*/N* of a valley that has a minimum."""
    assert valley.n_opt is not None
    assert valley.d_opt is not None
    return valley.d_opt / valley.n_opt
