"""Several runs of one shape trained as one program, each in its own directory."""

import logging
from contextlib import ExitStack

from analysis.words import counted
from flows.files import now
from flows.runs.attempts import CompileChoice, compile_choice, record_choice, recording_attempt
from flows.runs.directory import RunDir
from flows.runs.lease import heartbeat
from flows.settings import Home
from flows.training.loop import Listener, finish
from flows.training.signals import Interrupted, interruptible, stop_requested
from flows.training.stack_gain import pays
from llama_core.records import DivergedRecord, StoppedRecord
from sweeps.spec import RunSpec

log = logging.getLogger(__name__)


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
        if len(open_runs) == 1 or not _may_and_pays(open_runs, home):
            return False
        for run in open_runs:
            held.enter_context(recording_attempt(run, home, together=len(open_runs)))
            held.enter_context(heartbeat(run))
            if compile_choice(run) is None:
                record_choice(run, CompileChoice(compiled=False, reason="trained in a stack"))
        _train(open_runs, home)
        return True


def _may_and_pays(runs: list[RunDir], home: Home) -> bool:
    from llama_core.stacked.train import why_not

    specs = [run.planned().run for run in runs]
    placement = runs[0].placement()
    reason = why_not([(spec.model, spec.train) for spec in specs], placement)
    if not reason and any(choice and choice.compiled for choice in map(compile_choice, runs)):
        reason = "one of them is compiled"
    if reason:
        log.info("%d runs train one by one: %s", len(runs), reason)
        return False
    return placement.stack != "auto" or pays(specs, home, placement)


def _rows_read(spec: RunSpec) -> tuple[object, ...]:
    """Equal for runs that read the same rows at the same step."""
    train = spec.train
    return train.batch_tokens, train.seed, train.eval_tokens, spec.data.model_dump_json()


def _train(runs: list[RunDir], home: Home) -> None:
    from llama_core.corpus.prepared import find_corpus
    from llama_core.machine import resolve_device
    from llama_core.stacked.course import Training
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
    device, started = str(resolve_device(placement.device)), now()
    listeners = [Listener(run) for run in runs]
    open_runs, stopped = set(range(len(runs))), 0
    log.info("%d runs train as one program: %s", len(runs), ", ".join(run.id for run in runs))
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
