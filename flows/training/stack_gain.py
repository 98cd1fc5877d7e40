"""Whether models of one shape train faster as one program: measured once, kept in the home."""

import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from pydantic import PositiveFloat

from flows.files import read_record, write_whole
from flows.runs.attempts import CompileChoice, StackChoice, compile_choice
from flows.runs.directory import RunDir
from flows.settings import Home
from flows.training.compiling import micro_step, step_records
from flows.training.stacks import work, work_together
from llama_core.config import Cosine, Frozen, Placement, TrainConfig
from sweeps.spec import PlannedRun, RunSpec

# Stacked training has to be this much faster: a slot that trains a stack cannot share its runs
# with another slot that has become free.
LEAST_GAIN = 1.1
# Runs that are expected to gain this much stack untried: what is expected is right to a quarter
# (docs/decisions/0017-stacked-training.md), and a trial takes seconds.
CLEAR_GAIN = 1.5
# A stack is eager, and its runs stay so.
IN_A_STACK = CompileChoice(compiled=False, reason="trained in a stack")
_ENOUGH_S, _WARM_STEPS, _MOST_STEPS = 0.3, 2, 10_000


class StackGain(Frozen):
    """Work of trainings one after another over their work as one program."""

    gain: PositiveFloat


def choose(
    runs: Sequence[PlannedRun],
    home: Home,
    placement: Placement,
    slot: Mapping[str, str],
    *,
    clear: float = math.inf,
) -> StackChoice | None:
    """Whether to train these runs as one program; None where that takes a trial of both ways.

    Args:
        slot: the environment of the training's process.
        clear: an expected gain that is believed untried, on a CPU.
    """
    from llama_core.machine import resolve_device
    from llama_core.stacked.train import why_not

    count = len(runs)
    reason = why_not([(each.run.model, each.run.train) for each in runs], placement)
    made = (compile_choice(RunDir(home.runs / each.id)) for each in runs)
    if not reason and any(choice and choice.compiled for choice in made):
        reason = "one of them is compiled"
    if reason:
        return StackChoice(stacked=False, runs=count, reason=reason)
    specs = [each.run for each in runs]
    kept = read_record(kept_at(specs, home, placement, slot), StackGain)
    gain = None if kept is None else kept.gain
    if placement.stack != "auto":
        return StackChoice(stacked=True, runs=count, reason="as placement.stack says", gain=gain)
    how = "measured here"
    if gain is None:
        gain, how = expected_gain(runs), "reckoned from their steps"
        on_cpu = resolve_device(placement.device).type == "cpu"
        if on_cpu and gain < LEAST_GAIN:
            reason = f"would be {gain:.2f} times as fast, {how}"
            return StackChoice(stacked=False, runs=count, reason=reason)
        if not on_cpu or gain < clear:
            return None
    reason = f"{gain:.2f} times as fast as one by one, {how}"
    compiled = step_records(home, placement, slot).read(micro_step(specs[0], placement))
    # Where compiled steps are known to be faster still, each run compiles.
    rival = 1 / (1 - compiled.saving) if compiled is not None and compiled.saving else 1.0
    stacked = gain >= LEAST_GAIN * max(1.0, rival)
    if not stacked and gain >= LEAST_GAIN:
        reason += f", and compiled {rival:.2f} times"
    return StackChoice(stacked=stacked, runs=count, reason=reason, gain=gain)


def expected_gain(runs: Sequence[PlannedRun]) -> float:
    """How many times as fast a stack of runs of one shape would be on a core, at best."""
    return sum(map(work, runs)) / work_together(runs)


def kept_at(
    specs: Sequence[RunSpec], home: Home, placement: Placement, slot: Mapping[str, str]
) -> Path:
    """Where the home keeps the ratio of runs of this shape with these batches."""
    records, train = step_records(home, placement, slot), specs[0].train
    batches = sorted(spec.train.batch_tokens for spec in specs)
    key = [specs[0].model.model_dump_json(), train.seq_len, train.dtype, batches]
    words = "\n".join(map(str, [records.device, records.threads, version("torch"), *key]))
    return home.timings / "stacks" / f"{hashlib.sha256(words.encode()).hexdigest()[:16]}.json"


def measure(specs: Sequence[RunSpec], home: Home, placement: Placement) -> None:
    """Try both ways of training these runs, in this process, and keep the ratio in the home."""
    gain = StackGain(gain=_measured(specs, home, placement))
    path = kept_at(specs, home, placement, os.environ)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, gain.model_dump_json())


def _measured(specs: Sequence[RunSpec], home: Home, placement: Placement) -> float:
    """Seconds of a token of each run alone, over those of a token of the stack."""
    from llama_core.corpus.prepared import find_corpus
    from llama_core.stacked.member import Training
    from llama_core.stacked.train import train_stacked
    from llama_core.train import train
    from llama_core.trial import release_memory

    corpus = find_corpus(home.root, specs[0].data.digest)
    eager = placement.model_copy(update={"compile": "off"})
    short = [_short(spec.train) for spec in specs]
    mixtures = [spec.data.mixture for spec in specs]
    opened = [corpus.open(*each) for each in zip(short, mixtures, strict=True)]
    alone = {}
    for cfg, batches in zip(short, opened, strict=True):
        if cfg.batch_tokens not in alone:
            records = train(specs[0].model, cfg, batches, placement=eager)
            alone[cfg.batch_tokens] = _seconds_per_token(((0, record) for record in records), eager)
    trainings = [Training(cfg, batches) for cfg, batches in zip(short, opened, strict=True)]
    stacked = _seconds_per_token(
        train_stacked(specs[0].model, trainings, placement=eager), eager, len(specs)
    )
    release_memory()
    return sum(alone[cfg.batch_tokens] for cfg in short) / len(short) / stacked


def _seconds_per_token(
    records: Iterator[tuple[int, object]], placement: Placement, members: int = 1
) -> float:
    """Work of a token, over some steps after each member has taken a few."""
    from llama_core.records import StepRecord
    from llama_core.trial import step_clock

    clock, steps, tokens = step_clock(placement), [0] * members, 0
    started = None
    for number, record in records:
        assert isinstance(record, StepRecord)
        steps[number] += 1
        if started is None:
            started = clock() if min(steps) >= _WARM_STEPS else None
            continue
        tokens += record.tokens // record.step
        if clock() - started > _ENOUGH_S:
            break
    assert started is not None
    return (clock() - started) / tokens


def _short(train: TrainConfig) -> TrainConfig:
    """A recipe of steps, too many to come to an evaluation, none of which diverges."""
    from llama_core.trial import gentle

    schedule = Cosine(tokens=_MOST_STEPS * train.batch_tokens)
    return gentle(train).model_copy(update={"schedule": schedule})
