"""Two ways to have runs trained, one contract: child processes here, or a work pool."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from flows.files import no_room, now, write_whole
from flows.runs.directory import RunDir, RunResult
from llama_core.config import Placement
from sweeps.spec import PlannedRun

# A killed training resumes from its checkpoint, and stops when it is killed this many times
# without progress.
_ATTEMPTS = 3
# Seconds for a training to end its step and write a checkpoint before it is killed.
GRACE_S = 30.0
Admit = Callable[[PlannedRun], bool]
More = Callable[[], Sequence[PlannedRun]]


def always(planned: PlannedRun) -> bool:
    """Admit every run, for a sweep without a cap."""
    return True


def no_more() -> Sequence[PlannedRun]:
    """No further runs, for a sweep whose plan is known."""
    return ()


class Dispatcher(Protocol):
    """Trains runs somewhere. When `train_all` returns, every run admitted has a result on disk."""

    def train_all(
        self,
        runs: Sequence[PlannedRun],
        *,
        on_finished: Callable[[PlannedRun, RunResult], None],
        on_tick: Callable[[], None],
        admit: Admit = always,
        more: More = no_more,
    ) -> None:
        """Train the runs, longest first.

        Args:
            admit: called before a run starts, and again after each `on_finished` for a run it
                refused; a run it always refuses is not trained.
            on_finished: called once for each run when its result is there.
            on_tick: called about every second or more often while a run is in flight.
            more: called after `on_finished`, for runs to train as well.
        """


def admitted(
    waiting: list[tuple[PlannedRun, ...]], admit: Admit, most: int
) -> Iterator[tuple[PlannedRun, ...]]:
    """Remove and yield the runs that may start now, together those of a group, of `most` groups."""
    for group in list(waiting):
        if most <= 0:
            return
        ready = tuple(planned for planned in group if admit(planned))
        if ready:
            left = tuple(planned for planned in group if planned not in ready)
            place = waiting.index(group)
            waiting[place : place + 1] = [left] if left else []
            most -= 1
            yield ready


def give_up(run: RunDir, reason: str) -> RunResult:
    """Record a run as failed, so that the sweep can continue without it.

    Args:
        reason: the last words of its last attempt.
    """
    with run.waited_for():
        result = run.result()
        if result is None:
            result = RunResult(
                run_id=run.id,
                status="failed",
                reason=f"no result: {reason}",
                train_s=0.0,
                device="",
                finished_at=now(),
            )
            write_whole(run.result_path, result.model_dump_json(indent=1))
    return result


class Tries:
    """Counts failures of a run without progress."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._checkpoint = run.newest_checkpoint()
        self._failed = 0

    def another(self) -> bool:
        """Count a failure; whether the run should be tried again."""
        checkpoint = self._run.newest_checkpoint()
        self._failed = 1 if checkpoint > self._checkpoint else self._failed + 1
        self._checkpoint = checkpoint
        return self._failed < _ATTEMPTS


def make_ready(run: RunDir, planned: PlannedRun, placement: Placement) -> None:
    run.create(planned)
    run.place(placement)
    run.retire_result()


class SweepFailedError(RuntimeError):
    """A sweep or study cannot continue: too many trainings failed, or the disk is full."""


@contextmanager
def full_disk_fails() -> Iterator[None]:
    """Turn the error of a full disk into a `SweepFailedError` that says what to do."""
    try:
        yield
    except OSError as error:
        if not no_room(error):
            raise
        raise SweepFailedError(
            f"the disk is full ({error}). Make room; the same command resumes."
        ) from error
