"""Several runs of one shape trained as one program, each in its own directory."""

import logging
import os
import time
from contextlib import ExitStack

from analysis.words import counted
from flows.runs.attempts import (
    StackChoice,
    compile_choice,
    record_choice,
    recording_attempt,
    stack_choice,
)
from flows.runs.directory import RunDir
from flows.runs.lease import heartbeat
from flows.settings import Home
from flows.training.loop import Listener, finish
from flows.training.signals import Interrupted, interruptible, stop_requested
from flows.training.stack_gain import CLEAR_GAIN, IN_A_STACK, choose, measure
from llama_core.records import DivergedRecord, StoppedRecord
from sweeps.spec import RunSpec

log = logging.getLogger(__name__)

_HOW = {True: "as one program", False: "one by one"}


def execute_stack(runs: list[RunDir], home: Home) -> bool:
    """Train runs of one shape together, each from its newest checkpoint to its end.

    Settled runs are left as they are. Each has its lock, heartbeat, attempt, curve, checkpoints
    and result as if it were alone. Whatever goes wrong is raised: nothing is retried here, as the
    runs can go on one by one.

    Returns:
        whether they were trained; False where one by one is faster, or they cannot be stacked.

    Raises:
        Interrupted: SIGTERM or SIGINT arrived; every run under way has written a checkpoint.
    """
    with ExitStack() as held:
        # In the same order everywhere, so that two processes do not wait for each other.
        for run in sorted(runs, key=lambda run: run.id):
            held.enter_context(run.waited_for())
        open_runs = [run for run in runs if not run.settled()]
        if not open_runs:
            return True
        held.enter_context(interruptible())
        if len(open_runs) == 1:
            return False
        choice = _choice(open_runs, home)
        log.info("%d runs train %s: %s", choice.runs, _HOW[choice.stacked], choice.reason)
        for run in open_runs:
            if choice.stacked:
                held.enter_context(recording_attempt(run, home, together=choice.runs))
                held.enter_context(heartbeat(run))
                if compile_choice(run) is None:
                    record_choice(run, IN_A_STACK)
            if stack_choice(run) != choice:
                record_choice(run, choice)
        if choice.stacked:
            _train(open_runs, home)
        return choice.stacked


def _choice(runs: list[RunDir], home: Home) -> StackChoice:
    """Whether runs train together, after a short trial of both ways unless that is clear."""
    planned, placement = [run.planned() for run in runs], runs[0].placement()
    choice = choose(planned, home, placement, os.environ, clear=CLEAR_GAIN)
    if choice is None:
        measure([each.run for each in planned], home, placement)
        choice = choose(planned, home, placement, os.environ)
    assert choice is not None, "a trial that was just made is kept in the home"
    return choice


def _rows_read(spec: RunSpec) -> tuple[object, ...]:
    """Equal for runs that read the same rows at the same step."""
    train = spec.train
    return train.batch_tokens, train.seed, train.eval_tokens, spec.data.model_dump_json()


def _train(runs: list[RunDir], home: Home) -> None:
    from llama_core.corpus.prepared import find_corpus
    from llama_core.machine import resolve_device
    from llama_core.stacked.member import Training
    from llama_core.stacked.train import train_stacked

    specs, placement = [run.planned().run for run in runs], runs[0].placement()
    corpus = find_corpus(home.root, specs[0].data.digest)
    # Runs that read the same rows read them once.
    rows = [_rows_read(spec) for spec in specs]
    opened = {
        key: corpus.open(spec.train, spec.data.mixture)
        for key, spec in zip(rows, specs, strict=True)
    }
    trainings = [
        Training(spec.train, opened[key], run.checkpoints)
        for spec, key, run in zip(specs, rows, runs, strict=True)
    ]
    device, started = str(resolve_device(placement.device)), time.monotonic()
    listeners = [Listener(run) for run in runs]
    open_runs, stopped = set(range(len(runs))), 0
    try:
        with stop_requested() as stop:
            for number, record in train_stacked(
                specs[0].model, trainings, placement=placement, stop=stop.is_set
            ):
                listeners[number].hear(record)
                match record:
                    case DivergedRecord():
                        reason = record.reason
                        finish(runs[number], "diverged", started, device, reason=reason)
                        open_runs.remove(number)
                    case StoppedRecord():
                        open_runs.remove(number)
                        stopped += 1
    finally:
        for listener in listeners:
            listener.close()
    for number in open_runs:
        finish(runs[number], "finished", started, device)
    if stopped:
        raise Interrupted(f"{counted(stopped, 'run')} of a stack, each with a checkpoint")
