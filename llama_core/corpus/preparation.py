"""Prepare a corpus: read, clean, split, tokenise, publish."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from llama_core.config import CorpusConfig, EnvironmentText, FileText, TextSource
from llama_core.corpus.cleaning import (
    BYTE_ORDER_MARK,
    Deduplicator,
    in_validation,
    near_duplicates,
    well_formed,
)
from llama_core.corpus.documents import CorpusError, Document, hub_documents
from llama_core.corpus.environment import environment_documents, environment_fingerprint
from llama_core.corpus.folding import SEPARATOR
from llama_core.corpus.left_out import COUNTS, LeftOut, Note
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
from llama_core.corpus.reading import read_documents, sections
from llama_core.corpus.shards import Manifest, ShardWriter, SourceEntry, SplitEntry
from llama_core.corpus.text_files import files_fingerprint, source_files
from llama_core.corpus.tokenizer import RESERVED, Tokenizer
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
    not at all. What was left out of the sources is counted, and kept beside the request.

    Args:
        progress: called with a few words on the current step; None logs them.

    Raises:
        CorpusError: the text cannot be used.
    """
    corpora = home / "corpora"
    key = _request_key(config)
    request, counts = corpora / "requests" / key, corpora / "left_out" / f"{key}.json"
    digest = request.read_text() if request.exists() else ""
    # Older versions did not sync a request: a power cut may have left it empty or cut short.
    if len(digest) != _DIGEST_LENGTH or not folder_of(home, digest).exists():
        corpora.mkdir(parents=True, exist_ok=True)
        with scratch_folder(corpora) as scratch:
            built = scratch / "corpus"
            built.mkdir()
            preparation = _Preparation(config, scratch, built, progress or log.info)
            digest = preparation.run()
            _publish(built, folder_of(home, digest))
        for file in (request, counts):
            file.parent.mkdir(exist_ok=True)
        write_durably(counts, COUNTS.dump_json(tuple(preparation.counts.values()), indent=1))
        write_durably(request, digest.encode())
    return replace(find_corpus(home, digest), left_out=_left_out(config, counts))


def _left_out(config: CorpusConfig, file: Path) -> tuple[LeftOut, ...] | None:
    """Counts of the sources that a user named; None if an earlier version prepared them."""
    named = {source.name: source for source in config.sources if source.kind != "environment"}
    if not named:
        return ()
    try:
        counts = COUNTS.validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None
    return tuple(_with_unread_files(c, named[c.source]) for c in counts if c.source in named)


