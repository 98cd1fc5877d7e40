"""The time and the money of a plan as lines for people."""

from collections.abc import Mapping, Sequence
from math import inf

from analysis.words import dollars
from flows.cost.quote import Cost
from flows.runs.attempts import StackChoice
from sweeps.plan import Plan


def time_lines(plan: Plan, cost: Cost) -> list[str]:
    """The time and the money that are left, and how runs are trained to save some."""
    estimate = cost.estimate
    if not estimate.device_s:
        return ["nothing is left to train"]
    low, high = estimate.elapsed_range_s
    spread = f" ({duration(low)} to {duration(high)})" if low < high else ""
    about = f"about {duration(estimate.elapsed_s)}{spread}"
    if estimate.elapsed_s < 1:
        about = "less than a second of training"
    lines = [f"{about} for what is left, {estimate.slots} at once: {estimate.basis}"]
    usd = cost.usd(estimate.device_s)
    if usd is not None:
        lines.append(
            f"about {dollars(usd)}: {estimate.device_s / 3600:.3g} device-hours at "
            f"${cost.usd_per_hour:g} an hour ({cost.price_source}){_idle(cost)}"
        )
    return lines + _stack_lines(plan, cost) + _compile_lines(plan, cost)


def _stack_lines(plan: Plan, cost: Cost) -> list[str]:
    """Which of the runs left train as one program, and what that saves; nothing without groups.

    Without any, the group that comes nearest to it says why not.
    """
    names, times = {planned.id: planned.name for planned in plan.runs}, cost.estimate.runs
    yes = [(group, how) for group, how in cost.estimate.stacked if how.stacked]
    if yes:
        groups = "; ".join(f"{_group(names, group)} ({_times(how)})" for group, how in yes)
        saved_s = sum(
            ((how.gain or 1.0) - 1) * sum(times[run].left_s for run in group) for group, how in yes
        )
        return [
            f"as one program: {groups}, to save about {duration(saved_s)} of work; workers of a "
            "pool train each alone"
        ]
    if not cost.estimate.stacked:
        return []
    group, how = max(cost.estimate.stacked, key=lambda pair: pair[1].gain or 0.0)
    return [f"as one program: none; {_group(names, group)}: {how.reason}"]


def _group(names: Mapping[str, str], group: Sequence[str]) -> str:
    return f"{names[group[0]]} and {len(group) - 1} of its shape"


def _times(how: StackChoice) -> str:
    return how.reason if how.gain is None else f"{how.gain:.2f} times as fast"


def _compile_lines(plan: Plan, cost: Cost) -> list[str]:
    """Which of the runs left will be compiled, and what that saves; nothing where it is not chosen.

    Without any, the run that comes nearest to gaining says why not.
    """
    estimate = cost.estimate
    together = {run for group, how in estimate.stacked if how.stacked for run in group}
    left = [
        (planned, estimate.compiled[planned.id])
        for planned in plan.runs
        if planned.id in estimate.compiled and estimate.runs[planned.id].left_s
        if planned.id not in together
    ]
    compiled = [(planned, choice) for planned, choice in left if choice.compiled]
    if compiled:
        names = ", ".join(planned.name for planned, _ in compiled)
        gain_s = sum(choice.gain_s or 0.0 for _, choice in compiled)
        return [f"compiled: {names}, to save about {duration(gain_s)} together"]
    if not left:
        return []
    nearest, choice = max(left, key=lambda pair: pair[1].gain_s or -inf)
    if choice.gain_s is None:
        return [f"compiled: none; {choice.reason}"]
    return [f"compiled: none; {nearest.name} {choice.reason}"]


def _idle(cost: Cost) -> str:
    """What devices cost that wait until the last training ends; empty where few do."""
    share = cost.estimate.idle_share
    usd = cost.usd(cost.estimate.device_s * share / (1 - share))
    if share < 0.01 or usd is None:
        return ""
    return f"; {share:.0%} idle until the last training ends, ${usd:,.2f} more where rented"


def duration(seconds: float) -> str:
    """A duration in one unit: < 1 s, 42 s, 5.1 min, 3.2 h, 12 days."""
    if 0 < seconds < 1:
        return "< 1 s"
    for limit, unit, name in ((100, 1, "s"), (6000, 60, "min"), (360_000, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} s" if unit == 1 else f"{seconds / unit:.3g} {name}"
    return f"{seconds / 86400:.3g} days"
