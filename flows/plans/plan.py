"""A plan on this machine: the prepared corpus and the runs planned on it."""

import logging
from collections.abc import Callable
from itertools import chain, count
from pathlib import Path

import polars as pl

from analysis.fit.design import plan_warning
from flows.plans.fitted_law import with_fitted_law
from flows.plans.precision import with_dtype
from flows.plans.preparing import known_tokens
from flows.plans.scans import with_scans
from flows.plans.stored import read_plan, write_plan
from flows.settings import Home
from llama_core.corpus.batches import Batches
from llama_core.corpus.documents import CorpusError
from llama_core.corpus.preparation import find_prepared, prepare
from llama_core.corpus.prepared import PreparedCorpus
from sweeps.grid import CellsGrid
from sweeps.plan import Plan, members, plan
from sweeps.spec import DataRef, SweepSpec

log = logging.getLogger(__name__)


def make_plan(
    spec: SweepSpec, home: Home, progress: Callable[[str], None] | None = None
) -> tuple[Plan, PreparedCorpus]:
    """Prepare the corpus unless it is prepared, and plan the runs on it.

    Raises:
        ValueError: the corpus or the spec cannot be used; nothing is left half-written.
    """
    spec = with_dtype(with_fitted_law(spec, home), home)
    # A spec that cannot be planned is refused before the corpus is prepared.
    plan(spec, DataRef(digest=""))
    corpus = prepare(spec.corpus, home.root, progress)
    return _plan_on(corpus, spec, home), corpus


def plan_ahead(spec: SweepSpec, home: Home) -> tuple[Plan, PreparedCorpus | None]:
    """The plan on the corpus if it is prepared, else on the vocabulary that the spec asks for.

    Nothing is fetched or prepared. Without the corpus the runs' ids are not yet theirs, its
    validation split is not checked, and its size only where a publisher's figure is known.

    Raises:
        ValueError: the spec cannot be used, or a file of its corpus does not exist.
    """
    spec = with_dtype(with_fitted_law(spec, home), home)
    corpus = find_prepared(spec.corpus, home.root)
    if corpus is not None:
        return _plan_on(corpus, spec, home), corpus
    tokens = known_tokens(spec.corpus)
    return _with_design(plan(spec, DataRef(digest=""), source_tokens=tokens)), None


def _plan_on(corpus: PreparedCorpus, spec: SweepSpec, home: Home) -> Plan:
    planned = plan(spec, DataRef(digest=corpus.digest), source_tokens=corpus.source_tokens)
    unmeasured: tuple[str, ...] = ()
    # Opening checks the shards, and that they have a batch and the validation set; the shortest
    # runs read the smallest parts of them.
    for run in {run.run.train.batch_tokens: run.run for run in reversed(planned.runs)}.values():
        try:
            unmeasured = _without_loss(corpus.open(run.train, run.data.mixture))
        except CorpusError as error:
            raise CorpusError(f"{error} {_remedy(corpus, spec)}".strip()) from error
    planned = planned.model_copy(update={"warnings": (*planned.warnings, *unmeasured)})
    return _with_design(with_scans(planned, home))


def _without_loss(batches: Batches) -> tuple[str, ...]:
    """A warning for each source that the validation set has nothing of."""
    measured = set(batches.validation_sources().tolist())
    return tuple(
        f"source {source.name!r} has no text among the {batches.eval_tokens:,} validation tokens, "
        "so it has no loss of its own. Raise eval_tokens or corpus.val_fraction, or add text."
        for number, source in enumerate(batches.sources)
        if number not in measured
    )


def _with_design(planned: Plan) -> Plan:
    """The plan with a warning where its runs cannot carry a law."""
    if planned.spec.variants:
        each = {f"{name}: ": member for name, member in members(planned).items()}
    else:
        each = {"": planned}
    doubts = [f"{name}{warning}" for name, member in each.items() if (warning := _design(member))]
    return planned.model_copy(update={"warnings": (*planned.warnings, *doubts)})


def _design(planned: Plan) -> str | None:
    """Why the runs carry no law in N and D; single cells are added to those of another sweep."""
    if isinstance(planned.spec.grid, CellsGrid) or planned.spec.mixtures is not None:
        return None
    fresh = [run for run in planned.runs if run.unique_tokens is None]
    cells = [(run.n_params, cell.tokens) for run in fresh for cell in run.cells]
    return plan_warning(pl.DataFrame(cells, schema=["n_params", "tokens"], orient="row"))


def sweep_folder(planned: Plan, home: Home) -> Path:
    """The folder of a sweep's plan, table, law and report.

    A sweep of the same name on another corpus is renamed to NAME-<its corpus> first: with other
    text it is another experiment, and both were paid for.
    """
    folder = home.sweeps / planned.spec.name
    old = read_plan(home, planned.spec.name)
    if old is not None and old.data != planned.data:
        name = _name_beside(old, home)
        log.warning("sweep %s was trained on another corpus; it is now called %s", folder, name)
        folder.rename(home.sweeps / name)
        renamed = old.model_copy(
            update={
                "spec": old.spec.model_copy(update={"name": name}),
                "runs": tuple(run.model_copy(update={"sweep": name}) for run in old.runs),
            }
        )
        write_plan(renamed, home)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _name_beside(old: Plan, home: Home) -> str:
    """A free name for a sweep on another corpus: with its digest, and a number the second time."""
    # A name has at most 64 characters.
    name = f"{old.spec.name[:50]}-{old.data.digest[:8]}"
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(each for each in names if not (home.sweeps / each).exists())


def _remedy(corpus: PreparedCorpus, spec: SweepSpec) -> str:
    """The options to give when the validation split is too small."""
    # No window of seq_len + 1 tokens crosses two shards, so a few tokens are lost at their ends.
    windows = corpus.val_tokens * 9 // 10 // spec.seq_len
    if windows * spec.seq_len >= spec.eval_tokens or not windows:
        return ""
    return (
        f"For this sweep: --set eval_tokens={windows * spec.seq_len}, "
        "or --set corpus.val_fraction=0.2."
    )
