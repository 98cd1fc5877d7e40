"""Clean text: normalise it, drop repeats, drop validation text that occurs in training."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from llama_core.corpus.folding import fold
from llama_core.corpus.left_out import LeftOut

# Paragraphs at least this long are kept once in a corpus; shorter ones repeat naturally.
DUPLICATE_CHARACTERS = 80
# A validation document is a near duplicate when this share of its passages occurs in training.
NEAR_DUPLICATE_SHARE = 0.2
BYTE_ORDER_MARK = "\ufeff"
# A passage is this many bytes, about a dozen words (a power of two, see `passages`).
PASSAGE_BYTES = 64
# One passage in this many is sampled; its bytes alone decide.
PASSAGE_SAMPLING = 16
# Of a digest by which texts are compared: two of 2^40 different ones agree once in 2^48 corpora.
KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class Parts:
    """A normalised document and what is compared with earlier documents: itself and its paragraphs.

    Each of them is looked up by `keys`, in order: the whole text, then the paragraphs. A document's
    only paragraph is the whole text, which is looked up once; but a short one also as a paragraph.

    Attributes:
        looked_up: whether each paragraph has a key.
    """

    text: str
    paragraphs: list[str]
    looked_up: list[bool]

    @classmethod
    def of(cls, text: str) -> Self:
        """The parts of a normalised text that is not empty."""
        paragraphs = [part for part in text.split("\n\n") if part]
        return cls(text, paragraphs, [part != text or is_short(part) for part in paragraphs])

    def keys(self) -> bytes:
        """Digests of 16 bytes; a short paragraph's differs from that of an equal document."""
        keys = [_key(self.text, short=False)]
        keys += [
            _key(part, short=is_short(part))
            for part, looked_up in zip(self.paragraphs, self.looked_up, strict=True)
            if looked_up
        ]
        return b"".join(keys)

    def count(self) -> int:
        """The number of keys."""
        return 1 + sum(self.looked_up)

    def without_repeats(
        self, repeated: Sequence[bool], counts: LeftOut, *, short_is_new: bool = True
    ) -> str | None:
        """The text without its repeated long paragraphs; None where nothing is new, counted.

        Args:
            repeated: for each key, whether it occurred earlier in the corpus.
            short_is_new: whether a paragraph shorter than `DUPLICATE_CHARACTERS` can be what is
                new in a document. The first version of preparation did not think so.
        """
        again = iter(repeated)
        kept, new_short = [], False
        whole_is_repeated = next(again)
        for part, looked_up in zip(self.paragraphs, self.looked_up, strict=True):
            is_repeated = looked_up and next(again)
            if is_short(part):
                new_short |= not is_repeated
            elif is_repeated:
                continue
            kept.append(part)
        only_short_is_left = not is_short(self.text) and all(map(is_short, kept))
        if whole_is_repeated or (only_short_is_left and not (short_is_new and new_short)):
            counts.repeats += 1
            counts.characters_repeated += len(self.text)
            return None
        counts.later_rule |= only_short_is_left
        counts.characters_repeated += sum(map(len, self.paragraphs)) - sum(map(len, kept))
        return "\n\n".join(kept)


def is_short(text: str) -> bool:
    """Whether a paragraph is so short that it repeats naturally."""
    return len(text) < DUPLICATE_CHARACTERS


def _key(text: str, *, short: bool) -> bytes:
    person = b"short" if short else b""
    return hashlib.blake2b(text.encode(), digest_size=KEY_BYTES, person=person).digest()


def normalise(text: str, *, ascii_only: bool) -> str:
    """Newlines as `\\n`, no trailing blanks, at most one blank line in a row; NFC or ASCII."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    text = fold(text) if ascii_only else unicodedata.normalize("NFC", text)
    # Most texts have neither, and looking for the first pattern in long indents is slow.
    if " \n" in text or "\t\n" in text:
        text = re.sub(r"(?<![ \t])[ \t]+\n", "\n", text)
    if "\n\n\n" in text:
        text = re.sub(r"\n{3,}", "\n\n", text)
    return text.strip()


def well_formed(text: str) -> str:
    """A text without byte-order marks, and with U+FFFD for halves of a surrogate pair.

    JSON can hold such halves; UTF-8 cannot.
    """
    if text.isascii():
        return text
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.replace(BYTE_ORDER_MARK, "")


def in_validation(document: str | bytes, fraction: float, seed: int) -> bool:
    """Whether a document belongs to validation; its own text, or tokens, alone decide."""
    content = document.encode() if isinstance(document, str) else document
    digest = hashlib.blake2b(content, digest_size=8, key=seed.to_bytes(8, "little")).digest()
    return int.from_bytes(digest, "little") < fraction * 2**64


def passages(text: str) -> NDArray[np.uint64]:
    """Hashes of a sample of the text's overlapping passages, sorted, each once.

    The hash decides whether a passage is sampled, so of two texts that share a passage both
    sample it or neither does.
    """
    hashes = np.frombuffer(text.encode(), np.uint8).astype(np.uint64) + np.uint64(1)
    if len(hashes) < PASSAGE_BYTES:
        return np.empty(0, np.uint64)
    # The hash of 2w bytes at i is that of w bytes at i times b^w, plus that at i + w.
    width, power = 1, 0x9E3779B97F4A7C15
    while width < PASSAGE_BYTES:
        hashes = hashes[:-width] * np.uint64(power) + hashes[width:]
        width, power = 2 * width, power * power % 2**64
    # High bits mix best in a polynomial hash modulo 2^64.
    hashes ^= hashes >> np.uint64(32)
    return np.unique(hashes[hashes % np.uint64(PASSAGE_SAMPLING) == 0])


def places(hashes: NDArray[np.uint64], among: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where those of some hashes that are among others stand there; the others are sorted."""
    if not len(among):
        return np.empty(0, np.int64)
    candidates = np.asarray(np.searchsorted(among, hashes), np.int64)
    candidates[candidates == len(among)] = 0
    there: NDArray[np.int64] = candidates[among[candidates] == hashes]
    return there


def is_leaked(text: str, held_out: NDArray[np.uint64], leaked: NDArray[np.bool_]) -> bool:
    """Whether a validation text is a near duplicate of training text.

    Args:
        held_out: hashes of all validation passages, sorted.
        leaked: whether each of them occurs in training.
    """
    hashes = passages(text)
    if not len(hashes):
        return False
    return bool(leaked[places(hashes, held_out)].mean() >= NEAR_DUPLICATE_SHARE)
