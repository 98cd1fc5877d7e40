"""Clean text: normalise it, drop repeats, drop validation text that occurs in training."""

import hashlib
import re
import unicodedata
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from llama_core.corpus.documents import Document
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


class Deduplicator:
    """Normalises documents and drops repeats: whole documents, then paragraphs."""

    def __init__(self, *, ascii_only: bool) -> None:
        self.ascii_only = ascii_only
        self._seen: set[bytes] = set()
        self._seen_short: set[bytes] = set()

    def clean(
        self, documents: Iterator[Document], counts: LeftOut, *, short_is_new: bool = True
    ) -> Iterator[Document]:
        """Yield each document without its repeats; skip one without anything new, and count it.

        Args:
            short_is_new: whether a paragraph shorter than `DUPLICATE_CHARACTERS` can be what is
                new in a document. The first version of preparation did not think so.
        """
        for document in documents:
            text = normalise(document.text, ascii_only=self.ascii_only)
            if not text:
                counts.empty += 1
                continue
            if _is_repeated(text, self._seen):
                counts.repeats += 1
                counts.characters_repeated += len(text)
                continue
            paragraphs = [p for p in text.split("\n\n") if p]
            # A document's only paragraph is the whole text, which is already marked as seen.
            kept = [p for p in paragraphs if p == text or not self._is_repeated_and_long(p)]
            # All of them are looked up: later documents are compared with each.
            new_short = [not _is_repeated(p, self._seen_short) for p in kept if _is_short(p)]
            if not _is_short(text) and all(map(_is_short, kept)):
                if not (short_is_new and any(new_short)):
                    counts.repeats += 1
                    counts.characters_repeated += len(text)
                    continue
                counts.later_rule = True
            counts.characters_repeated += sum(map(len, paragraphs)) - sum(map(len, kept))
            yield Document(document.name, "\n\n".join(kept))

    def _is_repeated_and_long(self, paragraph: str) -> bool:
        return not _is_short(paragraph) and _is_repeated(paragraph, self._seen)


def _is_short(text: str) -> bool:
    return len(text) < DUPLICATE_CHARACTERS


def _is_repeated(text: str, seen: set[bytes]) -> bool:
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    if digest in seen:
        return True
    seen.add(digest)
    return False


def normalise(text: str, *, ascii_only: bool) -> str:
    """Newlines as `\\n`, no trailing blanks, at most one blank line in a row; NFC or ASCII."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    text = fold(text) if ascii_only else unicodedata.normalize("NFC", text)
    text = re.sub(r"[ \t]+\n", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def well_formed(text: str) -> str:
    """A text without byte-order marks, and with U+FFFD for halves of a surrogate pair.

    JSON can hold such halves; UTF-8 cannot.
    """
    if text.isascii():
        return text
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.replace(BYTE_ORDER_MARK, "")


def in_validation(text: str, fraction: float, seed: int) -> bool:
    """Whether a document belongs to validation; its own text alone decides."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, key=seed.to_bytes(8, "little")).digest()
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


def near_duplicates(validation: list[str], training: Iterator[str]) -> set[int]:
    """Indices of the validation texts that are near duplicates of training text.

    Reads training once and keeps only the hashes of validation's passages.
    """
    sampled = [passages(text) for text in validation]
    held_out = np.unique(np.concatenate(sampled)) if sampled else np.empty(0, np.uint64)
    if not len(held_out):
        return set()
    leaked = np.zeros(len(held_out), bool)
    for text in training:
        hashes = passages(text)
        places = np.searchsorted(held_out, hashes)
        places[places == len(held_out)] = 0
        leaked[places[held_out[places] == hashes]] = True
    return {
        index
        for index, hashes in enumerate(sampled)
        if len(hashes) and leaked[np.searchsorted(held_out, hashes)].mean() >= NEAR_DUPLICATE_SHARE
    }
