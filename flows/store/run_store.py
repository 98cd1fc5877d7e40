"""Corpora and runs exchanged between hosts that share no disk.

A store holds small files by name. A folder, such as a run's, is stored as parts named by their
SHA-256 and an index written after them. Indexes are numbered and never rewritten, so a torn push
leaves the index before it valid.
"""

import logging
import re
from pathlib import Path

from flows.files import file_lock, set_aside
from flows.runs.directory import RunDir, RunResult
from flows.settings import Home, Settings
from flows.store.contract import Store, StoreContentError
from flows.store.folder import Folder, Index
from flows.store.fsspec_store import FsspecStore
from llama_core.config import Placement
from llama_core.corpus.documents import CorpusError
from llama_core.corpus.prepared import find_corpus
from llama_core.files import scratch_folder

log = logging.getLogger(__name__)

_RUN_FILES = re.compile(
    r"(spec|placement|provenance|result)\.json|(curve|attempts)\.jsonl|checkpoints/\w[\w.-]*"
)


class RunStore:
    """Corpora and runs in a store; several threads and hosts may use it at once."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def push_corpus(self, home: Home, digest: str) -> None:
        """Push a prepared corpus, unless the store has it."""
        folder = Folder(self._store, f"corpora/{digest}")
        if not folder.indexes():
            corpus = find_corpus(home.root, digest)
            corpus.check()
            files = {path.name: path for path in sorted(corpus.path.iterdir())}
            folder.push(files, settled=True, checkpoint="")

    def pull_corpus(self, home: Home, digest: str) -> None:
        """Fetch a corpus that this home lacks: whole, verified, and once for all processes.

        Raises:
            StoreContentError: the store does not hold it whole.
        """
        corpora = home.root / "corpora"
        corpora.mkdir(exist_ok=True)
        with file_lock(corpora / f".{digest[:16]}.lock"):
            if (corpora / digest[:16]).exists():
                return
            log.info("fetching corpus %s", digest[:12])
            with scratch_folder(corpora) as scratch:
                # A home of its own, so that the corpus is verified before it is part of this one.
                arriving = scratch / "corpora" / digest[:16]
                self._fetch_corpus(digest, arriving)
                try:
                    find_corpus(scratch, digest).check()
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
            f"corpus {digest[:12]} is not in the store; the sweep that uses it pushes it"
        )

    def push(self, run: RunDir) -> None:
        """Push the content of a run's folder, without its older checkpoints."""
        settled, checkpoint = progress(run)
        # The curve is read after the checkpoint was chosen, so it never ends before it.
        Folder(self._store, f"runs/{run.id}").push(
            _files(run, checkpoint), settled=settled, checkpoint=checkpoint
        )

    def pull(self, run: RunDir) -> None:
        """Bring a run's folder up to the store's copy, if that is further along.

        The placement is always the one pushed last: it says how the run is to train now.

        Raises:
            StoreError: the store cannot be reached.
            StoreContentError: it holds another run under this name, or lacks the placement.
        """
        folder = Folder(self._store, f"runs/{run.id}")
        indexes = folder.indexes()
        if not indexes:
            return
        run.path.mkdir(parents=True, exist_ok=True)
        with run.waited_for():
            for _, index in sorted(indexes, key=lambda pair: pair[1].progress, reverse=True):
                if index.progress <= progress(run) or _fetch(folder, index, run):
                    break
            _, newest = indexes[0]
            if "placement.json" in newest.files:
                content = folder.read(newest.files["placement.json"])
                run.place(Placement.model_validate_json(content))


def open_store(settings: Settings) -> RunStore | None:
    """The store of the settings; None when all hosts share a home.

    Raises:
        StoreError: ISOFLOP_STORE is not a store's address.
    """
    if settings.store is None:
        return None
    if settings.store.startswith("mlflow-artifacts:"):
        from flows.store.mlflow_store import MlflowArtifacts

        return RunStore(MlflowArtifacts(settings.store, settings.mlflow_uri))
    return RunStore(FsspecStore(settings.store))


def progress(run: RunDir) -> tuple[bool, str]:
    """Progress of the run in a folder; see `Index.progress`."""
    return run.settled(), run.newest_checkpoint()


def _files(run: RunDir, checkpoint: str) -> dict[str, Path]:
    """The files of a run to push, by name."""
    paths = [run.spec_path, run.placement_path, run.provenance_path, run.curve_path]
    paths.append(run.attempts_path)
    if checkpoint:
        paths += sorted(
            path for path in run.checkpoints.glob(f"{checkpoint}.*") if path.suffix != ".pending"
        )
    paths.append(run.result_path)
    return {str(path.relative_to(run.path)): path for path in paths if path.exists()}


def _fetch(folder: Folder, index: Index, run: RunDir) -> bool:
    """Fetch a run, verify it, then move its files into place, the committing ones last.

    Returns:
        whether it could be fetched whole.

    Raises:
        StoreContentError: it is another run.
    """
    unknown = [name for name in index.files if not _RUN_FILES.fullmatch(name)]
    if unknown:
        raise StoreContentError(
            f"run {run.id} in the store has a file {unknown[0]!r}, which runs do not have"
        )
    with scratch_folder(run.path) as scratch:
        fetched = RunDir(scratch / run.id)
        try:
            folder.fetch(index, fetched.path)
        except StoreContentError as error:
            log.warning("run %s: %s; trying an older copy", run.id, error)
            return False
        _check(fetched)
        _keep_other_curve(run, fetched)
        run.checkpoints.mkdir(exist_ok=True)
        # Tensors before their header, and the result after all else.
        for name in sorted(
            index.files, key=lambda name: (name == "result.json", name[-5:] == ".json")
        ):
            (fetched.path / name).replace(run.path / name)
    return True


def _check(fetched: RunDir) -> None:
    """Refuse a run whose id is not its name."""
    try:
        ids = {fetched.planned().id}
        if fetched.result_path.exists():
            ids.add(RunResult.model_validate_json(fetched.result_path.read_bytes()).run_id)
    except (OSError, ValueError) as error:
        raise StoreContentError(f"run {fetched.id} in the store cannot be read: {error}") from error
    if ids != {fetched.id}:
        raise StoreContentError(f"the store holds run {', '.join(sorted(ids))} as {fetched.id}")


def _keep_other_curve(run: RunDir, fetched: RunDir) -> None:
    """Set a curve aside that the fetched one does not continue: it was paid for."""
    if not run.curve_path.exists():
        return
    if not fetched.curve_path.read_bytes().startswith(run.curve_path.read_bytes()):
        set_aside(run.curve_path)
