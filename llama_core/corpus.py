"""A corpus made ready to train on: found if it is there, else prepared, never half there."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llama_core.cleaning import Deduplicator, in_validation, near_duplicates
from llama_core.config import CorpusConfig, EnvironmentText, FileText, TextSource, TrainConfig
from llama_core.data import Batches, TokenSource
from llama_core.documents import (
    CorpusError,
    Document,
    files_fingerprint,
    hub_documents,
    read_documents,
)
from llama_core.environment import environment_documents, environment_fingerprint
from llama_core.near_duplicates import NearDuplicates
from llama_core.shards import (
    Manifest,
    ShardWriter,
    SourceEntry,
    SplitEntry,
    check_sha256,
    open_shards,
    request_key,
)
from llama_core.tokenizer import Tokenizer

log = logging.getLogger(__name__)

Progress = Callable[[str], None]
# Enough to settle the merges of any vocabulary we train; more only takes longer.
TOKENIZER_BYTES = 32_000_000
_ENCODE_DOCUMENTS = 512
_MANIFEST, _TOKENIZER, _PIECE_BYTES = "manifest.json", "tokenizer.model", "piece_bytes.bin"


@dataclass(frozen=True)
class PreparedCorpus:
    """A folder of token shards with its manifest.

    Attributes:
        digest: SHA-256 of the manifest, the identity of the data, tokenizer included.
    """

    path: Path
    digest: str
    manifest: Manifest

    @property
    def vocab_size(self) -> int:
        """Pieces of the tokenizer."""
        return self.manifest.vocab_size

    @property
    def train_tokens(self) -> int:
        """Different tokens to train on, all sources together."""
        return sum(source.train.tokens for source in self.manifest.sources)

    @property
    def val_tokens(self) -> int:
        """Tokens held out, all sources together."""
        return sum(source.val.tokens for source in self.manifest.sources)

    @property
    def val_bytes_per_token(self) -> float:
        """UTF-8 bytes a validation token stands for, on average."""
        return sum(source.val.bytes for source in self.manifest.sources) / self.val_tokens

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, checked against the manifest.

        Raises:
            CorpusError: it was changed.
        """
        path = self.path / _TOKENIZER
        check_sha256(path, self.manifest.tokenizer_sha256)
        return Tokenizer.load(path, ascii_only=self.manifest.characters == "ascii")

    def check(self) -> None:
        """Compare every file with the manifest.

        Raises:
            CorpusError: one is missing or was changed.
        """
        check_sha256(self.path / _TOKENIZER, self.manifest.tokenizer_sha256)
        check_sha256(self.path / _PIECE_BYTES, self.manifest.piece_bytes_sha256)
        for source in self.manifest.sources:
            for shard in (*source.train.shards, *source.val.shards):
                check_sha256(self.path / shard.file, shard.sha256)

    def open(self, train: TrainConfig) -> Batches:
        """Batches for a recipe, every shard checked first.

        Raises:
            CorpusError: a shard is truncated or edited, or the corpus is too small.
        """
        width = self.manifest.token_bytes
        check_sha256(self.path / _PIECE_BYTES, self.manifest.piece_bytes_sha256)
        return Batches(
            sources=[
                TokenSource(entry.name, open_shards(self.path, entry.train, width), entry.weight)
                for entry in self.manifest.sources
            ],
            validation_shards=[
                shard
                for entry in self.manifest.sources
                for shard in open_shards(self.path, entry.val, width)
            ],
            piece_bytes=np.fromfile(self.path / _PIECE_BYTES, dtype="<u4").astype(np.int64),
            seq_len=train.seq_len,
            batch_tokens=train.batch_tokens,
            seed=train.seed,
            eval_tokens=train.eval_tokens,
            digest=self.digest,
        )


def prepare(config: CorpusConfig, home: Path, progress: Progress | None = None) -> PreparedCorpus:
    """Find the corpus under `home`, or read, clean, split, tokenise and write it there.

    A request (configuration and the state of its sources) points to a folder named after its
    content, so two requests that give the same tokens share one. The folder appears whole or
    not at all.

    Args:
        progress: told in a few words what is being done.

    Raises:
        CorpusError: the text cannot be used.
    """
    tell = progress or log.info
    request = home / "corpora" / "requests" / request_key(config, _fingerprints(config))
    if request.exists():
        digest = request.read_text()
        if _folder(home, digest).exists():
            return find_corpus(home, digest)
    scratch_root = home / "corpora"
    scratch_root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".preparing-", dir=scratch_root) as scratch:
        built = Path(scratch) / "corpus"
        built.mkdir()
        digest = _Preparation(config, Path(scratch), built, tell).run()
        _publish(built, _folder(home, digest))
    request.parent.mkdir(exist_ok=True)
    # Another process may be reading it: there whole or not at all.
    aside = request.with_name(f"{request.name}.{os.getpid()}")
    aside.write_text(digest)
    aside.replace(request)
    return find_corpus(home, digest)


def find_corpus(home: Path, digest: str) -> PreparedCorpus:
    """The prepared corpus of a digest.

    Raises:
        CorpusError: it is not there, or its manifest is another.
    """
    folder = _folder(home, digest)
    if not folder.exists():
        raise CorpusError(f"corpus {digest[:12]} is not in {folder.parent}. Prepare it first.")
    found = hashlib.sha256((folder / _MANIFEST).read_bytes()).hexdigest()
    if found != digest:
        raise CorpusError(f"{folder / _MANIFEST} was changed: SHA-256 is {found}, not {digest}.")
    return PreparedCorpus(folder, digest, Manifest.load(folder / _MANIFEST))


def _folder(home: Path, digest: str) -> Path:
    return home / "corpora" / digest[:16]


