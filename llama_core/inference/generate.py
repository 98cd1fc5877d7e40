"""Text from a trained model, one token at a time, with a key-value cache."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from llama_core.layers.attention import KvCache
from llama_core.model import Llama


def generate(
    net: Llama,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    stop: int | None = None,
) -> Iterator[int]:
    """Yield the ids that continue a prompt.

    Args:
        prompt: at least one id.
        temperature: 0 takes the likeliest token each time; else logits are divided by it.
        top_p: sample among the likeliest tokens that together have this probability.
        seed: of the sampling; the same seed gives the same text.
        stop: end before this id.

    Raises:
        ValueError: an empty prompt, or a setting out of range.
    """
    steps = generate_rows(
        net, [prompt], max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p,
        seed=seed,
    )  # fmt: skip
    for (chosen,) in steps:
        if chosen == stop:
            return
        yield chosen


@torch.inference_mode()
def generate_rows(
    net: Llama,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
) -> Iterator[list[int]]:
    """Yield, step by step, the next id of each of several texts.

    Prompts may differ in length. The caller stops when every text has ended. The arguments are
    those of `generate`. A row equals the same text generated alone, up to rounding.

    Raises:
        ValueError: an empty prompt, a setting out of range, or a text longer than the model's
            learned positions.
    """
    if not all(prompts):
        raise ValueError("a prompt has no tokens. Start it with the tokenizer's begin token.")
    if temperature < 0 or not 0 < top_p <= 1:
        raise ValueError(
            f"temperature={temperature} must be 0 or more, top_p={top_p} above 0 and at most 1."
        )
    weight = net.lm_head.weight
    longest = max(map(len, prompts))
    padding = [longest - len(prompt) for prompt in prompts]
    # Nothing continues the last token.
    room = longest + max_new_tokens - 1
    cache = KvCache(net.config, len(prompts), room, weight, padding)
    generator = torch.Generator(weight.device).manual_seed(seed)
    rows = [[0] * pad + list(prompt) for pad, prompt in zip(padding, prompts, strict=True)]
    ids = torch.tensor(rows, device=weight.device)
    for _ in range(max_new_tokens):
        logits = net.lm_head(net.hidden(ids, cache)[:, -1]).float()
        ids = _choose(logits, temperature, top_p, generator)
        yield ids[:, 0].tolist()


def _choose(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> Tensor:
    """One id a row, (b, 1), from logits (b, vocab)."""
    if temperature == 0:
        return logits.argmax(-1, keepdim=True)
    probabilities, order = (logits / temperature).softmax(-1).sort(descending=True, stable=True)
    # A token is kept while those before it sum to less than top_p: the first always is.
    before = probabilities.cumsum(-1) - probabilities
    probabilities = probabilities.where(before < top_p, 0.0)
    return order.gather(-1, torch.multinomial(probabilities, 1, generator=generator))
