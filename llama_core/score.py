"""How likely a trained model finds given text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llama_core.model import Llama

# Rows of logits made at once: 1,024 of a vocabulary of 32,000 are 131 MB.
_LOGIT_ROWS = 1_024


@dataclass(frozen=True, slots=True)
class Score:
    """What a model makes of a continuation.

    Attributes:
        log_probability: of the whole continuation given its context, in nats.
        greedy: whether taking the likeliest token each time would have written it.
    """

    log_probability: float
    greedy: bool


@torch.inference_mode()
def score_continuations(
    net: Llama, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], *, batch_tokens: int
) -> Iterator[tuple[int, Score]]:
    """Score continuations of contexts, longest first, as batches are done.

    Pairs that read the same tokens go through the model once: choices of one token each after the
    same question, as most are in MMLU.

    Args:
        pairs: ids of a context and of what follows it, at least one of each.
        batch_tokens: tokens that go through the model at once, padding included; a longer text
            goes alone.

    Yields:
        the place of a pair in `pairs`, and its score; every pair once.

    Raises:
        ValueError: an empty context or continuation.
    """
    if not all(context and continuation for context, continuation in pairs):
        raise ValueError("a context or a continuation has no tokens; each needs at least one.")
    readers: dict[tuple[int, ...], list[int]] = {}
    for place, (context, continuation) in enumerate(pairs):
        readers.setdefault((*context, *continuation[:-1]), []).append(place)
    for texts in _batches(sorted(readers, key=len, reverse=True), batch_tokens):
        asked = [
            (row, place) for row, text in enumerate(texts) for place in readers[text]
        ]  # fmt: skip
        wanted = [list(pairs[place][1]) for _, place in asked]
        at = [
            (row, len(texts[row]) - len(ids) + i)
            for (row, _), ids in zip(asked, wanted, strict=True)
            for i in range(len(ids))
        ]
        logs, greedy = _score_tokens(net, texts, at, [i for ids in wanted for i in ids])
        sizes = [len(ids) for ids in wanted]
        parts = torch.split(logs, sizes), torch.split(greedy, sizes)
        for (_, place), log, hit in zip(asked, *parts, strict=True):
            yield place, Score(float(log.double().sum()), bool(hit.all()))


def _batches(
    texts: Sequence[tuple[int, ...]], batch_tokens: int
) -> Iterator[Sequence[tuple[int, ...]]]:
    start = 0
    while start < len(texts):
        # The first is the longest, so it says how many columns the batch has.
        rows = max(1, batch_tokens // len(texts[start]))
        yield texts[start : start + rows]
        start += rows


def _score_tokens(
    net: Llama,
    texts: Sequence[tuple[int, ...]],
    at: Sequence[tuple[int, int]],
    wanted: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Log-probability of each wanted id after place (row, column) of the texts, and if it leads."""
    device = net.lm_head.weight.device
    ids = torch.zeros(len(texts), len(texts[0]), dtype=torch.long)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
    rows, columns = torch.tensor(at, device=device).unbind(1)
    # What stands behind a text's end is seen by nothing before it.
    hidden = net.hidden(ids.to(device))[rows, columns]
    targets = torch.split(torch.tensor(wanted, device=device), _LOGIT_ROWS)
    logs, greedy = [], []
    for part, target in zip(torch.split(hidden, _LOGIT_ROWS), targets, strict=True):
        logits = net.lm_head(part).float()
        logs.append(logits.log_softmax(-1).gather(1, target[:, None])[:, 0].cpu())
        greedy.append((logits.argmax(-1) == target).cpu())
    return torch.cat(logs), torch.cat(greedy)
