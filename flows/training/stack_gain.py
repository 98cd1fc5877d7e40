"""Whether models of one shape train faster as one program: measured once, kept in the home."""

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from importlib.metadata import version

from pydantic import PositiveFloat, ValidationError

from flows.files import write_whole
from flows.settings import Home
from flows.training.compiling import micro_step, step_records
from llama_core.config import Cosine, Frozen, Placement, TrainConfig
from sweeps.spec import RunSpec

log = logging.getLogger(__name__)

# Stacked training has to be this much faster: a slot that trains a stack cannot share its runs
# with another slot that has become free.
_LEAST_GAIN = 1.1
_ENOUGH_S, _WARM_STEPS, _MOST_STEPS = 0.3, 2, 10_000


class StackGain(Frozen):
    """Work of trainings one after another over their work as one program."""

    gain: PositiveFloat


def pays(specs: Sequence[RunSpec], home: Home, placement: Placement) -> bool:
    """Whether to train these runs together, by a short trial of both ways unless it is known."""
    from llama_core.machine import resolve_device

    device = str(resolve_device(placement.device))
    records = step_records(home, placement, device, os.environ)
    batches = sorted(spec.train.batch_tokens for spec in specs)
    train = specs[0].train
    key = [specs[0].model.model_dump_json(), train.seq_len, train.dtype, batches]
    words = "\n".join(map(str, [records.device, records.threads, version("torch"), *key]))
    path = home.timings / "stacks" / f"{hashlib.sha256(words.encode()).hexdigest()[:16]}.json"
    try:
        known = StackGain.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        known = StackGain(gain=_measured(specs, home, placement))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, known.model_dump_json())
    compiled = records.read(micro_step(specs[0], placement))
    saving = compiled.saving if compiled is not None else None
    # Where compiled steps are known to be faster still, each run compiles.
    rival = 1 / (1 - saving) if saving else 1.0
    chosen = known.gain >= _LEAST_GAIN * max(1.0, rival)
    log.info(
        "%d runs: %.2f times faster as one program%s",
        *(len(specs), known.gain, "" if chosen else "; they train one by one"),
    )
    return chosen


def _measured(specs: Sequence[RunSpec], home: Home, placement: Placement) -> float:
    """Seconds of a token of each run alone, over those of a token of the stack."""
    from llama_core.corpus.prepared import find_corpus
    from llama_core.stacked.course import Training
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
