"""One width's study in Optuna: trials proposed and their outcomes. Only the controller calls this.

Proposals are a pure function of the spec's seed and of the outcomes of earlier generations in
order of number, so a study that is killed at any moment ends like one that was not.
"""

import hashlib
import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, GPSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy.stats import qmc

from flows.files import copy_aside, has_fields, read_lines
from llama_core.config import ModelConfig
from sweeps.tune_spec import Dimension, TuneSpec

optuna.logging.set_verbosity(optuna.logging.WARNING)

log = logging.getLogger(__name__)

_LOCK = ".lock"
_PROPOSED_AGAIN = (
    "is damaged from line %d on. Its trials are proposed again from there, and those that were "
    "trained are not trained again. The file as it was: %s"
)


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """A trial's parameters and its loss; None for a failed trial."""

    params: dict[str, float]
    loss: float | None


class WidthStudy:
    """The trials of one width, numbered from 0, in Optuna's storage."""

    def __init__(
        self, name: str, spec: TuneSpec, box: Sequence[Dimension], storage: BaseStorage
    ) -> None:
        self._spec = spec
        self._box = tuple(box)
        self._study = optuna.create_study(
            study_name=name, storage=storage, direction="minimize", load_if_exists=True
        )

    def trials(self) -> list[FrozenTrial]:
        """All trials in order of number."""
        trials: list[FrozenTrial] = self._study.get_trials(deepcopy=False)
        return trials

    def open_trials(self, wanted: int) -> list[FrozenTrial]:
        """Trials without an outcome: those of a killed controller, else new proposals.

        A new generation is proposed when all earlier trials have an outcome.

        Args:
            wanted: number of trials of the whole study.
        """
        trials = self.trials()
        first, last = self._generation(len(trials))
        settled = all(trial.state.is_finished() for trial in trials[:first])
        if settled and len(trials) < min(last, wanted):
            outcomes = [TrialOutcome(trial.params, trial.value) for trial in trials[:first]]
            proposed = propose(self._spec, self._box, outcomes, last - first)
            running, distributions = TrialState.RUNNING, _distributions(self._box)
            self._study.add_trials(
                create_trial(state=running, params=params, distributions=distributions)
                for params in proposed[len(trials) - first : min(last, wanted) - first]
            )
            trials = self.trials()
        return [trial for trial in trials if not trial.state.is_finished()]

    def tell(self, number: int, loss: float | None) -> None:
        """Record a trial's loss; None records a failure."""
        if loss is None:
            self._study.tell(number, state=TrialState.FAIL)
        else:
            self._study.tell(number, loss)

    def importances(self) -> dict[str, float]:
        """Optuna's importance of each parameter; empty where it cannot be computed."""
        try:
            with warnings.catch_warnings():
                # That few trials weigh all alike.
                warnings.simplefilter("ignore", UserWarning)
                return dict(optuna.importance.get_param_importances(self._study))
        except (ValueError, RuntimeError):
            return {}

    def _generation(self, count: int) -> tuple[int, int]:
        """First number and end of the generation that trial number `count` belongs to."""
        startup, size = self._spec.startup, self._spec.generation
        if count < startup:
            return 0, startup
        first = startup + (count - startup) // size * size
        return first, first + size


def propose(
    spec: TuneSpec, box: Sequence[Dimension], outcomes: Sequence[TrialOutcome], count: int
) -> list[dict[str, float]]:
    """Parameters of the generation that follows these outcomes, a pure function of all four.

    The first generation is a scrambled Sobol sequence; later ones come from Optuna's GPSampler,
    which sees its own open trials and so proposes no point twice. Measured against TPE in
    docs/benchmarks/tuning_cpu_202611.md.
    """
    if not outcomes:
        # Sobol's sequence is balanced at a power of two.
        unit = qmc.Sobol(len(box), rng=spec.seed).random_base2((count - 1).bit_length())[:count]
        return [
            {
                dimension.name: float(dimension.low * (dimension.high / dimension.low) ** share)
                for dimension, share in zip(box, point, strict=True)
            }
            for point in unit
        ]
    study = optuna.create_study(sampler=_sampler(spec.seed, len(outcomes)), direction="minimize")
    distributions = _distributions(box)
    study.add_trials(
        [
            create_trial(value=trial.loss, params=trial.params, distributions=distributions)
            for trial in outcomes
            if trial.loss is not None
        ]
    )
    return [study.ask(distributions).params for _ in range(count)]


def open_storage(uri: str | None, folder: Path) -> BaseStorage:
    """The database of the settings, or a journal file in the study's folder.

    The caller has locked the folder, so a lock file or an unfinished last line in it was left by a
    killed process.
    """
    if uri is not None:
        return RDBStorage(uri)
    path = folder / "optuna.journal"
    path.with_name(path.name + _LOCK).unlink(missing_ok=True)
    if path.exists():
        _mend(path)
    try:
        return JournalStorage(JournalFileBackend(str(path)))
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError):
        log.warning("%s %s", path, _PROPOSED_AGAIN % (1, copy_aside(path).name))
        path.unlink()
        return JournalStorage(JournalFileBackend(str(path)))


def read_trials(name: str, uri: str | None, folder: Path) -> list[dict[str, float]]:
    """Parameters of the trials proposed so far, in order of number; nothing is written."""
    path = folder / "optuna.journal"
    if uri is None and not path.exists():
        return []
    try:
        storage = JournalStorage(JournalFileBackend(str(path))) if uri is None else RDBStorage(uri)
        study = optuna.load_study(study_name=name, storage=storage)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError):
        # There is no such study yet, or its journal is damaged, which the study itself mends.
        return []
    return [trial.params for trial in study.get_trials(deepcopy=False)]


def _mend(path: Path) -> None:
    """Cut a journal off at its first damaged line.

    Optuna numbers studies and trials by their lines, so no line behind that one can be trusted.
    Their trials are proposed again, which gives the same runs, and those are not trained again.
    """
    rows = list(read_lines(path, is_row=_is_operation, stop_at_damage=True))
    end = rows[-1][1] if rows else 0
    if b"\n" in path.read_bytes()[end:]:
        log.warning("%s %s", path, _PROPOSED_AGAIN % (len(rows) + 1, copy_aside(path).name))
    os.truncate(path, end)


def _is_operation(row: Any) -> bool:
    return has_fields(row, "op_code", "worker_id")


def study_name(spec: TuneSpec, data_digest: str, width: int, box: Sequence[Dimension]) -> str:
    """Name in Optuna: another spec, or another corpus, is another study."""
    body = f"{spec.identity}\n{data_digest}\n{list(box)}"
    return f"{spec.name}-d{width}-{hashlib.sha256(body.encode()).hexdigest()[:12]}"


def _distributions(box: Sequence[Dimension]) -> dict[str, FloatDistribution]:
    return {
        dimension.name: FloatDistribution(dimension.low, dimension.high, log=True)
        for dimension in box
    }


def _sampler(seed: int, count: int) -> BaseSampler:
    # Each generation has its own seed: proposals must not depend on how often we were started.
    digest = hashlib.sha256(f"{seed}/{count}".encode()).digest()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return GPSampler(seed=int.from_bytes(digest[:4], "big"), n_startup_trials=1)


@dataclass(frozen=True, slots=True)
class Width:
    """One width of a study: its model, its search ranges, and its trials."""

    model: ModelConfig
    box: tuple[Dimension, ...]
    study: WidthStudy
