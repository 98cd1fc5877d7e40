"""Corpora and runs on their way between hosts that share no disk.

A store holds small files by name. A folder, such as a run's, is kept in it as parts named by
their SHA-256 and an index that is written after them. Indexes are numbered and never rewritten,
so a push that was torn leaves the one before it in force.
"""

import fcntl
import hashlib
import logging
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Protocol, TypeVar

from pydantic import StringConstraints, ValidationError

from flows.rundir import RunDir, RunResult
from flows.settings import Home, Settings, masked
from llama_core.config import Frozen, Placement
from llama_core.corpus import find_corpus
from llama_core.documents import CorpusError

log = logging.getLogger(__name__)

# Large files travel in pieces, so that a broken connection costs one of them.
_PART_BYTES = 64 * 2**20
# Indexes left in the store for a folder: the newest, and one to fall back on.
_KEEP = 2
_LOOK_S = 1.0
_LONGEST_WAIT_S = 30.0
_INDEX = re.compile(r"index-(\d{6})\.json")
_RUN_FILES = re.compile(
    r"(spec|placement|provenance|result)\.json|(curve|attempts)\.jsonl|checkpoints/\w[\w.-]*"
)
_T = TypeVar("_T")


class StoreError(RuntimeError):
    """The store cannot be reached, or cannot read or write a file."""


class StoreContentError(StoreError):
    """What the store holds is missing, damaged or not what it says; waiting does not mend it."""


class Store(Protocol):
    """Files by name; every method raises StoreError for whatever goes wrong."""

    def put(self, name: str, content: bytes) -> None:
        """Write a file whole; there is nothing to append or to lock."""

    def get(self, name: str) -> bytes:
        """The content of a file."""

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder, without it; none where there is no such folder."""

    def remove(self, name: str) -> None:
        """Remove a file."""


class FsspecStore:
    """A store in any file system that fsspec knows: file, s3, gs, memory."""

    def __init__(self, url: str) -> None:
        """Raises:
        StoreError: no such kind of URL, or a package for it is missing.
        """
        from fsspec.core import url_to_fs

        self._url = masked(url)
        try:
            self._files, self._root = url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise StoreError(
                f"ISOFLOP_STORE={self._url}: {error}. Give mlflow-artifacts://HOST:PORT/FOLDER, "
                "or a URL that fsspec opens, such as file:///folder or s3://bucket/folder."
            ) from error

    def put(self, name: str, content: bytes) -> None:
        """Write a file."""
        with self._telling(name):
            path = self._path(name)
            self._files.makedirs(self._files._parent(path), exist_ok=True)
            self._files.pipe_file(path, content)

    def get(self, name: str) -> bytes:
        """Read a file."""
        with self._telling(name):
            return bytes(self._files.cat_file(self._path(name)))

    def names(self, folder: str) -> list[str]:
        """List the files of a folder."""
        with self._telling(folder):
            # Other hosts write here too, and fsspec remembers what it has listed.
            self._files.invalidate_cache()
            if not self._files.exists(self._path(folder)):
                return []
            return [PurePosixPath(path).name for path in self._files.find(self._path(folder))]

    def remove(self, name: str) -> None:
        """Remove a file."""
        with self._telling(name):
            self._files.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    @contextmanager
    def _telling(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each of fsspec's file systems raises what its library does
            raise StoreError(f"{self._url}: {name}: {error or type(error).__name__}") from error


class Index(Frozen):
    """What a folder held when it was pushed.

    Attributes:
        settled: whether training again would change nothing.
        checkpoint: name of the newest checkpoint; names sort by age; empty when there is none.
        files: the parts of every file, in order, by their SHA-256.
    """

    version: Literal[1] = 1
    settled: bool = False
    checkpoint: str = ""
    files: dict[str, tuple[Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")], ...]]

    @property
    def standing(self) -> tuple[bool, str]:
        """How far the run had come; the larger, the farther."""
        return self.settled, self.checkpoint

    @property
    def parts(self) -> set[str]:
        """All parts it names."""
        return {part for parts in self.files.values() for part in parts}


class RunStore:
    """Corpora and runs in a store. Safe to be used by several threads and hosts at once."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def push_corpus(self, home: Home, digest: str) -> None:
        """Put a prepared corpus there, unless it is."""
        folder = _Folder(self._store, f"corpora/{digest}")
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
        folder = _Folder(self._store, f"corpora/{digest}")
        for _, index in folder.indexes():
            if all(re.fullmatch(r"\w[\w.-]*", name) for name in index.files):
                folder.fetch(index, target)
                return
        raise StoreContentError(
            f"corpus {digest[:12]} is not in the store; the sweep puts it there"
        )

    def push(self, run: RunDir) -> None:
        """Put there what a run's folder holds now: all but its older checkpoints."""
        settled, checkpoint = _standing(run)
        # The curve is read after the checkpoint was chosen, so it is never the shorter one.
        _Folder(self._store, f"runs/{run.id}").push(
            _files(run, checkpoint), settled=settled, checkpoint=checkpoint
        )

    def pull(self, run: RunDir) -> None:
        """Bring a run's folder up to what the store holds, where that is farther on.

        The placement is always the one pushed last: it says how the run is to be trained now.

        Raises:
            StoreError: the store cannot be reached.
            StoreContentError: it holds another run under this name.
        """
        folder = _Folder(self._store, f"runs/{run.id}")
        indexes = folder.indexes()
        if not indexes:
            return
        run.path.mkdir(parents=True, exist_ok=True)
        with (
            run.waited_for(),
            tempfile.TemporaryDirectory(prefix=".arriving-", dir=run.path) as scratch,
        ):
            for _, index in sorted(indexes, key=lambda found: found[1].standing, reverse=True):
                if index.standing <= _standing(run):
                    break
                if _take(folder, index, Path(scratch), run):
                    break
            _, newest = indexes[0]
            if "placement.json" in newest.files:
                content = folder.read(newest.files["placement.json"])
                run.place(Placement.model_validate_json(content))