def _with_unread_files(counts: LeftOut, source: TextSource) -> LeftOut:
    """Counts with the files that are not read now: they are not part of the request."""
    if not isinstance(source, FileText):
        return counts
    folder = Path(source.path)
    _, others = source_files(folder)
    names = sorted({*counts.files, *(str(path.relative_to(folder)) for path in others)})
    size = sum(path.stat().st_size for path in others if path.is_file())
    return counts.model_copy(
        update={"files": tuple(names), "files_bytes": counts.files_bytes + size}
    )


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
    key = _request_key(config)
    request = home / "corpora" / "requests" / key
    digest = request.read_text() if request.exists() else ""
    if len(digest) != _DIGEST_LENGTH or not folder_of(home, digest).exists():
        return None
    counts = home / "corpora" / "left_out" / f"{key}.json"
    return replace(find_corpus(home, digest), left_out=_left_out(config, counts))


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
        self.counts = {
            source.name: LeftOut(source=source.name, text_field=_text_field(source))
            for source in config.sources
        }
        self.characters: set[str] = set()
        self.later_rule = False

    def run(self) -> str:
        """Fill the folder; return the digest of its manifest."""
        try:
            self._clean()
            tokenizer = self._train_tokenizer()
        except CorpusError as error:
            # What is missing of the text explains why the rest is too little or too uniform.
            cause = next((note.text for note in self._notes() if note.serious), "")
            rest = str(error).removesuffix(" Add text.") if cause else str(error)
            raise CorpusError(f"{cause} {rest}".strip()) from error
        return self._encode(tokenizer)

    def _clean(self) -> None:
        cleaner = Deduplicator(ascii_only=self.config.characters == "ascii")
        filtering = NearDuplicates() if self.config.near_duplicates == "drop" else None
        for source in self.config.sources:
            self._spool(source, cleaner, filtering)
        for source in self.config.sources:
            self._drop_near_duplicates(source)

    def _notes(self) -> Iterator[Note]:
        for source in self.config.sources:
            if not isinstance(source, EnvironmentText):
                counts = _with_unread_files(self.counts[source.name], source)
                yield from counts.notes(self.config.vocab_size)

    def _spool(
        self, source: TextSource, cleaner: Deduplicator, filtering: NearDuplicates | None
    ) -> None:
        self.progress(f"reading {source.name}")
        counts = self.counts[source.name]
        dropped_before = filtering.dropped if filtering else 0
        # Near duplicates are dropped first: without repeated paragraphs they look different.
        documents = self._read(source)
        distinct = filtering.distinct(documents) if filtering else documents
        # The first version dropped documents of short paragraphs; the default corpus still does,
        # so that it stays the same.
        by_first_rule = isinstance(source, EnvironmentText)
        held_out: list[str] = []
        first: str | None = None
        with self._text(source, "train").open("w") as train:
            for document in cleaner.clean(distinct, counts, short_is_new=not by_first_rule):
                self.characters.update(document.text)
                if in_validation(document.text, self.config.val_fraction, self.config.seed):
                    held_out.append(document.text)
                elif first is None:
                    first = document.text
                else:
                    train.write(json.dumps(document.text) + "\n")
            if first is not None and held_out:
                train.write(json.dumps(first) + "\n")
            elif first is not None:
                # No document of a small source may hash into validation: hold out the first, or
                # the first part of the only one.
                alone = train.tell() == 0
                parts = [d.text.strip() for d in sections("", first, counts)] if alone else [first]
                held_out.append(parts[0])
                train.writelines(json.dumps(part) + "\n" for part in parts[1:])
        self._write(source, "val", held_out)
        counts.near_duplicates = filtering.dropped - dropped_before if filtering else 0
        if self._text(source, "train").stat().st_size == 0:
            left = counts.documents - counts.repeats - counts.empty - counts.near_duplicates
            cleaned = "" if left == counts.documents else f", {left} of them left after cleaning"
            raise CorpusError(
                f"source {source.name!r} has {counts.documents} documents ({counts.bytes:,} bytes)"
                f"{cleaned}: too little to split into training and validation. Add text."
            )

    def _read(self, source: TextSource) -> Iterator[Document]:
        """Documents of a source as they are, counted."""
        counts = self.counts[source.name]
        folding = self.config.characters == "ascii" and not isinstance(source, EnvironmentText)
        for document in _documents(source, counts, self.progress):
            text = well_formed(document.text)
            counts.documents += 1
            counts.bytes += len(text.encode())
            counts.characters += len(text)
            counts.later_rule |= BYTE_ORDER_MARK in document.text
            if folding:
                counts.later_rule |= SEPARATOR in text
                counts.count_folding(text)
            yield Document(document.name, text)

    def _drop_near_duplicates(self, source: TextSource) -> None:
        self.progress(f"looking for validation text of {source.name} in training")
        held_out = list(self._stored(source, "val"))
        everything = (
            text for other in self.config.sources for text in self._stored(other, "train")
        )
        leaked = near_duplicates(held_out, everything)
        self.counts[source.name].near_duplicates += len(leaked)
        kept = [text for index, text in enumerate(held_out) if index not in leaked]
        if not kept:
            raise CorpusError(
                f"every validation document of source {source.name!r} occurs in training too: the "
                f"text repeats itself. Add other text."
            )
        self._write(source, "val", kept)

    def _train_tokenizer(self) -> Tokenizer:
        self.progress(f"training the tokenizer, {self.config.vocab_size} pieces")
        byte_fallback = self.config.characters == "unicode"
        train = partial(
            Tokenizer.train, vocab_size=self.config.vocab_size, byte_fallback=byte_fallback
        )
        tokenizer = train(self._sample())
        # Without byte pieces a character outside the sample would be lost and miscounted.
        if not byte_fallback and (missing := tokenizer.unknown(self.characters)):
            self.later_rule = True
            tokenizer = train(self._sample(), alphabet=missing)
        # The first version encoded these as other characters, or left out text that had them.
        self.later_rule |= not self.characters.isdisjoint(tokenizer.in_bytes + RESERVED)
        return tokenizer

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
            version=2 if self.later_rule or any(c.later_rule for c in self.counts.values()) else 1,
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
        counts = self.counts[source.name]
        return SourceEntry(
            name=source.name,
            weight=source.weight,
            documents_read=counts.documents,
            bytes_read=counts.bytes,
            near_duplicates_dropped=counts.near_duplicates,
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


def _text_field(source: TextSource) -> str:
    return "text" if isinstance(source, EnvironmentText) else source.text_field


def _documents(source: TextSource, counts: LeftOut, progress: Progress) -> Iterator[Document]:
    match source:
        case EnvironmentText():
            return environment_documents(lambda done: progress(f"reading {source.name} {done:.0%}"))
        case FileText():
            return read_documents(Path(source.path), counts)
        case _:
            return hub_documents(source, counts)
