"""Encode the texts of a corpus and write its shards and manifest."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llama_core.corpus.prepared import MANIFEST, PIECE_BYTES, TOKENIZER
from llama_core.corpus.shards import Manifest, ShardWriter, SourceEntry, SplitEntry
from llama_core.corpus.steps.encode import MODEL, encode_tasks, token_groups
from llama_core.corpus.steps.progress import Meter
from llama_core.corpus.steps.sources import Job, Source
from llama_core.corpus.tokenizer import Tokenizer

# Text of a task.
_TASK_BYTES = 8_000_000
_ENCODE_DOCUMENTS = 512


def write_corpus(job: Job, sources: Sequence[Source], *, later_rule: bool) -> str:
    """Encode all sources with the tokenizer that was trained; return the manifest's digest."""
    tokenizer = Tokenizer.load(job.work / MODEL)
    manifest = Manifest(
        version=2 if later_rule else 1,
        vocab_size=tokenizer.vocab_size,
        token_bytes=tokenizer.token_bytes,
        tokenizer_sha256=_write(job.out / TOKENIZER, tokenizer.model),
        piece_bytes_sha256=write_piece_bytes(job.out, tokenizer.piece_bytes()),
        characters=job.config.characters,
        val_fraction=job.config.val_fraction,
        seed=job.config.seed,
        sources=tuple(_encode_source(job, source, tokenizer) for source in sources),
    )
    return write_manifest(job.out, manifest)


def write_piece_bytes(out: Path, lengths: NDArray[np.int64]) -> str:
    """Write the bytes of each piece's text; the SHA-256 of the file."""
    return _write(out / PIECE_BYTES, lengths.astype("<u4").tobytes())


def write_manifest(out: Path, manifest: Manifest) -> str:
    """Write a manifest; its SHA-256, the corpus's digest."""
    return _write(out / MANIFEST, manifest.model_dump_json(indent=1).encode())


def _write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _encode_source(job: Job, of: Source, tokenizer: Tokenizer) -> SourceEntry:
    meter = job.meter(f"encoding {of.source.name}", of.train_bytes)
    return SourceEntry(
        name=of.source.name,
        weight=of.source.weight,
        documents_read=of.counts.documents,
        bytes_read=of.counts.bytes,
        near_duplicates_dropped=of.counts.near_duplicates,
        train=_encode_split(job, of, "train", tokenizer, meter),
        val=_encode_split(job, of, "val", tokenizer, meter),
    )


def _encode_split(
    job: Job, of: Source, split: str, tokenizer: Tokenizer, meter: Meter
) -> SplitEntry:
    writer = ShardWriter(job.out, f"{of.source.name}-{split}", tokenizer.token_bytes)
    tasks = list(
        encode_tasks(
            job.work,
            f"{of.number:03d}-{split}",
            of.train if split == "train" else of.val,
            group=_ENCODE_DOCUMENTS,
            size=_TASK_BYTES,
        )
    )
    documents = size = 0
    for task, encoded in zip(tasks, job.workers.map(tasks, meter), strict=True):
        documents += encoded.documents
        size += encoded.bytes
        for tokens in token_groups(task, encoded, tokenizer.token_bytes):
            writer.append(tokens)
    shards = writer.close()
    return SplitEntry(
        documents=documents,
        bytes=size,
        tokens=sum(shard.tokens for shard in shards),
        shards=shards,
    )
