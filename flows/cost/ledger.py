"""What a sweep has spent on its runs, kept beside its plan."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from flows.cost.budget import Budget
from flows.cost.calibrate import estimate_plan, standing
from flows.cost.estimate import Estimate, flops_left
from flows.runs.attempts import Spent, spent
from flows.runs.directory import RunDir, RunResult
from flows.runs.state import missing
from flows.settings import Home
from sweeps.cap import Cap, FlopsCap, HoursCap, MoneyCap, amount, in_words, option
from sweeps.plan import Plan
from sweeps.spec import PlannedRun


def capped(
    plan: Plan, home: Home, slots: Sequence[dict[str, str]], estimate: Estimate | None = None
) -> "CappedSweep | None":
    """The cap of a plan's spec, ready to be asked; None where it has none.

    Args:
        slots: what trainings are timed on where the cap is in hours or money.
        estimate: of this plan, if it has been made already.

    Raises:
        CalibrationError: a timing process failed.
        published.UnknownName: the cap names a GPU that is not in the table.
    """
    cap = plan.spec.cap
    if cap is None:
        return None
    todo = missing(plan.runs, home)
    if isinstance(cap, FlopsCap):
        kept = standing(plan, home)
        return CappedSweep(plan, home, cap, {run.id: flops_left(run, kept[run.id]) for run in todo})
    if estimate is None:
        estimate = estimate_plan(plan, home, slots, cap.speed)
    ranks = plan.spec.placement.ranks
    times = {run.id: estimate.runs[run.id].left_s * ranks for run in todo}
    left = {run: _priced(cap, 0.0, seconds) for run, seconds in times.items()}
    return CappedSweep(plan, home, cap, left)


class Ledger:
    """Remembers what had been spent on a run, by whatever sweep, when this one first started it.

    One line is appended before a run starts. What has been spent on the run since is this
    sweep's, also when it is stopped, killed, and called again.
    """

    def __init__(self, plan: Plan, home: Home) -> None:
        self._home = home
        self._runs = {run.id: run for run in plan.runs}
        # Made when a run starts: a dry run leaves the sweep's folder alone. What a sweep of the
        # same name on another corpus noted there is of other runs.
        self._path = home.sweeps / plan.spec.name / "ledger.jsonl"
        self._before: dict[str, Spent] = {}
        if self._path.exists():
            for line in self._path.read_text().splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    continue  # torn by a kill: its run had not started
                self._before.setdefault(row["run"], Spent(row["steps"], row["seconds"]))

    def open(self, run_id: str) -> None:
        """Note a run that is about to start, unless it was started by this sweep before."""
        if run_id in self._before:
            return
        self._before[run_id] = spent(RunDir(self._home.runs / run_id))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps({"run": run_id, **asdict(self._before[run_id])}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def admit(self, run: PlannedRun) -> bool:
        """Let a run start, and note it: a cap that is set later counts what was spent before."""
        self.open(run.id)
        return True

    def spent(self, run_id: str) -> Spent:
        """What this sweep has spent on the run."""
        if run_id not in self._before:
            return Spent(0, 0.0)
        return spent(RunDir(self._home.runs / run_id)) - self._before[run_id]


class CappedSweep:
    """A sweep's cap at work: asked by dispatchers, told by results, explained to people.

    Args:
        left: by run id, what the runs that are to train still cost, in the cap's unit.
    """

    def __init__(self, plan: Plan, home: Home, cap: Cap, left: Mapping[str, float]) -> None:
        self.cap = cap
        # Attempts are noted by the clock; every rank is a device that is paid for.
        self._ranks = plan.spec.placement.ranks
        self._ledger = Ledger(plan, home)
        self._runs = {run.id: run for run in plan.runs}
        settled = sum(self._spent(run) for run in self._runs if run not in left)
        self._budget = Budget(amount(cap), left, self._spent, spent_before=settled)

    def admit(self, run: PlannedRun) -> bool:
        """Whether the run may start; if so it is under way until `ended`."""
        if not self._budget.admit(run.id):
            return False
        self._ledger.open(run.id)
        return True

    def ended(self, run: PlannedRun, result: RunResult) -> None:
        """A run has its result."""
        self._budget.settle(run.id, finished=result.status == "finished")

    def foresee(self) -> str | None:
        """As `refusal`, before anything has started, if every run took what is estimated."""
        for run in self._budget.left_out:
            self._budget.admit(run)
        return self.refusal()

    def refusal(self) -> str | None:
        """Which runs the cap left out and what would let them train; None when it left out none."""
        left = self._budget.left_out
        if not left:
            return None
        names = ", ".join(self._runs[run].name for run in left)
        spent = self._budget.spent
        total = spent + sum(left.values())
        return (
            f"the cap of {in_words(self.cap, amount(self.cap))} leaves out {len(left)} of "
            f"{len(self._runs)} runs: {names}. Spent: {in_words(self.cap, spent)}; the next would "
            f"take {in_words(self.cap, min(left.values()))}, all of them "
            f"{in_words(self.cap, sum(left.values()))}. The same command with {option(self.cap)} "
            f"{_rounded_up(total)} goes on with all of them."
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
    """Two digits, a tenth above: an estimate is no promise."""
    return f"{1.1 * total:.2g}"
