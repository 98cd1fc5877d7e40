"""A prepared corpus: a folder of token shards, opened for training."""

from dataclasses import dataclass, field
from math import isclose
from pathlib import Path

import numpy as np

from llama_core.config import TrainConfig
from llama_core.corpus.batches import Batches, TokenSource
from llama_core.corpus.documents import CorpusError
from llama_core.corpus.left_out import LeftOut, Note
from llama_core.corpus.shards import Manifest, check_sha256, open_shards
from llama_core.corpus.tokenizer import Tokenizer
from llama_core.mixture import Mixture

# Of characters in a manifest: nothing was folded.
TOKENS = "tokens"
MANIFEST, PIECE_BYTES = "manifest.json", "piece_bytes.bin"
# A corpus that came as tokens may have a tokenizer.json, or none.
TOKENIZER, TOKENIZER_JSON = "tokenizer.model", "tokenizer.json"


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
        return sum(self.source_tokens.values())

    @property
    def source_tokens(self) -> dict[str, int]:
        """Training tokens of each source."""
        return {source.name: source.train.tokens for source in self.manifest.sources}

    @property
    def val_tokens(self) -> int:
        """Validation tokens of all sources together."""
        return sum(source.val.tokens for source in self.manifest.sources)

    @property
    def val_bytes_per_token(self) -> float | None:
        """Mean UTF-8 bytes of text per validation token; None without a tokenizer."""
        return sum(source.val.bytes for source in self.manifest.sources) / self.val_tokens or None

    @property
    def came_as_tokens(self) -> bool:
        """Whether its sources held tokens, of somebody's own tokenizer."""
        return self.manifest.characters == TOKENS

    @property
    def notes(self) -> list[Note]:
        """Sentences about what preparation left out of the text or changed in it."""
        if self.left_out is None and not self.came_as_tokens:
            unknown = "an earlier version prepared this corpus and did not count what it left out."
            return [Note(unknown, serious=False)]
        notes = [note for each in self.left_out or () for note in each.notes(self.vocab_size)]
        if len(self.manifest.sources) > 1:
            notes.append(Note(self._shares(), serious=False))
        if self.val_bytes_per_token is None:
            unmeasured = (
                f"source {self.manifest.sources[0].name!r}: no tokenizer is given, so there are no "
                "bits per byte. Losses are in nats per token."
            )
            notes.append(Note(unmeasured, serious=False))
        return notes

    def _shares(self) -> str:
        """What the weights of several sources mean."""
        total = sum(source.weight for source in self.manifest.sources)
        shares = ", ".join(
            f"{source.name} {source.weight / total:.1%}" for source in self.manifest.sources
        )
        divided = "" if isclose(total, 1.0) else f", the weights divided by their sum of {total:g}"
        return f"shares of the training tokens{divided}: {shares}."

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, checked against the manifest.

        Raises:
            CorpusError: its file was changed, or is no SentencePiece model.
        """
        path = self._tokenizer_file
        if path is None or path.name != TOKENIZER:
            kind = "without a tokenizer" if path is None else f"with a {TOKENIZER_JSON}"
            raise CorpusError(
                f"corpus {self.digest[:12]} came as tokens {kind}: text can only be read and "
                "written with a SentencePiece model. Give one as tokenizer of its sources."
            )
        check_sha256(path, self.manifest.tokenizer_sha256)
        return Tokenizer.load(path, ascii_only=self.manifest.characters == "ascii")

    @property
    def _tokenizer_file(self) -> Path | None:
        if not self.manifest.tokenizer_sha256:
            return None
        stored = self.path / TOKENIZER_JSON
        return stored if stored.exists() else self.path / TOKENIZER

    def check(self) -> None:
        """Compare every file with the manifest.

        Raises:
            CorpusError: a file is missing or was changed.
        """
        if (tokenizer := self._tokenizer_file) is not None:
            check_sha256(tokenizer, self.manifest.tokenizer_sha256)
        check_sha256(self.path / PIECE_BYTES, self.manifest.piece_bytes_sha256)
        for source in self.manifest.sources:
            for shard in (*source.train.shards, *source.val.shards):
                check_sha256(self.path / shard.file, shard.sha256)

    def open(self, train: TrainConfig, mixture: Mixture | None = None) -> Batches:
        """Batches for a recipe, every shard checked first.

        Args:
            mixture: of the sources; None: by their own weights.

        Raises:
            CorpusError: a shard is truncated or edited, the corpus is too small, or its sources
                are not those of the mixture.
        """
        self._check_sources(mixture)
        width = self.manifest.token_bytes
        check_sha256(self.path / PIECE_BYTES, self.manifest.piece_bytes_sha256)
        return Batches(
            sources=[
                TokenSource(
                    entry.name,
                    open_shards(self.path, entry.train, width),
                    entry.weight if mixture is None else mixture.shares[entry.name],
                    None if mixture is None else mixture.unique_tokens.get(entry.name),
                    validation=open_shards(self.path, entry.val, width),
                    bytes_per_token=entry.val.bytes / entry.val.tokens or None,
                )
                for entry in self.manifest.sources
            ],
            piece_bytes=np.fromfile(self.path / PIECE_BYTES, dtype="<u4").astype(np.int64),
            seq_len=train.seq_len,
            batch_tokens=train.batch_tokens,
            seed=train.seed,
            eval_tokens=train.eval_tokens,
            digest=self.digest,
            bytes_per_token=self.val_bytes_per_token,
        )

    def _check_sources(self, mixture: Mixture | None) -> None:
        names = [entry.name for entry in self.manifest.sources]
        if mixture is not None and {*mixture.shares} != {*names}:
            raise CorpusError(
                f"the mixture is of {', '.join(mixture.shares)}, and corpus {self.digest[:12]} has "
                f"the sources {', '.join(names)}: name each with its share, 0 for none."
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
