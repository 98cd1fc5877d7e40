"""A plan on this machine: the corpus prepared, the runs planned on it. No Prefect here."""

from collections.abc import Callable
from pathlib import Path

from flows.settings import Home
from llama_core.corpus import PreparedCorpus, prepare
from sweeps.plan import Plan, plan
from sweeps.spec import DataRef, SweepSpec


def make_plan(
    spec: SweepSpec, home: Home, progress: Callable[[str], None] | None = None
) -> tuple[Plan, PreparedCorpus]:
    """Prepare the corpus, or find it prepared, and plan the runs on it.

    Raises:
        ValueError: the corpus or the spec cannot be used; nothing is left half-written.
    """
    # A spec that cannot be planned is refused before the corpus is prepared for it.
    plan(spec, DataRef(digest=""))
    corpus = prepare(spec.corpus, home.root, progress)
    planned = plan(spec, DataRef(digest=corpus.digest), train_tokens=corpus.train_tokens)
    # Opening checks the shards, and that they hold a batch and the validation set.
    for train in {run.run.train.batch_tokens: run.run.train for run in planned.runs}.values():
        corpus.open(train)
    return planned, corpus


def sweep_folder(planned: Plan, home: Home) -> Path:
    """Where a sweep's plan, table, law and report lie."""
    folder = home.sweeps / planned.spec.name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