def _publish(built: Path, folder: Path) -> None:
    for file in built.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    try:
        built.rename(folder)
    except OSError:
        # Another process prepared the same content meanwhile, and its folder is as good.
        if not folder.exists():
            raise


def _fingerprints(config: CorpusConfig) -> list[str]:
    return [_fingerprint(source) for source in config.sources]


def _fingerprint(source: TextSource) -> str:
    match source:
        case EnvironmentText():
            return environment_fingerprint()
        case FileText():
            return files_fingerprint(Path(source.path))
        case _:
            # A hub dataset is taken to be the one prepared before, as its own cache does.
            return "hub"


class _Preparation:
    """One corpus in the making: spool clean text, drop leaks, train the tokenizer, encode."""

    def __init__(self, config: CorpusConfig, scratch: Path, out: Path, tell: Progress) -> None:
        self.config, self.scratch, self.out, self.tell = config, scratch, out, tell
        self.read: dict[str, tuple[int, int]] = {}
        self.dropped: dict[str, int] = {}

    def run(self) -> str:
        """Fill the folder; the manifest's digest."""
        cleaner = Deduplicator(ascii_only=self.config.characters == "ascii")
        alike = NearDuplicates() if self.config.near_duplicates == "drop" else None
        for source in self.config.sources:
            self._spool(source, cleaner, alike)
        for source in self.config.sources:
            self._drop_near_duplicates(source)
        tokenizer = self._train_tokenizer()
        return self._encode(tokenizer)

    def _spool(
        self, source: TextSource, cleaner: Deduplicator, alike: NearDuplicates | None
    ) -> None:
        self.tell(f"reading {source.name}")
        documents = bytes_read = 0
        dropped_before = alike.dropped if alike else 0

        def counted() -> Iterator[Document]:
            nonlocal documents, bytes_read
            for document in _documents(source, self.tell):
                documents += 1
                bytes_read += len(document.text.encode())
                yield document

        held_out: list[str] = []
        first: str | None = None
        with self._text(source, "train").open("w") as train:
            # Near duplicates first: once repeated paragraphs are out, they look unlike.
            distinct = alike.distinct(counted()) if alike else counted()
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
                # A source of few documents may hash none into validation: one always goes.
                held_out.append(first)
        self._write(source, "val", held_out)
        self.read[source.name] = (documents, bytes_read)
        self.dropped[source.name] = alike.dropped - dropped_before if alike else 0
        if self._text(source, "train").stat().st_size == 0:
            raise CorpusError(
                f"source {source.name!r} has {documents} documents ({bytes_read:,} bytes), too "
                f"little to split into training and validation. Add text."
            )

    def _drop_near_duplicates(self, source: TextSource) -> None:
        self.tell(f"looking for validation text of {source.name} in training")
        held_out = list(self._stored(source, "val"))
        everything = (
            text for other in self.config.sources for text in self._stored(other, "train")
        )
        leaked = near_duplicates(held_out, everything)
        self.dropped[source.name] += len(leaked)
        kept = [text for index, text in enumerate(held_out) if index not in leaked]
        if not kept:
            raise CorpusError(
                f"every validation document of source {source.name!r} stands in training too. "
                f"The text repeats itself: add other text."
            )
        self._write(source, "val", kept)

    def _train_tokenizer(self) -> Tokenizer:
        self.tell(f"training the tokenizer, {self.config.vocab_size} pieces")
        try:
            return Tokenizer.train(
                self._sample(),
                vocab_size=self.config.vocab_size,
                byte_fallback=self.config.characters == "unicode",
            )
        except RuntimeError as error:
            raise CorpusError(
                f"the training text is too small or too uniform for vocab_size="
                f"{self.config.vocab_size}: {str(error).splitlines()[0]}"
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
        (self.out / _TOKENIZER).write_bytes(tokenizer.model)
        piece_bytes = tokenizer.piece_bytes().astype("<u4").tobytes()
        (self.out / _PIECE_BYTES).write_bytes(piece_bytes)
        manifest = Manifest(
            vocab_size=tokenizer.vocab_size,
            token_bytes=2 if tokenizer.vocab_size <= 2**16 else 4,
            tokenizer_sha256=hashlib.sha256(tokenizer.model).hexdigest(),
            piece_bytes_sha256=hashlib.sha256(piece_bytes).hexdigest(),
            characters=self.config.characters,
            val_fraction=self.config.val_fraction,
            seed=self.config.seed,
            sources=tuple(self._encode_source(s, tokenizer) for s in self.config.sources),
        )
        content = manifest.model_dump_json(indent=1).encode()
        (self.out / _MANIFEST).write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    def _encode_source(self, source: TextSource, tokenizer: Tokenizer) -> SourceEntry:
        self.tell(f"encoding {source.name}")
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
        token_bytes = 2 if tokenizer.vocab_size <= 2**16 else 4
        writer = ShardWriter(self.out, f"{source.name}-{split}", token_bytes)
        documents = size = 0
        batch: list[str] = []

        def flush() -> None:
            if batch:
                writer.append(tokenizer.encode_documents(batch))
                batch.clear()

        for text in self._stored(source, split):
            documents += 1
            size += len(text.encode())
            batch.append(text)
            if len(batch) == _ENCODE_DOCUMENTS:
                flush()
        flush()
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


def _documents(source: TextSource, tell: Progress) -> Iterator[Document]:
    match source:
        case EnvironmentText():
            return environment_documents(lambda done: tell(f"reading {source.name} {done:.0%}"))
        case FileText():
            return read_documents(Path(source.path), text_field=source.text_field)
        case _:
            return hub_documents(source)
