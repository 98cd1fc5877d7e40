"""The trials of a study in the order of its search: proposed, trained by others, recorded."""

import math
from collections.abc import Callable, Sequence

from optuna.trial import FrozenTrial

from analysis.words import counted
from flows.plans.stored import write_round
from flows.runs.directory import RunDir, RunResult
from flows.runs.state import missing
from flows.settings import Home
from flows.tuning.report import write_trials
from flows.tuning.study import Width
from sweeps.spec import DataRef, PlannedRun
from sweeps.tune_plan import trial_run
from sweeps.tune_spec import TuneSpec


class Search:
    """The trials of a study: those that are open, and what becomes of them.

    A width's next trials are proposed from the losses of its own earlier ones, so no width waits
    for another.
    """

    def __init__(
        self,
        spec: TuneSpec,
        data: DataRef,
        widths: Sequence[Width],
        home: Home,
        say: Callable[[str], None],
    ) -> None:
        self.home, self.say = home, say
        self._spec, self._data, self._widths = spec, data, widths
        self._open: dict[Width, list[tuple[FrozenTrial, PlannedRun]]] = {}
        # Of each width's last trials.
        self._runs: dict[Width, list[PlannedRun]] = {}
        self._training: set[str] = set()

    def trials(self) -> list[tuple[FrozenTrial, PlannedRun]]:
        """Every trial that was proposed, and its training."""
        return [
            trained
            for width in self._widths
            for trained in self._with_runs(width, width.study.trials())
        ]

    def runs(self) -> list[PlannedRun]:
        """The trainings of `trials`."""
        return [run for _, run in self.trials()]

    def begin(self) -> list[PlannedRun] | None:
        """The runs to train of the next round, those of a stopped one first; None at the end."""
        return self._propose(self._widths)

    def ended(self, run: PlannedRun) -> None:
        """A run has its result."""
        self._training.discard(run.id)

    def more(self) -> list[PlannedRun]:
        """Runs of the trials that follow those of a width whose runs have all ended."""
        todo: list[PlannedRun] = []
        while over := [width for width, trials in self._open.items() if self._over(trials)]:
            for width in over:
                self._tell(width)
            todo += self._propose(over) or []
        return todo

    def failure(self) -> str | None:
        """Why no more is tried, if every training of the last trials failed."""
        runs = [run for own in self._runs.values() for run in own]
        results = [RunDir(self.home.runs / run.id).result() for run in runs]
        ended = [result for result in results if result is not None]
        if not ended or any(RunDir(self.home.runs / run.id).settled() for run in runs):
            return None
        failed = counted(len(ended), "training")
        return f"all of {failed} failed, so no more is tried: {ended[0].reason}"

    def end(self) -> None:
        """Record the open trials that have a result. One that a cap refused stays open."""
        for width in list(self._open):
            self._tell(width)

    def _propose(self, widths: Sequence[Width]) -> list[PlannedRun] | None:
        """Open the next trials of some widths; the runs to train, None where no trial is left."""
        runs: list[PlannedRun] = []
        for width in widths:
            trials = self._with_runs(width, width.study.open_trials(self._spec.trials))
            if trials:
                self._open[width], self._runs[width] = trials, [run for _, run in trials]
                runs += self._runs[width]
        if not runs:
            return None
        # Two trials may round to the same batch and be one run.
        todo = missing(runs, self.home)
        self._training |= {run.id for run in todo}
        known = f", {len(runs) - len(todo)} found finished" if len(todo) < len(runs) else ""
        self.say(f"{counted(len(runs), 'trial')}, {len(todo)} to train{known}")
        # Who looks on finds the runs of the trials there, and their losses in the runs.
        write_trials(self.trials(), self.home, self.home.tunes / self._spec.name)
        # Runs of one shape share what it takes to compile it.
        write_round(
            self._spec.name, [run for each in self._open.values() for _, run in each], self.home
        )
        return todo

    def _with_runs(
        self, width: Width, trials: Sequence[FrozenTrial]
    ) -> list[tuple[FrozenTrial, PlannedRun]]:
        spec, model = self._spec, width.model
        return [
            (trial, trial_run(spec, model, self._data, trial.number, trial.params))
            for trial in trials
        ]

    def _over(self, trials: Sequence[tuple[FrozenTrial, PlannedRun]]) -> bool:
        """Whether all runs of these trials have ended, and not all failed."""
        runs = [run for _, run in trials]
        return not any(run.id in self._training for run in runs) and any(
            RunDir(self.home.runs / run.id).settled() for run in runs
        )

    def _tell(self, width: Width) -> None:
        """Record the outcomes of a width's open trials, in order of number."""
        for trial, run in self._open.pop(width):
            result = RunDir(self.home.runs / run.id).result()
            if result is not None:
                width.study.tell(trial.number, objective(run, result))


def objective(run: PlannedRun, result: RunResult | None) -> float | None:
    """What the search minimises: the loss, averaged over the budgets.

    A diverged training gets the loss of a uniform guess; one that failed otherwise gets None.
    """
    if result is not None and result.status == "finished":
        return sum(end.val_loss for end in result.observations) / len(result.observations)
    if result is not None and result.status == "diverged":
        return math.log(run.run.model.vocab_size)
    return None
