"""Loss on the fixed validation set, of all its text and of each source's."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from llama_core.compiling import uncompiled
from llama_core.config import TrainConfig
from llama_core.corpus.batches import Batches
from llama_core.layers.loss import cross_entropy
from llama_core.parallel import Ranks
from llama_core.records import SourceLoss

# Validation rows go through the model in groups of about this many tokens per rank.
_EVAL_TOKENS = 8_192


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Losses on the validation set, as in `llama_core.records.EvalRecord`."""

    val_loss: float
    val_bpb: float | None
    sources: tuple[SourceLoss, ...]


@torch.no_grad()
@uncompiled()
def evaluate(module: nn.Module, batches: Batches, cfg: TrainConfig, ranks: Ranks) -> Evaluation:
    """Losses on the fixed validation set: nats per token, and bits per byte of its text if known.

    Both count the nats of begin and end tokens, which have no bytes: on short documents the bits
    per byte are above those of the text alone. Every rank must call this.
    """
    device = ranks.device
    rows = torch.from_numpy(batches.validation())
    nats = torch.zeros((), dtype=torch.float64, device=device)
    nats_of_row = torch.zeros(len(rows), dtype=torch.float64, device=device)
    size = ranks.count * max(1, _EVAL_TOKENS // cfg.seq_len)
    for group, of_row in zip(torch.split(rows, size), torch.split(nats_of_row, size), strict=True):
        own = ranks.share(group)
        # Every rank must call a sharded model equally often: one without rows repeats another's.
        part = (own if len(own) else group[:1]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=cfg.dtype == "bfloat16"):
            logits = module(part[:, :-1])
        if len(own):
            of_token, total = cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten())
            nats += total
            ranks.share(of_row).copy_(of_token.view(len(own), -1).sum(1, dtype=torch.float64))
    total_nats = float(ranks.summed(nats))
    bytes_of_row = batches.piece_bytes[rows[:, 1:].numpy()].sum(axis=1)
    tokens, text_bytes = rows[:, 1:].numel(), int(bytes_of_row.sum())
    sources: tuple[SourceLoss, ...] = ()
    if len(batches.sources) > 1:
        by_row = ranks.summed(nats_of_row).cpu().numpy()
        sources = _by_source(batches, cfg, by_row, bytes_of_row if text_bytes else None)
    bpb = _bits_per_byte(total_nats, tokens, text_bytes, batches.bytes_per_token)
    return Evaluation(total_nats / tokens, bpb, sources)


def _by_source(
    batches: Batches,
    cfg: TrainConfig,
    nats: NDArray[np.float64],
    text_bytes: NDArray[np.int64] | None,
) -> tuple[SourceLoss, ...]:
    """Losses of the sources from the nats of each row, and its bytes where the pieces tell."""
    of_row = batches.validation_sources()
    losses = []
    for number, source in enumerate(batches.sources):
        own = of_row == number
        tokens, total = int(own.sum()) * cfg.seq_len, float(nats[own].sum())
        size = 0 if text_bytes is None else int(text_bytes[own].sum())
        losses.append(
            SourceLoss(
                name=source.name,
                share=float(batches.shares[number]),
                val_tokens=tokens,
                loss=total / tokens if tokens else None,
                bpb=_bits_per_byte(total, tokens, size, source.bytes_per_token) if tokens else None,
            )
        )
    return tuple(losses)


def _bits_per_byte(
    nats: float, tokens: int, text_bytes: int, bytes_per_token: float | None
) -> float | None:
    """Bits per byte of the tokens' text, or by its mean bytes per token; None if both unknown."""
    if text_bytes:
        return nats / math.log(2) / text_bytes
    if bytes_per_token is not None:
        return nats / tokens / math.log(2) / bytes_per_token
    return None
