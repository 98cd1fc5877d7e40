"""The cost of a sweep's runs, recorded beside its plan."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from analysis.words import counted
from flows.cost.budget import Budget
from flows.cost.calibrate import estimate_plan, steps_kept_by_run
from flows.cost.estimate import Estimate, flops_left
from flows.files import append_line, has_fields, read_lines
from flows.runs.attempts import Spent, spent
from flows.runs.directory import RunDir, RunResult
from flows.runs.state import missing
from flows.settings import Home
from sweeps.cap import Cap, FlopsCap, HoursCap, MoneyCap, amount, in_words, option
from sweeps.plan import Plan
from sweeps.spec import PlannedRun
from sweeps.tune_plan import AnyPlan


def capped(
    plan: AnyPlan,
    home: Home,
    slots: Sequence[dict[str, str]],
    estimate: Estimate | None = None,
    *,
    stacks: bool = True,
) -> "CappedSweep | None":
    """The cap of a plan's spec with its runs' estimates; None where it has no cap.

    Args:
        slots: trainings are timed on these if the cap is in hours or money.
        estimate: of this plan, if it has been made already.
        stacks: whether runs of one shape may train as one program, as they do on this machine.

    Raises:
        CalibrationError: a timing process failed.
        published.UnknownName: the cap's GPU is not in the table.
    """
    cap = plan.spec.cap
    if cap is None:
        return None
    todo = missing(plan.runs, home)
    if isinstance(cap, FlopsCap):
        kept = steps_kept_by_run(plan, home)
        return CappedSweep(plan, home, cap, {run.id: flops_left(run, kept[run.id]) for run in todo})
    if estimate is None:
        estimate = estimate_plan(plan, home, slots, cap.speed, stacks=stacks)
    ranks = plan.spec.placement.ranks
    left = {run.id: _priced(cap, 0.0, estimate.runs[run.id].left_s * ranks) for run in todo}
    return CappedSweep(plan, home, cap, left)


class Ledger:
    """Records what a run had cost, to any sweep, when this one first started it.

    One line is appended before a run starts. The cost of the run since then is this sweep's,
    also after it was stopped or killed and started again.
    """

    def __init__(self, plan: AnyPlan, home: Home) -> None:
        self._home = home
        # Made when a run starts: a dry run leaves the sweep's folder alone. Lines of a sweep of
        # the same name on another corpus are of other runs.
        folder = home.sweeps if isinstance(plan, Plan) else home.tunes
        self._path = folder / plan.spec.name / "ledger.jsonl"
        self._before: dict[str, Spent] = {}
        for row, _ in read_lines(self._path, is_row=_is_entry):
            self._before.setdefault(row["run"], Spent(row["steps"], row["seconds"]))

    def open(self, run_id: str) -> None:
        """Record a run that is about to start, unless this sweep has started it before."""
        if run_id in self._before:
            return
        self._before[run_id] = spent(RunDir(self._home.runs / run_id))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        append_line(self._path, {"run": run_id, **asdict(self._before[run_id])})

    def admit(self, run: PlannedRun) -> bool:
        """Let a run start, and record it: a cap set later counts what was spent before."""
        self.open(run.id)
        return True

    def ended(self, run: PlannedRun, result: RunResult) -> None:
        """Nothing: what a run has cost is on disk."""

    def spent(self, run_id: str) -> Spent:
        """The cost of the run to this sweep."""
        if run_id not in self._before:
            return Spent(0, 0.0)
        return spent(RunDir(self._home.runs / run_id)) - self._before[run_id]


def _is_entry(row: Any) -> bool:
    return has_fields(row, "run", "steps", "seconds")


class CappedSweep:
    """A sweep's cap: admits runs, counts results, and explains which runs it leaves out.

    Args:
        left: by run id, the remaining cost of the runs to be trained, in the cap's unit.
    """

    def __init__(self, plan: AnyPlan, home: Home, cap: Cap, left: Mapping[str, float]) -> None:
        self.cap = cap
        # Attempts are recorded by the clock; every rank is a device that is paid for.
        self._ranks = plan.spec.placement.ranks
        self._ledger = Ledger(plan, home)
        self._runs = {run.id: run for run in plan.runs}
        settled = sum(self._spent(run) for run in self._runs if run not in left)
        self._budget = Budget(amount(cap), left, self._spent, spent_before=settled)

    def admit(self, run: PlannedRun) -> bool:
        """Whether the run may start; if so it counts as running until `ended`."""
        if not self._budget.admit(run.id):
            return False
        self._ledger.open(run.id)
        return True

    def ended(self, run: PlannedRun, result: RunResult) -> None:
        """Count the cost of a run that has its result."""
        self._budget.settle(run.id, finished=result.status == "finished")

    def foresee(self) -> str | None:
        """`refusal` before anything has started, if every run costs its estimate."""
        for run in self._budget.left_out:
            self._budget.admit(run)
        return self.refusal()

    def refusal(self) -> str | None:
        """Which runs the cap leaves out, and the cap that admits them; None without any."""
        left = self._budget.left_out
        if not left:
            return None
        names = ", ".join(self._runs[run].name for run in left)
        spent = in_words(self.cap, self._budget.spent)
        total = self._budget.committed + sum(left.values())
        return (
            f"the cap of {in_words(self.cap, amount(self.cap))} leaves out {len(left)} of "
            f"{counted(len(self._runs), 'run')}: {names}. Spent: {spent}; the next would "
            f"take {in_words(self.cap, min(left.values()))}, all of them "
            f"{in_words(self.cap, sum(left.values()))}. The same command with {option(self.cap)} "
            f"{_rounded_up(total)} trains all of them."
        )

    def _spent(self, run_id: str) -> float:
        run, spent = self._runs[run_id], self._ledger.spent(run_id)
        return _priced(self.cap, spent.steps * run.flops_per_step, spent.seconds * self._ranks)


def _priced(cap: Cap, flops: float, device_s: float) -> float:
    match cap:
        case FlopsCap():
            return flops
        case HoursCap():
            return device_s / 3600
        case MoneyCap():
            return device_s / 3600 * cap.usd_per_hour


def _rounded_up(total: float) -> str:
    """Two digits, a tenth above: an estimate may be too low."""
    return f"{1.1 * total:.2g}"
