"""Prepare a corpus: read, clean, split, tokenise, publish."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from llama_core.config import CorpusConfig, EnvironmentText, FileText, TextSource
from llama_core.corpus.cleaning import Deduplicator, in_validation, near_duplicates
from llama_core.corpus.documents import (
    CorpusError,
    Document,
    files_fingerprint,
    hub_documents,
    read_documents,
)
from llama_core.corpus.environment import environment_documents, environment_fingerprint
from llama_core.corpus.near_duplicates import NearDuplicates
from llama_core.corpus.prepared import (
    MANIFEST,
    PIECE_BYTES,
    TOKENIZER,
    PreparedCorpus,
    Progress,
    find_corpus,
    folder_of,
)
from llama_core.corpus.shards import Manifest, ShardWriter, SourceEntry, SplitEntry
from llama_core.corpus.tokenizer import Tokenizer
from llama_core.files import scratch_folder, sync_folder, write_durably

log = logging.getLogger(__name__)

# Enough to settle the merges of any vocabulary we train; more only takes longer.
TOKENIZER_BYTES = 32_000_000
_ENCODE_DOCUMENTS = 512
_DIGEST_LENGTH = 2 * hashlib.sha256().digest_size


def prepare(config: CorpusConfig, home: Path, progress: Progress | None = None) -> PreparedCorpus:
    """Find the corpus under `home`, or read, clean, split, tokenise and write it there.

    A request (configuration and the state of its sources) points to a folder named after its
    content, so two requests that give the same tokens share one. The folder appears whole or
    not at all.

    Args:
        progress: called with a few words on the current step; None logs them.

    Raises:
        CorpusError: the text cannot be used.
    """
    corpora = home / "corpora"
    request = corpora / "requests" / _request_key(config)
    digest = request.read_text() if request.exists() else ""
    # Older versions did not sync a request: a power cut may have left it empty or cut short.
    if len(digest) == _DIGEST_LENGTH and folder_of(home, digest).exists():
        return find_corpus(home, digest)
    corpora.mkdir(parents=True, exist_ok=True)
    with scratch_folder(corpora) as scratch:
        built = scratch / "corpus"
        built.mkdir()
        digest = _Preparation(config, scratch, built, progress or log.info).run()
        _publish(built, folder_of(home, digest))
    request.parent.mkdir(exist_ok=True)
    write_durably(request, digest.encode())
    return find_corpus(home, digest)


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


def _request_key(config: CorpusConfig) -> str:
    """Digest of a request: the configuration and the state of its sources."""
    parts = [config.model_dump_json(), *map(_fingerprint, config.sources)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _fingerprint(source: TextSource) -> str:
    match source:
        case EnvironmentText():
            return environment_fingerprint()
        case FileText():
            return files_fingerprint(Path(source.path))
        case _:
            # A hub dataset is assumed not to change, as in the cache of `datasets`.
            return "hub"


class _Preparation:
    """One preparation: spool clean text, drop leaks, train the tokenizer, encode."""

    def __init__(self, config: CorpusConfig, scratch: Path, out: Path, progress: Progress) -> None:
        self.config, self.scratch, self.out, self.progress = config, scratch, out, progress
        self.read: dict[str, tuple[int, int]] = {}
        self.dropped: dict[str, int] = {}

    def run(self) -> str:
        """Fill the folder; return the digest of its manifest."""
        cleaner = Deduplicator(ascii_only=self.config.characters == "ascii")
        filtering = NearDuplicates() if self.config.near_duplicates == "drop" else None
        for source in self.config.sources:
            self._spool(source, cleaner, filtering)
        for source in self.config.sources:
            self._drop_near_duplicates(source)
        tokenizer = self._train_tokenizer()
        return self._encode(tokenizer)

    def _spool(
        self, source: TextSource, cleaner: Deduplicator, filtering: NearDuplicates | None
    ) -> None:
        self.progress(f"reading {source.name}")
        documents = bytes_read = 0
        dropped_before = filtering.dropped if filtering else 0

        def counted() -> Iterator[Document]:
            nonlocal documents, bytes_read
            for document in _documents(source, self.progress):
                documents += 1
                bytes_read += len(document.text.encode())
                yield document

        held_out: list[str] = []
        first: str | None = None
        with self._text(source, "train").open("w") as train:
            # Near duplicates are dropped first: without repeated paragraphs they look different.
            distinct = filtering.distinct(counted()) if filtering else counted()
            for document in cleaner.clean(distinct):
                if in_validation(document.text, self.config.val_fraction, self.config.seed):
                    held_out.append(document.text)
                elif first is None:
                    first = document.text
                else:
                    train.write(json.dumps(document.text) + "\n")
            if first is not None and held_out:
                train.write(json.dumps(first) + "\n")
            elif first is not None:
                # No document of a small source may hash into validation: hold out the first.
                held_out.append(first)
        self._write(source, "val", held_out)
        self.read[source.name] = (documents, bytes_read)
        self.dropped[source.name] = filtering.dropped - dropped_before if filtering else 0
        if self._text(source, "train").stat().st_size == 0:
            raise CorpusError(
                f"source {source.name!r} has {documents} documents ({bytes_read:,} bytes), too "
                f"little to split into training and validation. Add text."
            )

    def _drop_near_duplicates(self, source: TextSource) -> None:
        self.progress(f"looking for validation text of {source.name} in training")
        held_out = list(self._stored(source, "val"))
        everything = (
            text for other in self.config.sources for text in self._stored(other, "train")
        )
        leaked = near_duplicates(held_out, everything)
        self.dropped[source.name] += len(leaked)
        kept = [text for index, text in enumerate(held_out) if index not in leaked]
        if not kept:
            raise CorpusError(
                f"every validation document of source {source.name!r} occurs in training too: the "
                f"text repeats itself. Add other text."
            )
        self._write(source, "val", kept)

    def _train_tokenizer(self) -> Tokenizer:
        self.progress(f"training the tokenizer, {self.config.vocab_size} pieces")
        try:
            return Tokenizer.train(
                self._sample(),
                vocab_size=self.config.vocab_size,
                byte_fallback=self.config.characters == "unicode",
            )
        except RuntimeError as error:
            raise CorpusError(
                f"the training text is too small or too uniform for vocab_size="
                f"{self.config.vocab_size}. Lower it or add text: {str(error).splitlines()[0]}"
            ) from error

    def _sample(self) -> Iterator[str]:
        """Training text for the tokenizer, up to an equal share of every source."""
        for source in self.config.sources:
            left = TOKENIZER_BYTES // len(self.config.sources)
            for text in self._stored(source, "train"):
                if left <= 0:
                    break
                yield text
                left -= len(text)

    def _encode(self, tokenizer: Tokenizer) -> str:
        (self.out / TOKENIZER).write_bytes(tokenizer.model)
        piece_bytes = tokenizer.piece_bytes().astype("<u4").tobytes()
        (self.out / PIECE_BYTES).write_bytes(piece_bytes)
        manifest = Manifest(
            vocab_size=tokenizer.vocab_size,
            token_bytes=_token_bytes(tokenizer),
            tokenizer_sha256=hashlib.sha256(tokenizer.model).hexdigest(),
            piece_bytes_sha256=hashlib.sha256(piece_bytes).hexdigest(),
            characters=self.config.characters,
            val_fraction=self.config.val_fraction,
            seed=self.config.seed,
            sources=tuple(self._encode_source(s, tokenizer) for s in self.config.sources),
        )
        content = manifest.model_dump_json(indent=1).encode()
        (self.out / MANIFEST).write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    def _encode_source(self, source: TextSource, tokenizer: Tokenizer) -> SourceEntry:
        self.progress(f"encoding {source.name}")
        documents, bytes_read = self.read[source.name]
        return SourceEntry(
            name=source.name,
            weight=source.weight,
            documents_read=documents,
            bytes_read=bytes_read,
            near_duplicates_dropped=self.dropped[source.name],
            train=self._encode_split(source, "train", tokenizer),
            val=self._encode_split(source, "val", tokenizer),
        )

    def _encode_split(self, source: TextSource, split: str, tokenizer: Tokenizer) -> SplitEntry:
        writer = ShardWriter(self.out, f"{source.name}-{split}", _token_bytes(tokenizer))
        documents = size = 0
        texts = self._stored(source, split)
        while batch := list(islice(texts, _ENCODE_DOCUMENTS)):
            documents += len(batch)
            size += sum(len(text.encode()) for text in batch)
            writer.append(tokenizer.encode_documents(batch))
        shards = writer.close()
        tokens = sum(shard.tokens for shard in shards)
        return SplitEntry(documents=documents, bytes=size, tokens=tokens, shards=shards)

    def _text(self, source: TextSource, split: str) -> Path:
        return self.scratch / f"{source.name}-{split}.jsonl"

    def _stored(self, source: TextSource, split: str) -> Iterator[str]:
        with self._text(source, split).open() as lines:
            for line in lines:
                yield json.loads(line)

    def _write(self, source: TextSource, split: str, texts: list[str]) -> None:
        with self._text(source, split).open("w") as file:
            file.writelines(json.dumps(text) + "\n" for text in texts)


def _token_bytes(tokenizer: Tokenizer) -> int:
    return 2 if tokenizer.vocab_size <= 2**16 else 4


def _documents(source: TextSource, progress: Progress) -> Iterator[Document]:
    match source:
        case EnvironmentText():
            return environment_documents(lambda done: progress(f"reading {source.name} {done:.0%}"))
        case FileText():
            return read_documents(Path(source.path), text_field=source.text_field)
        case _:
            return hub_documents(source)
