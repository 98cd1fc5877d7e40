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
    corpus = prepare(spec.corpus, home.root, progress)
    data = DataRef(digest=corpus.digest)
    return plan(spec, data, train_tokens=corpus.train_tokens), corpus


def sweep_folder(planned: Plan, home: Home) -> Path:
    """Where a sweep's plan, table, law and report lie."""
    folder = home.sweeps / planned.spec.name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
