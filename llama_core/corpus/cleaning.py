"""Text made clean: one form, no passage twice, nothing of validation in training."""

import hashlib
import re
import unicodedata
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from llama_core.corpus.documents import Document

# Paragraphs at least this long are kept once in a corpus; shorter ones repeat naturally.
DUPLICATE_CHARACTERS = 80
# A validation document is a near duplicate when this share of its passages stands in training.
NEAR_DUPLICATE_SHARE = 0.2
# A passage is this many bytes, about a dozen words (a power of two, see `passages`).
PASSAGE_BYTES = 64
# One passage in this many is looked at; which ones depends on their bytes alone.
PASSAGE_SAMPLING = 16


class Deduplicator:
    """Normalises documents and drops what it has seen: whole documents, then paragraphs."""

    def __init__(self, *, ascii_only: bool) -> None:
        self.ascii_only = ascii_only
        self._seen: set[bytes] = set()

    def clean(self, documents: Iterator[Document]) -> Iterator[Document]:
        """What is left of each document; one without anything new is dropped."""
        for document in documents:
            text = normalise(document.text, ascii_only=self.ascii_only)
            if not text or self._is_repeated(text):
                continue
            paragraphs = (p for p in text.split("\n\n") if p)
            kept = [
                p
                for p in paragraphs
                # A document of one paragraph was asked about just now.
                if p == text or len(p) < DUPLICATE_CHARACTERS or not self._is_repeated(p)
            ]
            if any(len(p) >= DUPLICATE_CHARACTERS for p in kept) or len(text) < 80:
                yield Document(document.name, "\n\n".join(kept))

    def _is_repeated(self, text: str) -> bool:
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        if digest in self._seen:
            return True
        self._seen.add(digest)
        return False


def normalise(text: str, *, ascii_only: bool) -> str:
    """One form of line ends, no trailing blanks, at most one blank line; NFC, or ASCII."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    text = fold(text) if ascii_only else unicodedata.normalize("NFC", text)
    text = re.sub(r"[ \t]+\n", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def fold(text: str) -> str:
    """Accented letters without their accent, and what has no ASCII likeness as `?`."""
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFKD", text.translate(_ASCII_LIKENESS))
    bare = "".join(c for c in decomposed if not unicodedata.combining(c))
    # Marks that stand alone have no letter to leave.
    return bare.encode("ascii", "replace").decode("ascii") or "?"


_ASCII_LIKENESS = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "•": "*", "×": "x"}
)


def in_validation(text: str, fraction: float, seed: int) -> bool:
    """Whether a document belongs to validation: by its own text, whatever stands beside it."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, key=seed.to_bytes(8, "little")).digest()
    return int.from_bytes(digest, "little") < fraction * 2**64


def passages(text: str) -> NDArray[np.uint64]:
    """Hashes of a sample of the text's overlapping passages, sorted, each once.

    The sample is chosen by the hash itself, so two texts that share a passage either both
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
    """Indices of validation texts of which too much stands in training.

    Reads training once and remembers only the validation passages it met.
    """
    sampled = [passages(text) for text in validation]
    wanted = np.unique(np.concatenate(sampled)) if sampled else np.empty(0, np.uint64)
    if not len(wanted):
        return set()
    met = np.zeros(len(wanted), bool)
    for text in training:
        found = passages(text)
        places = np.searchsorted(wanted, found)
        places[places == len(wanted)] = 0
        met[places[wanted[places] == found]] = True
    return {
        index
        for index, own in enumerate(sampled)
        if len(own) and met[np.searchsorted(wanted, own)].mean() >= NEAR_DUPLICATE_SHARE
    }
