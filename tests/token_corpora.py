"""Files of token ids, the tokenizers they may come with, and the corpora prepared of them."""

import json

import numpy as np

from llama_core.corpus.config import CorpusConfig, TokenFiles
from llama_core.corpus.preparation import prepare

END, VOCAB = 2, 300
DRAW = np.random.default_rng(0)
DOCUMENTS = [
    np.append(DRAW.integers(3, VOCAB, DRAW.integers(5, 90)), END).astype(np.int64)
    for _ in range(200)
]
STREAM = np.concatenate(DOCUMENTS)


def nanogpt(folder):
    STREAM.astype("<u2").tofile(folder / "train.bin")


def config(folder, vocab_size=VOCAB, **source):
    return CorpusConfig(
        sources=(TokenFiles(path=str(folder), **({"end": END} | source)),),
        vocab_size=vocab_size,
        val_fraction=0.2,
    )


def prepared(folder, **settings):
    return prepare(config(folder, **settings), folder.parent / "home", lambda doing: None)


def split_of(corpus):
    width = f"<u{corpus.manifest.token_bytes}"
    (entry,) = corpus.manifest.sources
    return [
        np.concatenate([np.fromfile(corpus.path / shard.file, width) for shard in part.shards])
        for part in (entry.train, entry.val)
    ]


def byte_level(path, size=VOCAB, decoder="ByteLevel", end="<|endoftext|>"):
    """A tokenizer.json: ids 3 to 258 are bytes, the others two of them; 0 to 2 are special."""
    letters = [chr(0x100 + number) for number in range(256)]
    vocabulary = {letter: number + 3 for number, letter in enumerate(letters)}
    vocabulary |= {f"{letters[n]}{letters[n + 1]}": 259 + n for n in range(size - 259)}
    special = {"<unk>": 0, "<s>": 1, end: 2}
    path.write_text(
        json.dumps({
            "version": "1.0",
            "added_tokens": [
                {"id": number, "content": content, "special": True, "single_word": False,
                 "lstrip": False, "rstrip": False, "normalized": False}
                for content, number in special.items()
            ],
            "decoder": {"type": decoder},
            "model": {"type": "BPE", "vocab": vocabulary | special, "merges": []},
        })
    )  # fmt: skip
    return str(path)
