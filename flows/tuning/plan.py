"""A study on this machine: its prepared corpus and its precision. No Prefect here."""

import logging
from collections.abc import Callable

from flows.plans.precision import fastest_dtype
from flows.settings import Home
from flows.tuning.ranges import search_box
from flows.tuning.stored import read_study_spec
from flows.tuning.study import propose, read_trials, study_name
from llama_core.config import ModelConfig
from llama_core.corpus.preparation import find_prepared, prepare
from llama_core.corpus.prepared import PreparedCorpus
from sweeps.shapes import shape
from sweeps.spec import DataRef, PlannedRun
from sweeps.tune_plan import StudyPlan, trial_run
from sweeps.tune_spec import TuneSpec

log = logging.getLogger(__name__)


def prepare_tune(
    spec: TuneSpec, home: Home, progress: Callable[[str], None] | None = None
) -> PreparedCorpus:
    """Prepare the corpus, or find it prepared, and check that every trial can be trained on it.

    What preparation left out of the text is logged.

    Raises:
        ValueError: a width, a budget or the corpus cannot be used.
    """
    largest = [_corner(spec, shape(spec.ladder, width, spec.make)) for width in spec.ladder.widths]
    corpus = prepare(spec.corpus, home.root, progress)
    for note in corpus.notes:
        log.warning("%s", note.text)
    for run in largest:
        corpus.open(run.run.train)
    return corpus


def plan_study(
    spec: TuneSpec, home: Home, uri: str | None
) -> tuple[StudyPlan, PreparedCorpus | None]:
    """The trials of a study, on its corpus if that is prepared; nothing is fetched or written.

    Args:
        uri: of Optuna's database; None: a journal in the study's folder.

    Raises:
        ValueError: a width, a budget or the corpus cannot be used.
    """
    spec = with_dtype(spec, home)
    models = [shape(spec.ladder, width, spec.make) for width in spec.ladder.widths]
    largest = [_corner(spec, model) for model in models]
    corpus = find_prepared(spec.corpus, home.root)
    data = DataRef(digest="")
    if corpus is not None:
        data = DataRef(digest=corpus.digest)
        for run in largest:
            corpus.open(run.run.train)
    runs: list[PlannedRun] = []
    for model in models:
        box = search_box(spec, model)
        name = study_name(spec, data.digest, model.d_model, box)
        proposed = read_trials(name, uri, home.tunes / spec.name)
        spread = propose(spec, box, (), max(spec.trials, spec.startup))
        points = [*proposed, *spread[len(proposed) :]]
        runs += [
            trial_run(spec, model, data, number, params)
            for number, params in enumerate(points[: spec.trials])
        ]
    return StudyPlan(spec=spec, data=data, runs=tuple(runs)), corpus


def with_dtype(spec: TuneSpec, home: Home) -> TuneSpec:
    """The spec with `dtype: auto` resolved. A study that is in the home keeps its precision.

    Raises:
        ValueError: a width or a budget cannot be used.
    """
    if spec.dtype != "auto":
        return spec
    old = read_study_spec(home.tunes / spec.name)
    if old is not None:
        dtype = old.run_dtype
    else:
        models = [shape(spec.ladder, width, spec.make) for width in spec.ladder.widths]
        trials = [_corner(spec, model).run for model in models]
        dtype = fastest_dtype([(run.model, run.train) for run in trials], spec.placement, home)
    return spec.model_copy(update={"dtype": dtype})


def _corner(spec: TuneSpec, model: ModelConfig) -> PlannedRun:
    """The trial with the largest value of each searched parameter."""
    corner = {dimension.name: dimension.high for dimension in search_box(spec, model)}
    return trial_run(spec, model, DataRef(digest=""), 0, corner)
