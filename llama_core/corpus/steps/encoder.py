"""Encode many documents: words are encoded once and their ids remembered."""

import re

import numpy as np

from llama_core.corpus.tokenizer import BOS, EOS, SPACE, Tokenizer

_LETTER, _MARK, _OTHER = "[A-Za-z]", r"[!-@\[-`{-~\x00-\x1f\x7f]", r"[^\x00-\x7f]"
_WORDS = (
    # Spaces, then ASCII letters or ASCII marks, not both; other characters join either.
    re.compile(f" *(?:{_LETTER}+|{_MARK}+)?(?:{_OTHER}+(?:{_LETTER}+|{_MARK}+)?)*"),
    re.compile(" *[^ ]+| +"),
    re.compile("(?s).+"),
)
_LONGEST_WORD = 64
_MOST_WORDS = 2**19


class Encoder(dict[str, bytes]):
    """Ids of documents as bytes; as a mapping, the ids of the words seen so far.

    BPE merges two pieces only into a piece of the vocabulary. So a text may be cut, without any
    change in its ids, wherever no piece of the vocabulary has the two characters around the cut
    side by side. The finest of several ways to cut it that holds for this vocabulary is taken.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._tokenizer, self.token_bytes = tokenizer, tokenizer.token_bytes
        self._dtype = f"<u{self.token_bytes}"
        texts = [p.text.replace(SPACE, " ") for p in tokenizer.pieces() if p.is_text]
        self._words = next(
            words.findall
            for words in _WORDS
            if all(len(words.findall(text)[0]) == len(text) for text in texts)
        )

    def document(self, text: str) -> bytes:
        """Ids of a document between begin and end."""
        tokenizer = self._tokenizer
        if any(character in text for character in tokenizer.in_bytes):
            return self._packed([BOS, *tokenizer.encode(text), EOS])
        if len(self) > _MOST_WORDS:
            self.clear()
        words = map(self.__getitem__, self._words(text))
        return b"".join([self._packed([BOS]), *words, self._packed([EOS])])

    def __missing__(self, word: str) -> bytes:
        ids = self._packed(self._tokenizer.encode(word))
        if len(word) <= _LONGEST_WORD:
            self[word] = ids
        return ids

    def _packed(self, ids: list[int]) -> bytes:
        return np.array(ids, self._dtype).tobytes()
