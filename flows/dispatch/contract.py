"""Two ways to have runs trained, one contract: child processes here, or a work pool."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from flows.files import now, write_whole
from flows.runs.directory import RunDir, RunResult
from llama_core.config import Placement
from llama_core.schedule import tokens_spent
from sweeps.spec import PlannedRun

# A training that is killed goes on from its checkpoint; one that is killed three times without
# having come any farther stops.
_ATTEMPTS = 3
# Seconds a training gets to end its step and write a checkpoint before it is killed.
GRACE_S = 30.0
# What a token of the smallest models costs beside its FLOPs, as FLOPs: about 10 µs on a core.
_FLOPS_A_TOKEN = 1e6
Admit = Callable[[PlannedRun], bool]


def always(planned: PlannedRun) -> bool:
    """Without a cap every run may start."""
    return True


class Dispatcher(Protocol):
    """Trains runs somewhere. When `train_all` returns, every run admitted has a result on disk."""

    def train_all(
        self,
        runs: Sequence[PlannedRun],
        *,
        on_finished: Callable[[PlannedRun, RunResult], None],
        on_tick: Callable[[], None],
        admit: Admit = always,
    ) -> None:
        """Train the runs, longest first.

        Args:
            admit: asked before a run starts, and again after each `on_finished` for a run it
                refused; what is refused to the end is not trained.
            on_finished: called once for each run when its result is there.
            on_tick: called about every second or faster while something is under way.
        """


def longest_first(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Runs in falling order of expected time, so that no long one starts last and alone."""
    return sorted(
        runs,
        key=lambda run: run.flops_spent + _FLOPS_A_TOKEN * tokens_spent(run.run.train),
        reverse=True,
    )


def admitted(waiting: list[PlannedRun], admit: Admit, most: int) -> Iterator[PlannedRun]:
    """Take out of `waiting` what may start now, in its order and at most so many."""
    for planned in list(waiting):
        if most <= 0:
            return
        if admit(planned):
            waiting.remove(planned)
            most -= 1
            yield planned


def give_up(run: RunDir, said: str) -> RunResult:
    """Record a run that could not be trained, so that the sweep can go on without it.

    Args:
        said: what its last attempt said, for a person.
    """
    with run.waited_for():
        result = run.result()
        if result is None:
            result = RunResult(
                run_id=run.id,
                status="failed",
                reason=f"no result: {said}",
                train_s=0.0,
                device="",
                finished_at=now(),
            )
            write_whole(run.result_path, result.model_dump_json(indent=1))
    return result


class Tries:
    """Counts the failures of a run since it last came farther."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._checkpoint = run.newest_checkpoint()
        self._failed = 0

    def another(self) -> bool:
        """Whether a run that has just failed is worth another try."""
        checkpoint = self._run.newest_checkpoint()
        self._failed = 1 if checkpoint > self._checkpoint else self._failed + 1
        self._checkpoint = checkpoint
        return self._failed < _ATTEMPTS


def make_ready(run: RunDir, planned: PlannedRun, placement: Placement) -> None:
    run.create(planned)
    run.place(placement)
    run.retire_result()


def result_of(run: RunDir) -> RunResult:
    result = run.result()
    if result is None:
        raise RuntimeError(f"run {run.id} ended, but there is no result in {run.path}")
    return result


class SweepFailedError(RuntimeError):
    """The first trainings of a sweep all failed; the rest is not tried."""
