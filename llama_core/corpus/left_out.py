"""What preparation leaves out of a source or changes in it: counts, and the sentences for them."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from pydantic import BaseModel, ConfigDict, TypeAdapter

from llama_core.corpus.folding import SEPARATOR, ascii_letters, fold

# A share of letters, rows or bytes from which a loss is a warning and no longer a remark.
_SERIOUS = 0.01
# Folding leaves an accented letter readable, so it takes more of them.
_SERIOUS_ACCENTS = 0.05
# Repeats are dropped on purpose; from this share on the text is not what it seems to be.
_SERIOUS_REPEATS = 0.1
# The smallest vocabulary that characters='unicode' allows.
_UNICODE_PIECES = 512
_NAMES_SHOWN = 3
# What folding to ASCII changes.
_FOLDED = re.compile(f"[^\\x00-\\x7f{SEPARATOR}]+|{SEPARATOR}+")


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence about what a corpus lacks of its text.

    Attributes:
        serious: whether the share is large enough for a warning.
    """

    text: str
    serious: bool


class LeftOut(BaseModel):
    """Counts of one source, filled while its documents are read and cleaned.

    Attributes:
        letters_lost: letters that folding to ASCII turns into `?`.
        accents_lost: letters that folding to ASCII strips of a mark.
        symbols_lost: other characters that become `?`.
        lost: some of the characters that become `?`.
        files: names of the files that are not read; `files_bytes` is their size.
        repeats: documents without anything new.
        later_rule: whether the first version of preparation would have read other text here.
        came_as_tokens: whether the source holds tokens, of which only files not read are counted.
        files_installed: files that this machine has of a kind of text, of which repeats are no
            surprise; `files_unfit`, those that are generated, packed or not UTF-8; `files_over`,
            those not looked at since others have as much as is read of a kind.
    """

    model_config = ConfigDict(extra="forbid")

    source: str
    text_field: str = "text"
    documents: int = 0
    bytes: int = 0
    characters: int = 0
    letters: int = 0
    letters_lost: int = 0
    accents_lost: int = 0
    symbols_lost: int = 0
    lost: str = ""
    files: tuple[str, ...] = ()
    files_bytes: int = 0
    rows: int = 0
    rows_without_text: int = 0
    empty: int = 0
    repeats: int = 0
    characters_repeated: int = 0
    near_duplicates: int = 0
    later_rule: bool = False
    came_as_tokens: bool = False
    files_installed: int = 0
    files_unfit: int = 0
    files_over: int = 0

    def count_folding(self, text: str) -> None:
        """Count the letters of a text, and what folding it to ASCII does to them."""
        self.letters += ascii_letters(text)
        if text.isascii() and SEPARATOR not in text:
            return
        for character, count in Counter("".join(_FOLDED.findall(text))).items():
            is_letter, fate = _folded(character)
            self.letters += count * is_letter
            if fate == "accent":
                self.accents_lost += count
            elif fate == "lost":
                self.letters_lost += count * is_letter
                self.symbols_lost += count * (not is_letter)
                if len(self.lost) < _NAMES_SHOWN and character.isprintable():
                    self.lost += character if character not in self.lost else ""

    def add(self, other: "LeftOut") -> None:
        """Add the counts of a later part of the same source."""
        for name, value in other:
            if isinstance(value, bool):
                setattr(self, name, getattr(self, name) or value)
            elif isinstance(value, int | tuple):
                setattr(self, name, getattr(self, name) + value)
        new = "".join(character for character in other.lost if character not in self.lost)
        self.lost = (self.lost + new)[:_NAMES_SHOWN]

    def notes(self, vocab_size: int) -> list[Note]:
        """Sentences for the counts that are not zero, causes before their effects."""
        notes = (self._letters(vocab_size), self._files(), self._rows(), self._repeats())
        return [note for note in notes if note is not None]

    def _files(self) -> Note | None:
        if self.files_unfit + self.files_over:
            read = self.files_installed - self.files_unfit - self.files_over
            others = {
                "are generated or no plain text": self.files_unfit,
                "are more than is needed": self.files_over,
            }
            rest = "".join(f"; {count:,} {are}" for are, count in others.items() if count)
            return Note(
                f"source {self.source!r}: {read:,} of {self.files_installed:,} files are read"
                f"{rest}.",
                serious=False,
            )
        if not self.files:
            return None
        remedy = (
            "Give tokens as .bin, .npy, .arrow or .parquet, not packed."
            if self.came_as_tokens
            else "Give text as .txt, .md, .jsonl, .json or .parquet."
        )
        return Note(
            f"source {self.source!r}: {counted(len(self.files), 'file is', 'files are')} not read "
            f"({_first(self.files)}). {remedy}",
            self.files_bytes >= _SERIOUS * self.bytes,
        )

    def _rows(self) -> Note | None:
        if not self.rows_without_text:
            return None
        return Note(
            f"source {self.source!r}: {self.rows_without_text:,} of {self.rows:,} rows have no "
            f"text in {self.text_field!r} and are skipped.",
            self.rows_without_text >= _SERIOUS * self.rows,
        )

    def _letters(self, vocab_size: int) -> Note | None:
        lost, bared, symbols = self.letters_lost, self.accents_lost, self.symbols_lost
        letters = max(self.letters, 1)
        parts = [
            f"{_percent(lost / letters)} of the letters become ?" if lost else "",
            f"{_percent(bared / letters)} of the letters lose their accent" if bared else "",
            f"{counted(symbols, 'other character becomes', 'other characters become')} ?"
            if symbols
            else "",
        ]
        if not any(parts):
            return None
        examples = f" ({' '.join(self.lost)} …)" if self.lost else ""
        remedy = "--set corpus.characters=unicode"
        if vocab_size < _UNICODE_PIECES:
            remedy += f" --set corpus.vocab_size={_UNICODE_PIECES}"
        return Note(
            f"source {self.source!r}: {', '.join(filter(None, parts))}{examples}, as "
            f"corpus.characters=ascii. {remedy} keeps them.",
            lost >= _SERIOUS * letters
            or bared >= _SERIOUS_ACCENTS * letters
            or symbols >= _SERIOUS * self.characters,
        )

    def _repeats(self) -> Note | None:
        dropped, alike = self.repeats, self.near_duplicates
        share = self.characters_repeated / max(self.characters, 1)
        if not dropped + alike + self.characters_repeated:
            return None
        parts = [
            f"{_percent(share)} of the text repeats and is dropped" if share else "",
            f"{dropped:,} of {self.documents:,} documents hold nothing new" if dropped else "",
            f"{alike:,} of {self.documents:,} documents nearly equal others and are dropped"
            if alike
            else "",
        ]
        return Note(
            f"source {self.source!r}: {', '.join(filter(None, parts))}.",
            not self.files_installed
            and (share >= _SERIOUS_REPEATS or dropped + alike >= _SERIOUS_REPEATS * self.documents),
        )


COUNTS = TypeAdapter(tuple[LeftOut, ...])


@lru_cache(maxsize=100_000)
def _folded(character: str) -> tuple[bool, str]:
    """Whether a character is part of a word, and what folding does: lost, accent or nothing."""
    is_letter = unicodedata.category(character)[0] in "LM"
    if unicodedata.combining(character):
        return False, "accent"
    if character != "?" and "?" in fold(character):
        return is_letter, "lost"
    marked = any(map(unicodedata.combining, unicodedata.normalize("NFKD", character)))
    return is_letter, "accent" if marked else ""


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if share >= 1e-5 else "under 0.001 %"


def counted(number: int, singular: str, plural: str) -> str:
    """A number of things: 1 row, 1,234 rows."""
    return f"{number:,} {singular if number == 1 else plural}"


def _first(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    more = len(names) - _NAMES_SHOWN
    return f"{shown} and {more:,} more" if more > 0 else shown
