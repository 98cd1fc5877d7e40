"""SentencePiece BPE, trained on the training split alone."""

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import sentencepiece as spm
from numpy.typing import NDArray

from llama_core.cores import usable_cores
from llama_core.corpus.documents import CorpusError
from llama_core.corpus.folding import fold
from llama_core.corpus.shards import token_width

UNKNOWN, BOS, EOS = 0, 1, 2
# SentencePiece writes a space as this, so that it cannot tell one in the text from a space.
SPACE = "\u2581"
# SentencePiece learns nothing from text that has this, its own mark for what it does not know.
RESERVED = "\u2585"
_CHUNK_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of the vocabulary; spaces in `text` are written as ▁."""

    text: str
    score: float
    is_byte: bool
    is_text: bool


class Tokenizer:
    """Text to ids and back, exactly; ids 0, 1, 2 are unknown, begin and end, as LLaMA's.

    Without byte pieces this holds for text of the characters in the vocabulary.
    """

    def __init__(self, model: bytes, *, ascii_only: bool = False) -> None:
        """Args:
        ascii_only: fold other characters before encoding, as the corpus was folded.
        """
        self.model = model
        self.ascii_only = ascii_only
        self._processor = spm.SentencePieceProcessor(model_proto=model)
        self.vocab_size: int = self._processor.get_piece_size()
        # What SentencePiece would not encode as itself is written in byte pieces: a literal ▁, and
        # a space where the training text had so few that the vocabulary has none.
        self.in_bytes = ""
        self.has_spaces = self._is_known(" ")
        self.end: int | None = self._processor.eos_id() if self._processor.eos_id() >= 0 else None
        if self._processor.is_byte(self._processor.piece_to_id("<0x20>")):
            self.in_bytes = SPACE if self.has_spaces else f"{SPACE} "

    @classmethod
    def train(
        cls, texts: Iterator[str], *, vocab_size: int, byte_fallback: bool, alphabet: str = ""
    ) -> Self:
        """Train BPE: no normalisation, digits split, whitespace kept.

        Args:
            alphabet: characters that get a piece although the texts may lack them.

        Raises:
            CorpusError: the text has too few different pieces for `vocab_size`, or too many
                different characters.
        """
        model = io.BytesIO()
        # An empty setting would be written into the model and change its digest.
        required: dict[str, Any] = {"required_chars": alphabet} if alphabet else {}
        try:
            spm.SentencePieceTrainer.train(
                sentence_iterator=_chunks(texts),
                model_writer=model,
                model_type="bpe",
                vocab_size=vocab_size,
                byte_fallback=byte_fallback,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                add_dummy_prefix=False,
                allow_whitespace_only_pieces=True,
                split_digits=True,
                character_coverage=0.9999 if byte_fallback else 1.0,
                max_sentence_length=4 * _CHUNK_CHARACTERS + 4,
                unk_id=UNKNOWN,
                bos_id=BOS,
                eos_id=EOS,
                pad_id=-1,
                minloglevel=2,
                num_threads=usable_cores(),
                **required,
            )
        except RuntimeError as error:
            reason = _refusal(str(error), vocab_size, 512 if byte_fallback else 300)
            raise CorpusError(reason) from error
        return cls(model.getvalue())

    @classmethod
    def load(cls, path: Path, *, ascii_only: bool = False) -> Self:
        """Read a SentencePiece model file, such as LLaMA's."""
        return cls(path.read_bytes(), ascii_only=ascii_only)

    @property
    def token_bytes(self) -> int:
        """Bytes of an id in a shard."""
        return token_width(self.vocab_size)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without begin or end."""
        return self._encode(self.as_read(text))

    def as_read(self, text: str) -> str:
        """A text as it is encoded, which may be folded to ASCII."""
        return fold(text) if self.ascii_only else text

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; begin and end tokens give no text."""
        text: str = self._processor.decode(list(ids))
        return text

    def unknown(self, characters: Iterable[str]) -> str:
        """Those of some characters that have no piece of their own, in order."""
        return "".join(sorted(c for c in characters if not self._is_known(c)))

    def pieces(self) -> list[Piece]:
        """Every piece in order of its id."""
        sp = self._processor
        return [
            Piece(
                text=sp.id_to_piece(i),
                score=sp.get_score(i),
                is_byte=sp.is_byte(i),
                is_text=not (sp.is_byte(i) or sp.is_control(i) or sp.is_unknown(i)),
            )
            for i in range(self.vocab_size)
        ]

    def piece_bytes(self) -> NDArray[np.int64]:
        """UTF-8 bytes of each id's text, for bits per byte; begin and end have none."""
        lengths = [
            len(piece.text.replace(SPACE, " ").encode()) if piece.is_text else piece.is_byte
            for piece in self.pieces()
        ]
        # Text of a corpus has no unknown pieces. Other folded text may: it is ASCII, a byte each.
        lengths[UNKNOWN] = 1
        return np.array(lengths, np.int64)

    def _is_known(self, character: str) -> bool:
        known: bool = self._processor.piece_to_id(character.replace(" ", SPACE)) != UNKNOWN
        return known

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = []
        parts = re.split(f"([{self.in_bytes}])", text) if self.in_bytes else [text]
        for part in parts:
            if part and part in self.in_bytes:
                ids += (self._processor.piece_to_id(f"<0x{byte:02X}>") for byte in part.encode())
            else:
                ids += self._processor.encode(part)
        return ids


def _chunks(texts: Iterator[str]) -> Iterator[str]:
    # SentencePiece reads sentences; short chunks with their newlines teach it newlines too.
    for text in texts:
        text = text.replace(RESERVED, "")
        for start in range(0, len(text), _CHUNK_CHARACTERS):
            yield text[start : start + _CHUNK_CHARACTERS]


def _refusal(reason: str, vocab_size: int, least: int) -> str:
    """Why SentencePiece made no vocabulary, and what to set instead."""
    if fitting := re.search(r"value <= (\d+)", reason):
        most = int(fitting[1])
        if most < least:
            return (
                f"the training text is too uniform for a tokenizer: it gives at most {most} pieces "
                f"and corpus.vocab_size is at least {least}. Add other text."
            )
        return (
            f"the training text gives at most {most:,} pieces, not corpus.vocab_size="
            f"{vocab_size:,}. Add text or lower it: --set corpus.vocab_size={most}"
        )
    if required := re.search(r"required_chars\. \d+ vs (\d+)", reason):
        needed = int(required[1])
        # A power of two that leaves a fifth of the pieces or more for words.
        roomy = 1 << (needed * 5 // 4).bit_length()
        return (
            f"the training text has so many different characters that the vocabulary needs "
            f"{needed:,} pieces and more, not {vocab_size:,}: --set corpus.vocab_size={roomy}"
        )
    return f"no tokenizer can be trained on this text: {reason.splitlines()[0]}"
