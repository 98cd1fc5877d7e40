"""Tokenizers that people have: how many bytes of text each of their ids stands for."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.corpus.documents import CorpusError
from llama_core.corpus.tokenizer import SPACE, Tokenizer

# Special tokens by which tokenizers end a document, the commonest first.
_ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[EOS]")


@dataclass(frozen=True)
class Pieces:
    """What is known of a tokenizer's ids.

    Attributes:
        path: its file.
        size: one more than its highest id.
        lengths: UTF-8 bytes of each id's text, special ids none; None where the pieces cannot
            tell, so that text must be decoded.
        end: the id that ends a document.
    """

    path: Path
    size: int
    lengths: NDArray[np.int64] | None
    end: int | None

    def decode(self, ids: NDArray[Any]) -> str:
        """Text of ids, by the package tokenizers.

        Raises:
            CorpusError: it is missing, or cannot read the file.
        """
        text: str = self._decoder.decode(ids.tolist())
        return text

    @cached_property
    def _decoder(self) -> Any:
        try:
            from tokenizers import Tokenizer as Decoder
        except ImportError as error:
            raise CorpusError(
                f"the pieces of {self.path} do not tell their bytes; to decode text with it needs "
                "the package tokenizers: pip install tokenizers"
            ) from error
        try:
            return Decoder.from_file(str(self.path))
        except Exception as error:  # the package raises nothing narrower
            reason = str(error).partition("\n")[0]
            raise CorpusError(f"tokenizer {self.path} cannot be read: {reason}") from error


def read_pieces(path: Path) -> Pieces:
    """Read a tokenizer.json or a SentencePiece model.

    Raises:
        CorpusError: the file is neither.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"tokenizer {path} cannot be read: {error.strerror}.") from error
    if path.suffix != ".json":
        return _sentencepiece(path, content)
    try:
        stored = json.loads(content)
        added = stored["added_tokens"]
        model = stored["model"]
        vocabulary = model["vocab"]
        special = {token["content"]: token["id"] for token in added if token["special"]}
        # A unigram model has a list of pieces with their scores.
        ids = (
            {piece: number for number, (piece, _) in enumerate(vocabulary)}
            if isinstance(vocabulary, list)
            else dict(vocabulary)
        )
        ids |= {token["content"]: token["id"] for token in added}
        size = 1 + max(ids.values())
    except (ValueError, KeyError, TypeError) as error:
        raise CorpusError(
            f"{path} is no tokenizer.json: it has no model with a vocabulary."
        ) from error
    end = next((special[e] for e in _ENDS if e in special), None)
    length = _length(stored)
    if length is None:
        return Pieces(path, size, None, end)
    lengths = np.zeros(size, np.int64)
    plain = {token["content"] for token in added}
    for piece, number in ids.items():
        if piece not in special:
            lengths[number] = len(piece.encode()) if piece in plain else length(piece)
    return Pieces(path, size, lengths, end)


def _length(stored: dict[str, Any]) -> Callable[[str], int] | None:
    """How to count a piece's bytes by the way this tokenizer decodes; None where it depends."""
    decoder = stored.get("decoder") or {}
    kinds = {step.get("type") for step in decoder.get("decoders", [decoder])}
    if kinds == {"ByteLevel"}:
        # Each byte is written as one character.
        return len
    if "ByteFallback" in kinds and kinds <= {"Replace", "ByteFallback", "Fuse", "Strip"}:
        return _of_sentencepiece
    return None


def _of_sentencepiece(piece: str) -> int:
    is_byte = len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")
    return 1 if is_byte else len(piece.replace(SPACE, " ").encode())


def _sentencepiece(path: Path, content: bytes) -> Pieces:
    try:
        tokenizer = Tokenizer(content)
    except RuntimeError as error:
        raise CorpusError(
            f"{path} is no SentencePiece model. Give a tokenizer.json or a SentencePiece model."
        ) from error
    lengths = [_of_sentencepiece(p.text) * (p.is_text or p.is_byte) for p in tokenizer.pieces()]
    end = tokenizer.end
    return Pieces(path, tokenizer.vocab_size, np.array(lengths, np.int64), end)
