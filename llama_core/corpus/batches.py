"""Batches of token windows in an order that is a pure function of seed and step."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from llama_core.corpus.documents import CorpusError
from llama_core.corpus.shards import Tokens
from llama_core.mixture import MIXTURE_BLOCK

# The validation set is the same for every training seed, and so is the part of a source that is
# read where only a part is.
_VALIDATION_SEED, _PART_SEED = 0, 2**40


@dataclass(frozen=True)
class TokenSource:
    """A named stream of tokens and its share of the mixture.

    Attributes:
        weight: share of the training tokens, relative to the other sources'.
        shards: token arrays, usually memory maps. No window crosses two of them.
        unique_tokens: of which training reads no others; None for all.
        validation: token arrays of its part of the validation split.
        bytes_per_token: mean of its validation text, see `Batches`.
    """

    name: str
    shards: Sequence[Tokens]
    weight: float = 1.0
    unique_tokens: int | None = None
    validation: Sequence[Tokens] = ()
    bytes_per_token: float | None = None


@dataclass
class Batches:
    """Training batches by step, and one fixed validation set.

    Each source is cut into windows of seq_len + 1 tokens (the last of one is the first of the
    next, so every token is predicted once). An epoch reads a source's windows in a permutation
    of (seed, source, epoch). Nothing else enters: model size, micro-batch, number of workers and
    restarts all see the same rows at the same step.

    Args:
        piece_bytes: UTF-8 bytes of every token id, for bits per byte; all zero where unknown.
        bytes_per_token: mean of the validation text, for bits per byte where the pieces do not
            tell; None where it is unknown too.
        digest: identity of the data, so that a checkpoint is not resumed on other text.

    Raises:
        CorpusError: a source has too small a share to be read, or is shorter than one window or
            than its unique tokens, or training is smaller than one batch, or validation shorter
            than `eval_tokens`.
    """

    sources: Sequence[TokenSource]
    piece_bytes: NDArray[np.int64]
    seq_len: int
    batch_tokens: int
    seed: int
    eval_tokens: int
    digest: str = ""
    bytes_per_token: float | None = None
    _permutations: dict[tuple[int, int], NDArray[np.int64]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        self.rows = self.batch_tokens // self.seq_len
        self._streams = [_Windows(source.shards, self.seq_len) for source in self.sources]
        held_out = [shard for source in self.sources for shard in source.validation]
        self._validation = _Windows(held_out, self.seq_len)
        for source, stream in zip(self.sources, self._streams, strict=True):
            if not stream.count:
                raise CorpusError(
                    f"source {source.name!r} has no stretch of seq_len + 1 = "
                    f"{self.seq_len + 1:,} tokens. Shorten seq_len or add text."
                )
        self._parts = [
            _part(source, stream, number)
            for number, (source, stream) in enumerate(zip(self.sources, self._streams, strict=True))
        ]
        available = sum(map(len, self._parts))
        if available < self.rows:
            raise CorpusError(
                f"the corpus has {available * self.seq_len:,} training tokens in whole windows, "
                f"less than one batch of {self.batch_tokens:,}. Lower batch_tokens or add text."
            )
        if self._validation.count * self.seq_len < self.eval_tokens:
            raise CorpusError(
                f"eval_tokens={self.eval_tokens:,} is more than the validation split's "
                f"{self._validation.count * self.seq_len:,}. Lower eval_tokens, raise "
                f"val_fraction or add text."
            )
        self._quota = _whole_numbers(self.shares, MIXTURE_BLOCK)
        for source, rows in zip(self.sources, self._quota, strict=True):
            if source.weight and not rows:
                total = sum(each.weight for each in self.sources)
                raise CorpusError(
                    f"source {source.name!r} has weight {source.weight:g} of {total:g}, less than "
                    f"half a row in {MIXTURE_BLOCK:,}: it would never be read. Raise its weight, "
                    "or remove it."
                )

    @property
    def vocab_size(self) -> int:
        """Pieces of the tokenizer; every id is below this."""
        return len(self.piece_bytes)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Each source's share of the training tokens."""
        weights = np.array([source.weight for source in self.sources])
        shares: NDArray[np.float64] = weights / weights.sum()
        return shares

    def at(self, step: int) -> NDArray[np.int64]:
        """Rows of the step after `step` finished ones, (rows, seq_len + 1)."""
        rows = np.arange(step * self.rows, (step + 1) * self.rows)
        if len(self.sources) == 1:
            return self._read(0, rows)
        batch = np.empty((self.rows, self.seq_len + 1), np.int64)
        source, index = self._mixture(rows)
        for number in np.unique(source):
            mine = source == number
            batch[mine] = self._read(int(number), index[mine])
        return batch

    def epochs(self, step: int) -> dict[str, float]:
        """Passes through each source after `step` steps, repeats counted."""
        rows = step * self.rows
        if len(self.sources) == 1:
            taken = np.array([rows])
        else:
            blocks, rest = divmod(rows, MIXTURE_BLOCK)
            source, _ = self._mixture(np.arange(rows - rest, rows))
            taken = blocks * self._quota + np.bincount(source, minlength=len(self.sources))
        return {
            source.name: float(count / len(part))
            for source, part, count in zip(self.sources, self._parts, taken, strict=True)
        }

    def validation(self) -> NDArray[np.int64]:
        """Fixed validation rows, spread over the split: (eval_tokens / seq_len, seq_len + 1)."""
        return self._validation.read(self._validation_windows)

    def validation_sources(self) -> NDArray[np.int64]:
        """The number of each validation row's source (eval_tokens / seq_len,)."""
        shards = [len(source.validation) for source in self.sources]
        of_shard = np.repeat(np.arange(len(shards)), shards)
        return of_shard[self._validation.shard_of(self._validation_windows)]

    @cached_property
    def _validation_windows(self) -> NDArray[np.int64]:
        chosen = _permutation(self._validation.count, _VALIDATION_SEED, 0, 0)
        return np.sort(chosen[: self.eval_tokens // self.seq_len])

    def _read(self, source: int, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of a source, by index into its endless sequence of epochs."""
        part = self._parts[source]
        epoch, place = np.divmod(index, len(part))
        window = np.empty_like(place)
        for number in np.unique(epoch):
            mine = epoch == number
            window[mine] = part[self._order(source, int(number))[place[mine]]]
        return self._streams[source].read(window)

    def _order(self, source: int, epoch: int) -> NDArray[np.int64]:
        key = (source, epoch)
        if key not in self._permutations:
            self._permutations.pop((source, epoch - 2), None)
            count = len(self._parts[source])
            self._permutations[key] = _permutation(count, self.seed, source, epoch)
        return self._permutations[key]

    def _mixture(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Source of each row, and the row's place in that source's sequence."""
        deck = np.repeat(np.arange(len(self.sources)), self._quota)
        source, index = np.empty_like(rows), np.empty_like(rows)
        for block in np.unique(rows // MIXTURE_BLOCK):
            mine = rows // MIXTURE_BLOCK == block
            shuffled = deck[_permutation(MIXTURE_BLOCK, self.seed, -1, int(block))]
            place = np.empty_like(shuffled)
            for number, quota in enumerate(self._quota):
                place[shuffled == number] = block * quota + np.arange(quota)
            source[mine] = shuffled[rows[mine] % MIXTURE_BLOCK]
            index[mine] = place[rows[mine] % MIXTURE_BLOCK]
        return source, index


class _Windows:
    """Windows of seq_len + 1 tokens over several arrays, numbered from the first to the last."""

    def __init__(self, shards: Sequence[Tokens], seq_len: int) -> None:
        self.shards, self.seq_len = shards, seq_len
        counts = [max(0, len(shard) - 1) // seq_len for shard in shards]
        self._starts = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
        self.count = int(self._starts[-1])

    def read(self, windows: NDArray[np.int64]) -> NDArray[np.int64]:
        rows = np.empty((len(windows), self.seq_len + 1), np.int64)
        for row, (number, window) in enumerate(zip(self.shard_of(windows), windows, strict=True)):
            start = int(window - self._starts[number]) * self.seq_len
            rows[row] = self.shards[number][start : start + self.seq_len + 1]
        return rows

    def shard_of(self, windows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of the array that each window lies in."""
        return np.searchsorted(self._starts, windows, side="right") - 1


def _part(source: TokenSource, stream: _Windows, number: int) -> NDArray[np.int64]:
    """The windows of a source that training reads, in rising order."""
    if source.unique_tokens is None:
        return np.arange(stream.count)
    count = source.unique_tokens // stream.seq_len
    if not 0 < count <= stream.count:
        raise CorpusError(
            f"source {source.name!r} is to be read in {source.unique_tokens:,} unique tokens, and "
            f"it has {stream.count * stream.seq_len:,} in whole windows of {stream.seq_len:,}. "
            "Ask for one window or more, and no more than there are."
        )
    return np.sort(_permutation(stream.count, _PART_SEED, number, 0)[:count])


def _permutation(count: int, seed: int, stream: int, turn: int) -> NDArray[np.int64]:
    # Raw draws are sorted, instead of Generator.permutation: numpy promises that raw draws stay
    # the same from version to version, and the order of the data is part of a run.
    entropy = (seed, stream + 1, turn)
    draws = np.random.PCG64(np.random.SeedSequence(entropy)).random_raw(count)
    return np.argsort(draws, kind="stable")


def _whole_numbers(shares: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Largest-remainder rounding of shares to whole numbers that sum to `total`."""
    exact = shares * total
    whole = np.floor(exact).astype(np.int64)
    order = np.argsort(whole - exact, kind="stable")
    whole[order[: total - whole.sum()]] += 1
    return whole
