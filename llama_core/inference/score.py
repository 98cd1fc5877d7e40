"""The probability a trained model gives to text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llama_core.model import Llama

# Rows of logits made at once: 1,024 of a vocabulary of 32,000 are 131 MB.
_LOGIT_ROWS = 1_024


@dataclass(frozen=True, slots=True)
class Score:
    """A model's score of a continuation.

    Attributes:
        log_probability: of the whole continuation given its context, in nats.
        greedy: whether the continuation has the likeliest token at every place.
    """

    log_probability: float
    greedy: bool


@torch.inference_mode()
def score_continuations(
    net: Llama, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], *, batch_tokens: int
) -> Iterator[tuple[int, Score]]:
    """Score continuations of contexts, batch by batch, longest first.

    Pairs with the same input go through the model once, such as one-token answers to the same
    question, which most of MMLU's are.

    Args:
        pairs: ids of a context and of its continuation, at least one of each.
        batch_tokens: tokens that go through the model at once, padding included; a longer text
            goes alone.

    Yields:
        the index of a pair in `pairs`, and its score; every pair once.

    Raises:
        ValueError: an empty context or continuation.
    """
    if not all(context and continuation for context, continuation in pairs):
        raise ValueError("a context or a continuation has no tokens; each needs at least one.")
    indices: dict[tuple[int, ...], list[int]] = {}
    for index, (context, continuation) in enumerate(pairs):
        indices.setdefault((*context, *continuation[:-1]), []).append(index)
    for texts in _batches(sorted(indices, key=len, reverse=True), batch_tokens):
        scored = [(row, index) for row, text in enumerate(texts) for index in indices[text]]
        targets = [list(pairs[index][1]) for _, index in scored]
        places = [
            (row, len(texts[row]) - len(ids) + i)
            for (row, _), ids in zip(scored, targets, strict=True)
            for i in range(len(ids))
        ]
        logs, greedy = _score_tokens(net, texts, places, [i for ids in targets for i in ids])
        sizes = [len(ids) for ids in targets]
        parts = torch.split(logs, sizes), torch.split(greedy, sizes)
        for (_, index), log, hit in zip(scored, *parts, strict=True):
            yield index, Score(float(log.double().sum()), bool(hit.all()))


def _batches(
    texts: Sequence[tuple[int, ...]], batch_tokens: int
) -> Iterator[Sequence[tuple[int, ...]]]:
    start = 0
    while start < len(texts):
        # The first text is the longest, so it sets the number of columns.
        rows = max(1, batch_tokens // len(texts[start]))
        yield texts[start : start + rows]
        start += rows


def _score_tokens(
    net: Llama,
    texts: Sequence[tuple[int, ...]],
    places: Sequence[tuple[int, int]],
    targets: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target after its place (row, column), and if it is the likeliest."""
    device = net.lm_head.weight.device
    ids = torch.zeros(len(texts), len(texts[0]), dtype=torch.long)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
    rows, columns = torch.tensor(places, device=device).unbind(1)
    # Attention is causal, so no token of a text sees the padding behind it.
    hidden = net.hidden(ids.to(device))[rows, columns]
    chunks = torch.split(torch.tensor(targets, device=device), _LOGIT_ROWS)
    logs, greedy = [], []
    for part, target in zip(torch.split(hidden, _LOGIT_ROWS), chunks, strict=True):
        logits = net.lm_head(part).float()
        logs.append(logits.log_softmax(-1).gather(1, target[:, None])[:, 0].cpu())
        greedy.append((logits.argmax(-1) == target).cpu())
    return torch.cat(logs), torch.cat(greedy)
