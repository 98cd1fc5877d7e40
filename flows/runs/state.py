"""The state of a run, read from its directory."""

from collections.abc import Iterable
from contextlib import suppress

from flows.runs.directory import RunDir, RunResult
from flows.runs.words import RunState
from flows.settings import Home
from sweeps.plan import Plan
from sweeps.spec import PlannedRun

# States of a run that has no result and no process.
TO_DO: tuple[RunState, ...] = ("planned", "interrupted")


def run_state(run: RunDir) -> RunState:
    """How the run ended, or before that whether it trains now, was interrupted or never began."""
    return state_with(run.result(), run)


def state_with(result: RunResult | None, run: RunDir) -> RunState:
    """`run_state` of a run whose result has been read."""
    if result is not None:
        return result.status
    if run.busy():
        return "training"
    return "interrupted" if run.curve_path.exists() else "planned"


def missing(runs: Iterable[PlannedRun], home: Home) -> list[PlannedRun]:
    """The runs still to be trained; finished work of any sweep counts.

    A run that failed or ran out of memory is trained again; one that diverged would diverge again.
    """
    # Equal variants plan the same run.
    by_id = {planned.id: planned for planned in runs}
    return [planned for planned in by_id.values() if not RunDir(home.runs / planned.id).settled()]


def newest(ids: Iterable[str], home: Home, count: int) -> set[str]:
    """The runs whose result, or else whose curve, was written last; those never started last."""
    return set(sorted(ids, key=lambda run: _written_at(RunDir(home.runs / run)))[-count:])


def _written_at(run: RunDir) -> float:
    for path in (run.result_path, run.curve_path):
        with suppress(FileNotFoundError):
            return path.stat().st_mtime
    return 0.0


def not_finished(planned: Plan, home: Home) -> list[str]:
    """A sentence for each run of a plan that has no complete result."""
    sentences = []
    for run in planned.runs:
        result = RunDir(home.runs / run.id).result()
        if result is None:
            sentences.append(f"{run.name} is not trained")
        elif result.status != "finished":
            sentences.append(f"{run.name} {result.status}: {result.reason}")
    return sentences
