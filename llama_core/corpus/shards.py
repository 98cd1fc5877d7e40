"""Token shards on disk and their manifest; a changed file is refused by name."""

import hashlib
from pathlib import Path
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from llama_core.config import Frozen
from llama_core.corpus.documents import CorpusError

Tokens = NDArray[np.uint16] | NDArray[np.uint32]
SHARD_TOKENS = 2**27


def token_width(vocab_size: int) -> int:
    """Bytes of a token id on disk."""
    return 2 if vocab_size <= 2**16 else 4


class ShardEntry(Frozen):
    """One file of tokens."""

    file: str
    tokens: NonNegativeInt
    sha256: str


class SplitEntry(Frozen):
    """The training or validation part of a source."""

    documents: NonNegativeInt
    bytes: NonNegativeInt
    tokens: NonNegativeInt
    shards: tuple[ShardEntry, ...]


class SourceEntry(Frozen):
    """Counts of a source: read, dropped, and kept in each split."""

    name: str
    weight: PositiveFloat
    documents_read: NonNegativeInt
    bytes_read: NonNegativeInt
    near_duplicates_dropped: NonNegativeInt
    train: SplitEntry
    val: SplitEntry


class Manifest(Frozen):
    """The description of a prepared corpus; the SHA-256 of its JSON identifies the data.

    It holds no path, time or machine, so the same text prepared elsewhere is the same data.

    Attributes:
        version: 2 where the rules of the first version would have given another corpus, so that
            every other corpus keeps its digest.
        characters: as in the configuration; `tokens` where the corpus came as tokens.
        tokenizer_sha256: empty where there is none.
    """

    version: PositiveInt = 1
    vocab_size: PositiveInt
    token_bytes: PositiveInt
    tokenizer_sha256: str
    piece_bytes_sha256: str
    characters: str
    val_fraction: float
    seed: NonNegativeInt
    sources: tuple[SourceEntry, ...]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a manifest.

        Raises:
            CorpusError: the file is missing, or not a manifest of this version.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise CorpusError(f"{path} cannot be read: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise CorpusError(f"{path} is not a manifest: {where}: {first['msg']}") from error


class ShardWriter:
    """Appends tokens to numbered files of at most `SHARD_TOKENS`."""

    def __init__(self, folder: Path, stem: str, token_bytes: int) -> None:
        self.folder, self.stem = folder, stem
        self.dtype = np.dtype(f"<u{token_bytes}")
        self._file: IO[bytes] | None = None
        self._digest = hashlib.sha256()
        self._tokens = 0
        self._done: list[ShardEntry] = []

    def append(self, tokens: NDArray[np.integer]) -> None:
        """Add the tokens of documents, which are not split between shards."""
        if self._tokens and self._tokens + len(tokens) > SHARD_TOKENS:
            self._end()
        if self._file is None and len(tokens):
            self._file = (self.folder / self._name).open("wb")
        if self._file is not None:
            content = tokens.astype(self.dtype, copy=False).tobytes()
            self._file.write(content)
            self._digest.update(content)
            self._tokens += len(tokens)

    def close(self) -> tuple[ShardEntry, ...]:
        """Write the remaining tokens; return the entries of all shards."""
        self._end()
        return tuple(self._done)

    @property
    def _name(self) -> str:
        return f"{self.stem}-{len(self._done):05d}.bin"

    def _end(self) -> None:
        if self._file is None:
            return
        self._file.close()
        entry = ShardEntry(file=self._name, tokens=self._tokens, sha256=self._digest.hexdigest())
        self._done.append(entry)
        self._file, self._tokens, self._digest = None, 0, hashlib.sha256()


def open_shards(folder: Path, split: SplitEntry, token_bytes: int) -> list[Tokens]:
    """Memory maps of a split's shards, each checked against the manifest.

    Raises:
        CorpusError: a shard is missing, truncated or edited; the message names it.
    """
    maps: list[Tokens] = []
    for shard in split.shards:
        path = folder / shard.file
        check_sha256(path, shard.sha256)
        maps.append(np.memmap(path, dtype=f"<u{token_bytes}", mode="r"))
    return maps


def check_sha256(path: Path, expected: str) -> None:
    """Refuse a file whose content has changed.

    Raises:
        CorpusError: the file is missing or has another SHA-256.
    """
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error}") from error
    if actual != expected:
        raise CorpusError(
            f"{path} was changed since it was written: its SHA-256 is {actual[:12]}…, not "
            f"{expected[:12]}…. Delete its folder to have the corpus prepared again."
        )
