"""Small models, recipes and in-memory tokens for the tests of the core."""

import random
from collections.abc import Sequence
from itertools import islice

import numpy as np

from llama_core.config import AdamW, Cosine, ModelConfig, TrainConfig, Wsd
from llama_core.corpus.batches import Batches, TokenSource
from llama_core.corpus.cleaning import Parts, is_leaked, normalise, passages, places
from llama_core.corpus.left_out import LeftOut
from llama_core.corpus.steps.repeats import occurred_before

SEQ_LEN = 16
BATCH_TOKENS = 64
SENTENCE = (
    "loss falls while tokens rise and a small model reads every page of the old book again under "
    "seven lamps beside quiet water where nobody counts flops or parameters"
)
WORDS = SENTENCE.split()


def tiny(**changes) -> ModelConfig:
    """A model of a few thousand parameters with grouped queries and QK-norm."""
    shape = {
        "vocab_size": 32,
        "d_model": 16,
        "n_layers": 2,
        "n_heads": 2,
        "n_kv_heads": 1,
        "head_dim": 8,
        "d_ffn": 24,
        "qk_norm": True,
    }
    return ModelConfig(**(shape | changes))


def recipe(*horizon_steps: int, cosine: bool = False, **changes) -> TrainConfig:
    """A WSD recipe with one horizon for each number of steps, or a cosine to the last."""
    horizons = tuple(BATCH_TOKENS * steps for steps in horizon_steps)
    schedule = Cosine(tokens=horizons[-1]) if cosine else Wsd(horizons=horizons)
    settings = {
        "seq_len": SEQ_LEN,
        "batch_tokens": BATCH_TOKENS,
        "warmup_tokens": 2 * BATCH_TOKENS,
        "schedule": schedule,
        "optimizer": AdamW(lr=0.01),
        "eval_tokens": 8 * SEQ_LEN,
    }
    return TrainConfig(**(settings | changes))


def tokens(count: int, *, vocab_size: int = 32, seed: int = 0) -> np.ndarray:
    """A token stream with something to learn: each id mostly follows from the one before."""
    draws = np.random.default_rng(seed)
    ids = np.zeros(count, np.uint16)
    noise = draws.integers(0, vocab_size, count)
    surprise = draws.random(count) < 0.3
    for i in range(1, count):
        ids[i] = noise[i] if surprise[i] else (3 * int(ids[i - 1]) + 1) % vocab_size
    return ids


def batches(cfg: TrainConfig, *, vocab_size: int = 32, count: int = 20_000) -> Batches:
    """Batches over in-memory tokens for a recipe."""
    return Batches(
        sources=[
            TokenSource(
                "made",
                [tokens(count, vocab_size=vocab_size)],
                validation=[tokens(2_000, vocab_size=vocab_size, seed=1)],
            )
        ],
        piece_bytes=np.full(vocab_size, 2, np.int64),
        seq_len=cfg.seq_len,
        batch_tokens=cfg.batch_tokens,
        seed=cfg.seed,
        eval_tokens=cfg.eval_tokens,
    )


def without_repeats(
    texts: Sequence[str], *, short_is_new: bool = True
) -> tuple[list[str], LeftOut]:
    """Texts in ASCII without what repeats in them, and the counts."""
    counts = LeftOut(source="made")
    parts = [Parts.of(text) for raw in texts if (text := normalise(raw, ascii_only=True))]
    keys = np.frombuffer(b"".join(each.keys() for each in parts), "<u8").reshape(-1, 2)
    marks = iter(occurred_before(keys).tolist())
    kept = [
        each.without_repeats(list(islice(marks, each.count())), counts, short_is_new=short_is_new)
        for each in parts
    ]
    return [text for text in kept if text is not None], counts


def leaked(validation: str, training: str) -> bool:
    """Whether a text counts as a near duplicate of training text."""
    held_out = passages(validation)
    marks = np.zeros(len(held_out), bool)
    marks[places(passages(training), held_out)] = True
    return is_leaked(validation, held_out, marks)


def story(seed: int, sentences: int = 60) -> str:
    """Made-up prose, one sentence a paragraph; different seeds share hardly a passage."""
    draw = random.Random(seed)
    return "\n\n".join(
        " ".join(draw.choices(WORDS, k=20)).capitalize() + f" {draw.randrange(1000)}."
        for _ in range(sentences)
    )
