"""A prepared corpus: a folder of token shards, opened for training."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from llama_core.config import TrainConfig
from llama_core.corpus.batches import Batches, TokenSource
from llama_core.corpus.documents import CorpusError
from llama_core.corpus.left_out import LeftOut, Note
from llama_core.corpus.shards import Manifest, check_sha256, open_shards
from llama_core.corpus.tokenizer import Tokenizer

MANIFEST, TOKENIZER, PIECE_BYTES = "manifest.json", "tokenizer.model", "piece_bytes.bin"


@dataclass(frozen=True)
class PreparedCorpus:
    """A folder of token shards with its manifest.

    Attributes:
        digest: SHA-256 of the manifest, the identity of the data, tokenizer included.
        left_out: what preparation left out of each source that a user named; None where it was
            not counted. It is no part of the data.
    """

    path: Path
    digest: str
    manifest: Manifest
    left_out: tuple[LeftOut, ...] | None = field(default=None, compare=False)

    @property
    def vocab_size(self) -> int:
        """Pieces of the tokenizer."""
        return self.manifest.vocab_size

    @property
    def train_tokens(self) -> int:
        """Training tokens of all sources together, each counted once."""
        return sum(source.train.tokens for source in self.manifest.sources)

    @property
    def val_tokens(self) -> int:
        """Validation tokens of all sources together."""
        return sum(source.val.tokens for source in self.manifest.sources)

    @property
    def val_bytes_per_token(self) -> float:
        """Mean UTF-8 bytes of text per validation token."""
        return sum(source.val.bytes for source in self.manifest.sources) / self.val_tokens

    @property
    def notes(self) -> list[Note]:
        """Sentences about what preparation left out of the text or changed in it."""
        if self.left_out is None:
            unknown = "an earlier version prepared this corpus and did not count what it left out."
            return [Note(unknown, serious=False)]
        return [note for counts in self.left_out for note in counts.notes(self.vocab_size)]

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, checked against the manifest.

        Raises:
            CorpusError: its file was changed.
        """
        path = self.path / TOKENIZER
        check_sha256(path, self.manifest.tokenizer_sha256)
        return Tokenizer.load(path, ascii_only=self.manifest.characters == "ascii")

    def check(self) -> None:
        """Compare every file with the manifest.

        Raises:
            CorpusError: a file is missing or was changed.
        """
        check_sha256(self.path / TOKENIZER, self.manifest.tokenizer_sha256)
        check_sha256(self.path / PIECE_BYTES, self.manifest.piece_bytes_sha256)
        for source in self.manifest.sources:
            for shard in (*source.train.shards, *source.val.shards):
                check_sha256(self.path / shard.file, shard.sha256)

    def open(self, train: TrainConfig) -> Batches:
        """Batches for a recipe, every shard checked first.

        Raises:
            CorpusError: a shard is truncated or edited, or the corpus is too small.
        """
        width = self.manifest.token_bytes
        check_sha256(self.path / PIECE_BYTES, self.manifest.piece_bytes_sha256)
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
            piece_bytes=np.fromfile(self.path / PIECE_BYTES, dtype="<u4").astype(np.int64),
            seq_len=train.seq_len,
            batch_tokens=train.batch_tokens,
            seed=train.seed,
            eval_tokens=train.eval_tokens,
            digest=self.digest,
        )


def find_corpus(home: Path, digest: str) -> PreparedCorpus:
    """The prepared corpus of a digest.

    Raises:
        CorpusError: it is missing, or its manifest was changed.
    """
    folder = folder_of(home, digest)
    if not folder.exists():
        raise CorpusError(f"corpus {digest[:12]} is not in {folder.parent}. Prepare it first.")
    check_sha256(folder / MANIFEST, digest)
    return PreparedCorpus(folder, digest, Manifest.load(folder / MANIFEST))


def folder_of(home: Path, digest: str) -> Path:
    return home / "corpora" / digest[:16]
