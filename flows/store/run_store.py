"""Corpora and runs on their way between hosts that share no disk.

A store holds small files by name. A folder, such as a run's, is kept in it as parts named by
their SHA-256 and an index that is written after them. Indexes are numbered and never rewritten,
so a push that was torn leaves the one before it in force.
"""

import fcntl
import logging
import re
import shutil
import tempfile
from pathlib import Path

from pydantic import ValidationError

from flows.runs.directory import RunDir, RunResult
from flows.settings import Home, Settings
from flows.store.contract import Store, StoreContentError
from flows.store.folder import Folder, Index
from flows.store.fsspec_store import FsspecStore
from llama_core.config import Placement
from llama_core.corpus.documents import CorpusError
from llama_core.corpus.prepared import find_corpus

log = logging.getLogger(__name__)

_RUN_FILES = re.compile(
    r"(spec|placement|provenance|result)\.json|(curve|attempts)\.jsonl|checkpoints/\w[\w.-]*"
)


class RunStore:
    """Corpora and runs in a store. Safe to be used by several threads and hosts at once."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def push_corpus(self, home: Home, digest: str) -> None:
        """Put a prepared corpus there, unless it is."""
        folder = Folder(self._store, f"corpora/{digest}")
        if not folder.indexes():
            corpus = find_corpus(home.root, digest)
            corpus.check()
            files = {path.name: path for path in sorted(corpus.path.iterdir())}
            folder.push(files, settled=True, checkpoint="")

    def pull_corpus(self, home: Home, digest: str) -> None:
        """Fetch a corpus that this home lacks: whole, verified, and once for all who ask.

        Raises:
            StoreContentError: the store does not hold it whole.
        """
        corpora = home.root / "corpora"
        corpora.mkdir(exist_ok=True)
        with (corpora / f".{digest[:16]}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (corpora / digest[:16]).exists():
                return
            log.info("fetching corpus %s", digest[:12])
            with tempfile.TemporaryDirectory(prefix=".arriving-", dir=corpora) as scratch:
                # A home of its own, so that it is looked at before it counts as this one's.
                arriving = Path(scratch) / "corpora" / digest[:16]
                self._fetch_corpus(digest, arriving)
                try:
                    find_corpus(Path(scratch), digest).check()
                except CorpusError as error:
                    raise StoreContentError(f"the store's corpus {digest[:12]}: {error}") from error
                arriving.rename(corpora / digest[:16])

    def _fetch_corpus(self, digest: str, target: Path) -> None:
        folder = Folder(self._store, f"corpora/{digest}")
        for _, index in folder.indexes():
            if all(re.fullmatch(r"\w[\w.-]*", name) for name in index.files):
                folder.fetch(index, target)
                return
        raise StoreContentError(
            f"corpus {digest[:12]} is not in the store; the sweep puts it there"
        )

    def push(self, run: RunDir) -> None:
        """Put there what a run's folder holds now: all but its older checkpoints."""
        settled, checkpoint = standing(run)
        # The curve is read after the checkpoint was chosen, so it is never the shorter one.
        Folder(self._store, f"runs/{run.id}").push(
            _files(run, checkpoint), settled=settled, checkpoint=checkpoint
        )

    def pull(self, run: RunDir) -> None:
        """Bring a run's folder up to what the store holds, where that is farther on.

        The placement is always the one pushed last: it says how the run is to be trained now.

        Raises:
            StoreError: the store cannot be reached.
            StoreContentError: it holds another run under this name.
        """
        folder = Folder(self._store, f"runs/{run.id}")
        indexes = folder.indexes()
        if not indexes:
            return
        run.path.mkdir(parents=True, exist_ok=True)
        with (
            run.waited_for(),
            tempfile.TemporaryDirectory(prefix=".arriving-", dir=run.path) as scratch,
        ):
            for _, index in sorted(indexes, key=lambda found: found[1].standing, reverse=True):
                if index.standing <= standing(run):
                    break
                if _take(folder, index, Path(scratch), run):
                    break
            _, newest = indexes[0]
            if "placement.json" in newest.files:
                content = folder.read(newest.files["placement.json"])
                run.place(Placement.model_validate_json(content))


def open_store(settings: Settings) -> RunStore | None:
    """The store of the settings; None when all share a home.

    Raises:
        StoreError: ISOFLOP_STORE names none.
    """
    if settings.store is None:
        return None
    if settings.store.startswith("mlflow-artifacts:"):
        from flows.store.mlflow_store import MlflowArtifacts

        return RunStore(MlflowArtifacts(settings.store, settings.mlflow_uri))
    return RunStore(FsspecStore(settings.store))


def standing(run: RunDir) -> tuple[bool, str]:
    """How far the folder has come; see `Index.standing`."""
    return run.settled(), run.standing()


def _files(run: RunDir, checkpoint: str) -> dict[str, Path]:
    """What is pushed of a run, by name."""
    paths = [run.spec_path, run.placement_path, run.provenance_path, run.curve_path]
    paths.append(run.attempts_path)
    if checkpoint:
        paths += sorted(
            path
            for path in run.checkpoints.glob(f"{checkpoint}.*")
            if not path.name.endswith((".pending", ".writing"))
        )
    paths.append(run.result_path)
    return {str(path.relative_to(run.path)): path for path in paths if path.exists()}


def _take(folder: Folder, index: Index, scratch: Path, run: RunDir) -> bool:
    """Fetch a run, look at it, and move it into its folder, what commits it last.

    Returns:
        Whether it could be fetched whole.

    Raises:
        StoreContentError: it is another run.
    """
    strange = [name for name in index.files if not _RUN_FILES.fullmatch(name)]
    if strange:
        raise StoreContentError(
            f"run {run.id} in the store holds {strange[0]!r}, which is no run's file"
        )
    arrived = RunDir(scratch / run.id)
    try:
        folder.fetch(index, arrived.path)
    except StoreContentError as error:
        log.warning("run %s: %s; looking for an older copy", run.id, error)
        shutil.rmtree(arrived.path)
        return False
    _check(arrived)
    _keep_other_curve(run, arrived)
    run.checkpoints.mkdir(exist_ok=True)
    # Tensors before their header, and the result after everything it speaks of.
    for name in sorted(index.files, key=lambda name: (name == "result.json", name[-5:] == ".json")):
        (arrived.path / name).replace(run.path / name)
    return True


def _check(arrived: RunDir) -> None:
    """Refuse a run that is not the one whose name it bears."""
    try:
        ids = {arrived.planned().id}
        if arrived.result_path.exists():
            ids.add(RunResult.model_validate_json(arrived.result_path.read_bytes()).run_id)
    except (OSError, ValidationError) as error:
        raise StoreContentError(f"run {arrived.id} in the store cannot be read: {error}") from error
    if ids != {arrived.id}:
        raise StoreContentError(f"the store holds run {', '.join(sorted(ids))} as {arrived.id}")


def _keep_other_curve(run: RunDir, arrived: RunDir) -> None:
    """Set a curve aside that the arriving one does not go on from: it was paid for."""
    if not run.curve_path.exists():
        return
    here, there = run.curve_path.read_bytes(), arrived.curve_path.read_bytes()
    if not there.startswith(here):
        number = len(list(run.path.glob("curve-set-aside-*.jsonl")))
        run.curve_path.rename(run.path / f"curve-set-aside-{number}.jsonl")
