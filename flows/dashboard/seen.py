"""Runs, sweeps and studies as they were when their files were last looked at."""

from dataclasses import dataclass

import polars as pl

from analysis.sweep.brief import Brief
from analysis.tuning.brief import StudyBrief
from flows.plans.joined import Joined
from flows.runs.directory import RunResult
from flows.runs.state import TO_DO
from flows.watch.progress import RunProgress
from sweeps.plan import Plan
from sweeps.spec import PlannedRun
from sweeps.tune_spec import TuneSpec

Signature = tuple[int, int]


@dataclass(frozen=True, slots=True)
class RunSeen:
    """A run as it was when its files were last looked at.

    Attributes:
        signature: of its result, and of its curve unless it has settled.
        result: how it ended; None before that.
        flops: counted FLOPs of the whole training.
    """

    planned: PlannedRun
    progress: RunProgress
    result: RunResult | None
    signature: tuple[Signature, Signature]
    flops: float

    @property
    def settled(self) -> bool:
        """Whether its files will not change again."""
        return self.result is not None and self.result.status in ("finished", "diverged")

    @property
    def flops_spent(self) -> float:
        """Counted FLOPs of the steps it has taken."""
        return self.progress.step / self.progress.steps * self.flops


@dataclass(frozen=True, slots=True)
class RunsSeen:
    """What a sweep and a study have in common.

    Attributes:
        changed_at: when the newest file was written, in seconds since 1970.
    """

    runs: tuple[RunSeen, ...]
    changed_at: float

    @property
    def name(self) -> str:
        """What people call it."""
        raise NotImplementedError

    @property
    def total(self) -> int:
        """How many runs are planned."""
        return len(self.runs)

    @property
    def run_ids(self) -> set[str]:
        """The ids of its runs."""
        return {run.progress.run_id for run in self.runs}

    def count(self, *states: str) -> int:
        """How many runs are in one of these states."""
        return sum(run.progress.state in states for run in self.runs)

    @property
    def failed(self) -> int:
        """How many runs ended without all of their losses."""
        return len(self.runs) - self.count("finished", "training", *TO_DO)

    @property
    def live(self) -> bool:
        """Whether a run trains now."""
        return self.count("training") > 0

    @property
    def ended(self) -> bool:
        """Whether every run has settled."""
        return len(self.runs) == self.total and all(run.settled for run in self.runs)

    @property
    def state(self) -> str:
        """The state in a few words."""
        finished, failed = self.count("finished"), self.failed
        words = f"{finished} of {self.total} finished"
        if self.live:
            words = f"training {self.count('training')}, {words}"
        elif finished == self.total:
            words = "finished"
        elif not finished and not failed and not self.count("interrupted"):
            words = "planned"
        return f"{words}, {failed} failed" if failed else words

    @property
    def flops_spent(self) -> float:
        """Counted FLOPs of all steps that its runs have taken."""
        return sum(run.flops_spent for run in self.runs)

    @property
    def stamp(self) -> str:
        """What changes when anything does that a page shows of it."""
        states = [(run.signature, run.progress.state) for run in self.table_runs]
        return f"{hash((tuple(states), self.changed_at)):x}"

    @property
    def losses(self) -> tuple[object, ...]:
        """What changes when a loss does: a fit is of this state of the table."""
        return tuple((run.progress.run_id, run.signature[0]) for run in self.table_runs)

    @property
    def table_runs(self) -> tuple[RunSeen, ...]:
        """The runs whose losses are one table."""
        return self.runs

    def best_losses(self) -> list[float]:
        """The least validation loss so far, each time that a run ended."""
        ends = sorted(
            (run.result.finished_at, min(seen.val_loss for seen in run.result.observations))
            for run in self.runs
            if run.result is not None and run.result.observations
        )
        best: list[float] = []
        for _, loss in ends:
            best.append(min(loss, best[-1]) if best else loss)
        return best


@dataclass(frozen=True, slots=True)
class SweepSeen(RunsSeen):
    """A sweep.

    Attributes:
        whole: its plan with the runs of the sweeps that it continues; `earlier` are those.
        law: of its last report; None without one.
        reported: its table and law are of all losses that are there.
    """

    plan: Plan
    whole: Joined
    earlier: tuple[RunSeen, ...]
    law: Brief | None
    reported: bool
    flops_planned: float

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.plan.spec.name

    @property
    def table_runs(self) -> tuple[RunSeen, ...]:
        """Its runs and those of the sweeps that it continues."""
        return (*self.earlier, *self.runs)


@dataclass(frozen=True, slots=True)
class StudySeen(RunsSeen):
    """A study.

    Attributes:
        runs: of the trials that have begun.
        trials: those proposed so far, as its folder has them.
        law: of its last report in brief; None without one.
    """

    spec: TuneSpec
    trials: pl.DataFrame
    law: StudyBrief | None

    @property
    def name(self) -> str:
        """The study's name."""
        return self.spec.name

    @property
    def total(self) -> int:
        """How many trials are planned."""
        return max(self.spec.trials * len(self.spec.ladder.widths), len(self.runs))
