"""Text in ASCII, for corpora whose `characters` is `ascii`."""

import unicodedata

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
_TABLE = str.maketrans(EQUIVALENTS)


def fold(text: str) -> str:
    """Text in ASCII: accents removed, typographic marks replaced, any other character `?`."""
    text = text.replace(SEPARATOR, "?")
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFKD", text.translate(_TABLE))
    bare = "".join(c for c in decomposed if not unicodedata.combining(c))
    # A text of accents alone has no letter left.
    return bare.encode("ascii", "replace").decode("ascii") or "?"
