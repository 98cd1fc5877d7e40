"""A SentencePiece BPE model as the files a fast Hugging Face tokenizer reads."""

from typing import Any

from llama_core.corpus.tokenizer import BOS, EOS, UNKNOWN, Tokenizer

_SPACE = "\u2581"


def tokenizer_files(tokenizer: Tokenizer, seq_len: int) -> dict[str, dict[str, Any]]:
    """tokenizer.json and tokenizer_config.json, by file name; a text gets a begin token."""
    pieces = tokenizer.pieces()
    named = {"unk_token": UNKNOWN, "bos_token": BOS, "eos_token": EOS}
    byte_fallback = any(piece.is_byte for piece in pieces)
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
        {"type": "Fuse"},
    ]
    if byte_fallback:
        decoders.insert(1, {"type": "ByteFallback"})
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
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE},
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
