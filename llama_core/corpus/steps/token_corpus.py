"""Prepare a corpus of tokens that exist: check, split and write them as shards."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.corpus.cleaning import in_validation
from llama_core.corpus.config import TokenFiles
from llama_core.corpus.documents import CorpusError
from llama_core.corpus.pieces import Pieces, read_pieces
from llama_core.corpus.prepared import TOKENIZER, TOKENIZER_JSON, TOKENS
from llama_core.corpus.shards import (
    Manifest,
    ShardWriter,
    SourceEntry,
    SplitEntry,
    token_width,
)
from llama_core.corpus.steps.shards import write_manifest, write_piece_bytes
from llama_core.corpus.steps.sources import Job
from llama_core.corpus.token_files import Ids, token_documents, token_files

_PENDING_TOKENS = 2**20


def write_token_corpus(job: Job) -> str:
    """Fill the folder; return the digest of its manifest.

    Raises:
        CorpusError: a file is damaged, or does not fit the vocabulary or the tokenizer.
    """
    config, file = job.config, job.config.token_sources[0].tokenizer
    pieces = read_pieces(Path(file)) if file is not None else None
    if pieces is not None and pieces.size > config.vocab_size:
        raise CorpusError(
            f"tokenizer {pieces.path} has {pieces.size:,} pieces, more than corpus.vocab_size="
            f"{config.vocab_size:,}: --set corpus.vocab_size={pieces.size}"
        )
    for source in config.token_sources:
        if source.end is not None and source.end >= config.vocab_size:
            raise CorpusError(
                f"source {source.name!r}: end={source.end:,} is no id of corpus.vocab_size="
                f"{config.vocab_size:,}, so no document would end. Set end to the id that ends one."
            )
    lengths = np.zeros(config.vocab_size, np.int64)
    if pieces is not None and pieces.lengths is not None:
        lengths[: pieces.size] = pieces.lengths
    manifest = Manifest(
        vocab_size=config.vocab_size,
        token_bytes=token_width(config.vocab_size),
        tokenizer_sha256=_keep_tokenizer(pieces, job.out),
        piece_bytes_sha256=write_piece_bytes(job.out, lengths),
        characters=TOKENS,
        val_fraction=config.val_fraction,
        seed=config.seed,
        sources=tuple(_Split(job, s, pieces, lengths).write() for s in config.token_sources),
    )
    return write_manifest(job.out, manifest)


def _keep_tokenizer(pieces: Pieces | None, out: Path) -> str:
    if pieces is None:
        return ""
    kept = out / (TOKENIZER_JSON if pieces.path.suffix == ".json" else TOKENIZER)
    shutil.copyfile(pieces.path, kept)
    return hashlib.sha256(kept.read_bytes()).hexdigest()


class _Split:
    """Writes the two splits of one source."""

    def __init__(
        self, job: Job, source: TokenFiles, pieces: Pieces | None, lengths: NDArray[np.int64]
    ) -> None:
        self.job, self.source, self.pieces, self.lengths = job, source, pieces, lengths
        self.token_bytes = token_width(job.config.vocab_size)
        self.splits = {split: _Part(self, split) for split in ("train", "val")}

    def write(self) -> SourceEntry:
        config, source = self.job.config, self.source
        read = 0
        first: Ids | None = None
        for document in self._documents():
            read += 1
            if in_validation(document.astype("<u4").tobytes(), config.val_fraction, config.seed):
                self.splits["val"].append(document)
            elif first is None:
                first = document.copy()
            else:
                self.splits["train"].append(document)
        # As with text: the first document comes last, or is held out where nothing else is.
        if first is not None:
            self.splits["train" if self.splits["val"].documents else "val"].append(first)
        train, val = (part.close() for part in self.splits.values())
        if not train.tokens or not val.tokens:
            raise CorpusError(
                f"source {source.name!r} has {read} documents: too little to split into training "
                "and validation. Add tokens, or set end of the source to the id that ends a "
                "document."
            )
        return SourceEntry(
            name=source.name,
            weight=source.weight,
            documents_read=read,
            # Of the ids as they are written here: the same tokens in another format are the same.
            bytes_read=self.token_bytes * (train.tokens + val.tokens),
            near_duplicates_dropped=0,
            train=train,
            val=val,
        )

    def _documents(self) -> Iterator[Ids]:
        source, vocab_size = self.source, self.job.config.vocab_size
        known = self.pieces.size if self.pieces is not None else vocab_size
        end = source.end if source.end is not None or self.pieces is None else self.pieces.end
        files = token_files(source)
        total = sum(path.stat().st_size for path in files)
        meter = self.job.meter(f"reading {source.name}", total)
        for path in files:
            left = path.stat().st_size
            for document in token_documents(path, source, vocab_size, end):
                if known < vocab_size and int(document.max(initial=0)) >= known:
                    raise CorpusError(
                        f"{path} has the id {document.max():,}, and tokenizer {source.tokenizer} "
                        f"has only {known:,} pieces. Give the tokenizer that wrote the file."
                    )
                if len(document):
                    yield document
                # A packed file has fewer bytes than its ids.
                size = min(left, document.nbytes)
                left -= size
                meter.add(size)
            meter.add(left)


class _Part:
    """One split of a source while it is written."""

    def __init__(self, of: _Split, split: str) -> None:
        self.of, self.split = of, split
        self.writer = ShardWriter(of.job.out, f"{of.source.name}-{split}", of.token_bytes)
        self.documents = self.bytes = 0
        self._pending: list[NDArray[Any]] = []
        self._pending_tokens = 0

    def append(self, document: Ids) -> None:
        self.documents += 1
        self._pending.append(document)
        self._pending_tokens += len(document)
        if self._pending_tokens >= _PENDING_TOKENS:
            self._flush()

    def close(self) -> SplitEntry:
        self._flush()
        shards = self.writer.close()
        tokens = sum(shard.tokens for shard in shards)
        return SplitEntry(documents=self.documents, bytes=self.bytes, tokens=tokens, shards=shards)

    def _flush(self) -> None:
        if not self._pending:
            return
        pieces = self.of.pieces
        tokens = np.concatenate(self._pending)
        if pieces is not None and pieces.lengths is None:
            # Decoded only where bits per byte are measured.
            if self.split == "val":
                self.bytes += sum(len(pieces.decode(ids).encode()) for ids in self._pending)
        else:
            self.bytes += int(self.of.lengths[tokens].sum())
        self.writer.append(tokens)
        self._pending, self._pending_tokens = [], 0
