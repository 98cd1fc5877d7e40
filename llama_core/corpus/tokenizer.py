"""SentencePiece BPE, trained on the training split alone."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import sentencepiece as spm
from numpy.typing import NDArray

from llama_core.cores import usable_cores
from llama_core.corpus.cleaning import fold

UNKNOWN, BOS, EOS = 0, 1, 2
_CHUNK_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of the vocabulary; spaces in `text` are written as ▁."""

    text: str
    score: float
    is_byte: bool
    is_text: bool


class Tokenizer:
    """Text to ids and back, exactly; ids 0, 1, 2 are unknown, begin and end, as LLaMA's."""

    def __init__(self, model: bytes, *, ascii_only: bool = False) -> None:
        """Args:
        ascii_only: fold other characters before encoding, as the corpus was folded.
        """
        self.model = model
        self._ascii_only = ascii_only
        self._processor = spm.SentencePieceProcessor(model_proto=model)
        self.vocab_size: int = self._processor.get_piece_size()

    @classmethod
    def train(cls, texts: Iterator[str], *, vocab_size: int, byte_fallback: bool) -> Self:
        """Train BPE: no normalisation, digits split, whitespace kept.

        Raises:
            RuntimeError: the text has too few different pieces for `vocab_size`.
        """
        model = io.BytesIO()
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
        )
        return cls(model.getvalue())

    @classmethod
    def load(cls, path: Path, *, ascii_only: bool = False) -> Self:
        """Read a SentencePiece model file, such as LLaMA's."""
        return cls(path.read_bytes(), ascii_only=ascii_only)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without begin or end."""
        ids: list[int] = self._processor.encode(self.as_read(text))
        return ids

    def as_read(self, text: str) -> str:
        """A text as it is encoded, which may be folded to ASCII."""
        return fold(text) if self._ascii_only else text

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Ids of several documents in a row, each between begin and end."""
        encoded = self._processor.encode(
            list(texts), num_threads=usable_cores(), add_bos=True, add_eos=True
        )
        return np.fromiter((i for ids in encoded for i in ids), np.int64)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; begin and end tokens give no text."""
        text: str = self._processor.decode(list(ids))
        return text

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
            len(piece.text.replace("\u2581", " ").encode()) if piece.is_text else piece.is_byte
            for piece in self.pieces()
        ]
        # Only folded text has unknown pieces; it is ASCII, so they are counted as one byte.
        lengths[UNKNOWN] = 1
        return np.array(lengths, np.int64)


def _chunks(texts: Iterator[str]) -> Iterator[str]:
    # SentencePiece reads sentences; short chunks with their newlines teach it newlines too.
    for text in texts:
        for start in range(0, len(text), _CHUNK_CHARACTERS):
            yield text[start : start + _CHUNK_CHARACTERS]
