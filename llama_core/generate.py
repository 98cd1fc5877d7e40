"""Text from a trained model, one token at a time, with a key-value cache."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from llama_core.model import KvCache, Llama


@torch.inference_mode()
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
        stop: an id at which to end; it is not yielded.

    Raises:
        ValueError: an empty prompt, or a setting out of range.
    """
    if not prompt:
        raise ValueError("the prompt has no tokens; begin with the tokenizer's begin token.")
    if temperature < 0 or not 0 < top_p <= 1:
        raise ValueError(
            f"temperature={temperature} must be 0 or more, top_p={top_p} above 0 and at most 1."
        )
    weight = net.lm_head.weight
    cache = KvCache(net.config, 1, len(prompt) + max_new_tokens, weight)
    generator = torch.Generator(weight.device).manual_seed(seed)
    ids = torch.tensor([list(prompt)], device=weight.device)
    for _ in range(max_new_tokens):
        logits = net(ids, cache)[0, -1].float()
        chosen = int(_choose(logits, temperature, top_p, generator))
        if chosen == stop:
            return
        yield chosen
        ids = torch.tensor([[chosen]], device=weight.device)


def _choose(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> Tensor:
    if temperature == 0:
        return logits.argmax()
    probabilities, order = (logits / temperature).softmax(-1).sort(descending=True, stable=True)
    # A token is in if those before it have not yet reached top_p: the first always is.
    before = probabilities.cumsum(-1) - probabilities
    probabilities = probabilities.where(before < top_p, 0.0)
    return order[torch.multinomial(probabilities, 1, generator=generator)]
