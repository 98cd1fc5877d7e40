"""Prepare a corpus: find it, or make it in a folder of its own and publish that."""

import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from llama_core.cores import usable_cores
from llama_core.corpus.config import (
    CorpusConfig,
    EnvironmentText,
    FileText,
    HubText,
    TextSource,
    TokenFiles,
)
from llama_core.corpus.documents import CorpusError
from llama_core.corpus.environment import environment_fingerprint
from llama_core.corpus.kinds import kind_fingerprint, require_kinds
from llama_core.corpus.left_out import COUNTS, LeftOut
from llama_core.corpus.prepared import PreparedCorpus, find_corpus, folder_of
from llama_core.corpus.steps.progress import Progress
from llama_core.corpus.steps.sources import Job, is_docstrings
from llama_core.corpus.steps.tasks import WorkerLostError, Workers
from llama_core.corpus.steps.text_corpus import TextCorpus
from llama_core.corpus.steps.token_corpus import write_token_corpus
from llama_core.corpus.text_files import files_fingerprint, files_size, with_unread_files
from llama_core.corpus.token_files import tokens_fingerprint, unread_files
from llama_core.files import sync_folder, write_durably

log = logging.getLogger(__name__)

_DIGEST_LENGTH = 2 * hashlib.sha256().digest_size
# Of the files in a work folder. Another version's work is not gone on with.
_WORK_VERSION = 3
# Less text is prepared before worker processes have started.
_ALONE_BYTES = 8_000_000


def prepare(
    config: CorpusConfig,
    home: Path,
    progress: Progress | None = None,
    processes: int | None = None,
) -> PreparedCorpus:
    """Find the corpus under `home`, or read, clean, split, tokenise and write it there.

    A request (configuration and the state of its sources) points to a folder named after its
    content, so two requests that give the same tokens share one. The folder appears whole or
    not at all. What was left out of the sources is counted, and kept beside the request. A
    preparation that was killed goes on where it was.

    Args:
        progress: called with a few words on the current step; None logs them.
        processes: that work at once; None takes one a core, and one for little text. The corpus
            does not depend on it.

    Raises:
        CorpusError: the text cannot be used.
    """
    request, counts = _request_files(config, home)
    if (digest := _known(request, home)) is None:
        corpora = home / "corpora"
        corpora.mkdir(parents=True, exist_ok=True)
        report, name = progress or log.info, f".preparing-{request.name[:16]}-{_WORK_VERSION}"
        with _work_folder(corpora / name, report) as work:
            # Another process may have prepared it while this one waited.
            digest = _known(request, home)
            if digest is None:
                digest, left_out = _prepare(config, work, home, report, processes)
                for file in (request, counts):
                    file.parent.mkdir(exist_ok=True)
                write_durably(counts, COUNTS.dump_json(left_out, indent=1))
                write_durably(request, digest.encode())
    return replace(find_corpus(home, digest), left_out=_left_out(config, counts))


def _known(request: Path, home: Path) -> str | None:
    """The digest that a request points to, if its corpus is there."""
    digest = request.read_text() if request.exists() else ""
    # Older versions did not sync a request: a power cut may have left it empty or cut short.
    is_whole = len(digest) == _DIGEST_LENGTH and folder_of(home, digest).exists()
    return digest if is_whole else None


def _prepare(
    config: CorpusConfig, work: Path, home: Path, report: Progress, processes: int | None
) -> tuple[str, tuple[LeftOut, ...]]:
    """Make a corpus and publish it; its digest, and what was left out of it."""
    built = work / "corpus"
    shutil.rmtree(built, ignore_errors=True)
    built.mkdir()
    with Workers(processes or _processes(config)) as workers:
        job = Job(config, work, built, workers, report)
        if config.token_sources:
            digest, counts = write_token_corpus(job), list[LeftOut]()
        else:
            corpus = TextCorpus(job)
            digest, counts = corpus.write(), list(corpus.counts.values())
    _publish(built, folder_of(home, digest))
    return digest, tuple(counts)


def _processes(config: CorpusConfig) -> int:
    if all(isinstance(source, FileText) for source in config.sources):
        size = sum(files_size(Path(s.path)) for s in config.sources if isinstance(s, FileText))
        if size < _ALONE_BYTES:
            return 1
    return usable_cores()


@contextmanager
def _work_folder(path: Path, report: Progress) -> Iterator[Path]:
    """A folder that one process at a time works in; it stays where that process is stopped."""
    with _locked(path, report):
        try:
            yield path
        except WorkerLostError:
            raise
        except CorpusError:
            # The text is refused, and will be again.
            shutil.rmtree(path, ignore_errors=True)
            raise
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked(path: Path, report: Progress) -> Iterator[None]:
    while True:
        path.mkdir(exist_ok=True)
        try:
            handle = (path / "lock").open("w")
        except FileNotFoundError:
            continue
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                report("waiting for another process that prepares this corpus")
                fcntl.flock(handle, fcntl.LOCK_EX)
            # That process may have removed the folder, and the lock with it.
            if os.fstat(handle.fileno()).st_nlink:
                yield
                return


def _left_out(config: CorpusConfig, file: Path) -> tuple[LeftOut, ...] | None:
    """Counts of the sources that a user named; None if an earlier version prepared them."""
    if config.token_sources:
        return tuple(map(unread_files, config.token_sources))
    named = {source.name: source for source in config.text_sources if not is_docstrings(source)}
    if not named:
        return ()
    try:
        counts = COUNTS.validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None
    return tuple(with_unread_files(c, named[c.source]) for c in counts if c.source in named)


def _publish(built: Path, folder: Path) -> None:
    for file in built.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    sync_folder(built)
    try:
        built.rename(folder)
    except OSError:
        # Another process has prepared the same content in the meantime.
        if not folder.exists():
            raise
    sync_folder(folder.parent)


def find_prepared(config: CorpusConfig, home: Path) -> PreparedCorpus | None:
    """The corpus under `home` if it is prepared; of its sources only their state is looked at.

    Raises:
        CorpusError: a file of a source does not exist, or the manifest was changed.
    """
    request, counts = _request_files(config, home)
    digest = _known(request, home)
    if digest is None:
        return None
    return replace(find_corpus(home, digest), left_out=_left_out(config, counts))


def _request_files(config: CorpusConfig, home: Path) -> tuple[Path, Path]:
    """The file that points from a request to its corpus, and that of what was left out."""
    corpora, key = home / "corpora", _request_key(config)
    return corpora / "requests" / key, corpora / "left_out" / f"{key}.json"


def _request_key(config: CorpusConfig) -> str:
    """Digest of a request: the configuration and the state of its sources."""
    require_kinds(config)
    parts = [config.model_dump_json(), *map(_fingerprint, config.sources)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _fingerprint(source: TextSource | TokenFiles) -> str:
    match source:
        case EnvironmentText(installed=kind):
            return environment_fingerprint() if kind is None else kind_fingerprint(kind)
        case FileText():
            return files_fingerprint(Path(source.path))
        case TokenFiles():
            return tokens_fingerprint(source)
        case HubText():
            # A hub dataset is assumed not to change, as in the cache of `datasets`.
            return "hub"