class _Folder:
    """One folder in a store."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name

    def indexes(self) -> list[tuple[int, Index]]:
        """Indexes that can be read, with their numbers, newest first."""
        found = []
        for number in sorted(self._numbers(), reverse=True):
            try:
                content = self._store.get(self._index(number))
                found.append((number, Index.model_validate_json(content)))
            except ValidationError:
                log.warning("index %d of %s is torn and passed over", number, self._name)
        return found

    def push(self, files: Mapping[str, Path], *, settled: bool, checkpoint: str) -> None:
        """Put the parts that are missing there, then an index of all."""
        kept = self.indexes()
        # What no index names may be torn, so it is put there again.
        there = {part for _, index in kept for part in index.parts}
        named: dict[str, tuple[str, ...]] = {}
        for name, path in files.items():
            parts = []
            for content in _pieces(path):
                part = hashlib.sha256(content).hexdigest()
                if part not in there:
                    self._store.put(f"{self._name}/parts/{part}", content)
                    there.add(part)
                parts.append(part)
            named[name] = tuple(parts)
        index = Index(settled=settled, checkpoint=checkpoint, files=named)
        if kept and kept[0][1] == index:
            return
        # A torn index has its number too.
        number = max(self._numbers(), default=0) + 1
        self._store.put(self._index(number), index.model_dump_json(indent=1).encode())
        self._prune([(number, index), *kept])

    def read(self, parts: tuple[str, ...]) -> bytes:
        """The content of a small file."""
        return b"".join(self._part(part) for part in parts)

    def fetch(self, index: Index, target: Path) -> None:
        """Write the files of an index below a folder, each part verified.

        Raises:
            StoreContentError: a part is missing or damaged.
        """
        missing = index.parts - set(self._store.names(f"{self._name}/parts"))
        if missing:
            raise StoreContentError(f"{self._name}: {len(missing)} parts are not in the store")
        for name, parts in index.files.items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                for part in parts:
                    file.write(self._part(part))
                file.flush()
                os.fsync(file.fileno())

    def _part(self, part: str) -> bytes:
        content = self._store.get(f"{self._name}/parts/{part}")
        if hashlib.sha256(content).hexdigest() != part:
            raise StoreContentError(f"{self._name}: part {part[:12]}… in the store is damaged")
        return content

    def _prune(self, indexes: list[tuple[int, Index]]) -> None:
        """Remove older indexes, then the parts that only they named."""
        # The one that is farthest on stays, also when a host that was behind pushed after it.
        best = max(indexes, key=lambda found: (found[1].standing, found[0]))
        kept = [*indexes[:_KEEP], best]
        needed = {part for _, index in kept for part in index.parts}
        for number, index in indexes[_KEEP:]:
            if number == best[0]:
                continue
            self._store.remove(self._index(number))
            for part in index.parts - needed:
                self._store.remove(f"{self._name}/parts/{part}")
                needed.add(part)

    def _numbers(self) -> list[int]:
        names = (_INDEX.fullmatch(name) for name in self._store.names(self._name))
        return [int(name[1]) for name in names if name]

    def _index(self, number: int) -> str:
        return f"{self._name}/index-{number:06d}.json"


def open_store(settings: Settings) -> RunStore | None:
    """The store of the settings; None when all share a home.

    Raises:
        StoreError: ISOFLOP_STORE names none.
    """
    if settings.store is None:
        return None
    if settings.store.startswith("mlflow-artifacts:"):
        from flows.tracking import MlflowArtifacts

        return RunStore(MlflowArtifacts(settings.store, settings.mlflow_uri))
    return RunStore(FsspecStore(settings.store))


@contextmanager
def pushed(store: RunStore, run: RunDir) -> Iterator[None]:
    """Push a run after each of its checkpoints while it is trained here, and at the end.

    Training does not wait for the store. At the end the store is waited for, since what is not
    there nobody else has; a training that was stopped gets one try.
    """
    over = threading.Event()
    thread = threading.Thread(target=_push_checkpoints, args=(store, run, over), daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        over.set()
        try:
            store.push(run)
        except (StoreError, OSError) as error:
            log.warning("run %s stops without the store (%s)", run.id, error)
        raise
    over.set()
    thread.join()
    insist(lambda: store.push(run), f"pushing run {run.id}")


def insist(action: Callable[[], _T], what: str) -> _T:
    """Do it as soon as the store can; says once that it is waiting.

    Raises:
        StoreContentError: what the store holds cannot be used.
    """
    wait = _LOOK_S
    while True:
        try:
            return action()
        except StoreContentError:
            raise
        except StoreError as error:
            if wait == _LOOK_S:
                log.warning("%s: waiting for the store (%s)", what, error)
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_S)


def _push_checkpoints(store: RunStore, run: RunDir, over: threading.Event) -> None:
    done, behind = "", False
    while not over.wait(_LOOK_S):
        _, checkpoint = _standing(run)
        if checkpoint == done:
            continue
        try:
            store.push(run)
        except FileNotFoundError:
            continue  # the checkpoint made room for the next one meanwhile
        except (StoreError, OSError) as error:
            if not behind:
                log.warning("run %s trains on, the store is behind (%s)", run.id, error)
            behind = True
            continue
        if behind:
            log.info("the store has caught up with run %s", run.id)
        done, behind = checkpoint, False


def _standing(run: RunDir) -> tuple[bool, str]:
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


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while content := file.read(_PART_BYTES):
            yield content


def _take(folder: _Folder, index: Index, scratch: Path, run: RunDir) -> bool:
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
