"""A SentencePiece BPE model as the files a fast Hugging Face tokenizer reads."""

import sys
import unicodedata
from functools import cache
from itertools import groupby
from typing import Any

from llama_core.corpus.folding import EQUIVALENTS, fold
from llama_core.corpus.tokenizer import BOS, EOS, SPACE, UNKNOWN, Tokenizer

# Characters that Unicode decomposes since version 12.1; the package tokenizers knows version 12.
_NEWER = (
    range(0x32FF, 0x3300),
    range(0xA7F1, 0xA7F5),
    range(0x10780, 0x107C0),
    range(0x11380, 0x113D0),
    range(0x11938, 0x11939),
    range(0x16120, 0x16130),
    range(0x16D60, 0x16D70),
    range(0x1CCD0, 0x1CD00),
    range(0x1F16C, 0x1F16D),
    range(0x1FBF0, 0x1FC00),
)


def tokenizer_files(tokenizer: Tokenizer, seq_len: int) -> dict[str, dict[str, Any]]:
    """tokenizer.json and tokenizer_config.json, by file name; a text gets a begin token."""
    pieces = tokenizer.pieces()
    named = {"unk_token": UNKNOWN, "bos_token": BOS, "eos_token": EOS}
    byte_fallback = any(piece.is_byte for piece in pieces)
    spaces = [_replace(SPACE, " ")] if tokenizer.has_spaces else []
    bytes_back = [{"type": "ByteFallback"}] if byte_fallback else []
    decoders = [*spaces, *bytes_back, {"type": "Fuse"}]
    normalizers = _folding() if tokenizer.ascii_only else []
    if tokenizer.has_spaces:
        normalizers = [*normalizers, _replace(" ", SPACE)]
    begin = pieces[BOS].text
    single = [
        {"SpecialToken": {"id": begin, "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]
    tokenizer_json = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_special(number, pieces[number].text) for number in named.values()],
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {begin: {"id": begin, "ids": [BOS], "tokens": [begin]}},
        },
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": pieces[UNKNOWN].text,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": byte_fallback,
            "ignore_merges": False,
            "vocab": {piece.text: number for number, piece in enumerate(pieces)},
            "merges": _merges(tokenizer),
        },
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": seq_len,
        "clean_up_tokenization_spaces": False,
        **{name: pieces[number].text for name, number in named.items()},
    }
    return {"tokenizer.json": tokenizer_json, "tokenizer_config.json": config}


def _folding() -> list[dict[str, Any]]:
    """Normalizers that do what `fold` does.

    Not StripAccents, which removes the marks of other scripts as well; `fold` writes `?` for them.
    """
    marks = _combining()
    newer = (chr(code) for codes in _NEWER for code in codes)
    return [
        *(_replace(mark, plain) for mark, plain in EQUIVALENTS.items()),
        *(_replace(c, fold(c)) for c in newer if fold(c) != "?"),
        {"type": "NFKD"},
        _replace_all(rf"\A[{marks}]+\z", "?"),
        _replace_all(f"[{marks}]", ""),
        _replace_all(r"[^\x{0}-\x{1E}\x{20}-\x{7F}]", "?"),
    ]


@cache
def _combining() -> str:
    """The characters with a combining class, as ranges of a regular expression."""
    codes = (code for code in range(sys.maxunicode + 1) if unicodedata.combining(chr(code)))
    # Consecutive codes have the same distance from their position.
    runs = (
        [code for _, code in run]
        for _, run in groupby(enumerate(codes), lambda item: item[1] - item[0])
    )
    return "".join(f"\\x{{{run[0]:X}}}-\\x{{{run[-1]:X}}}" for run in runs)


def _replace(text: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": text}, "content": content}


def _replace_all(expression: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": expression}, "content": content}


def _merges(tokenizer: Tokenizer) -> list[list[str]]:
    """Every way to join two pieces into a third, likeliest first.

    SentencePiece joins the two neighbours whose joint piece scores highest; a list of merges
    in falling order of that score does the same.
    """
    pieces = [piece for piece in tokenizer.pieces() if piece.is_text]
    score = {piece.text: piece.score for piece in pieces}
    merges = [
        (-score[text], text[:cut], text[cut:])
        for text in score
        for cut in range(1, len(text))
        if text[:cut] in score and text[cut:] in score
    ]
    return [[left, right] for _, left, right in sorted(merges, key=lambda merge: merge[0])]


def _special(number: int, text: str) -> dict[str, Any]:
    return {
        "id": number,
        "content": text,
        **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
        "special": True,
    }
