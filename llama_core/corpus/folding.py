"""Text in ASCII, for corpora whose `characters` is `ascii`."""

import re
import unicodedata
from functools import lru_cache

# Typographic marks with a plain form of their own.
EQUIVALENTS = {
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "–": "-",
    "—": "-",
    "…": "...",
    "•": "*",
    "×": "x",
}
# The one ASCII character that SentencePiece keeps for itself: it cannot have a piece.
SEPARATOR = "\x1f"
_NO_LETTERS = bytes(c for c in range(128) if not chr(c).isalpha())
_OTHERS = re.compile(r"[^\x00-\x7f]+")
_TABLE = str.maketrans(EQUIVALENTS)


def fold(text: str) -> str:
    """Text in ASCII: accents removed, typographic marks replaced, any other character `?`."""
    text = text.replace(SEPARATOR, "?")
    if text.isascii():
        return text
    # A text of accents alone has no letter left.
    return _OTHERS.sub(_folded, text) or "?"


def ascii_letters(text: str) -> int:
    """The number of ASCII letters; looking at each character takes fifty times longer."""
    return len(text.encode("ascii", "ignore").translate(None, _NO_LETTERS))


def _folded(others: re.Match[str]) -> str:
    return _fold_others(others[0])


@lru_cache(maxsize=100_000)
def _fold_others(text: str) -> str:
    """Characters in a row that are not ASCII; ASCII around them changes nothing in these forms."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_TABLE))
    bare = "".join(c for c in decomposed if not unicodedata.combining(c))
    return bare.encode("ascii", "replace").decode("ascii")
