"""How many rows of each model's batch go through a stack at once."""

import math
from collections.abc import Sequence

import torch

from llama_core.config import ModelConfig, Placement, TrainConfig
from llama_core.machine import attention_backend
from llama_core.memory import MEMORY_SHARE, rows_that_fit

# What a part of a batch costs beside its rows, in rows: about what small models on a CPU have.
_PART_ROWS = 1
# Tokens of all models together.
_CPU_TOKENS = 8_192


def rows_at_once(batches: Sequence[int], most: int) -> int:
    """Rows of each batch that are computed at once, up to `most`.

    All models compute equally many; a batch whose last part has fewer is filled up. The parts are
    as long as makes them cheapest, each at its rows and one more: batches of 2, 4 and 9 rows are
    cut into parts of 2.

    Args:
        batches: rows of each model's batch.
    """

    def cost(rows: int) -> float:
        return sum(math.ceil(batch / rows) * (rows + _PART_ROWS) / batch for batch in batches)

    return min(range(1, min(most, *batches) + 1), key=cost)


def most_rows(
    model: ModelConfig, cfg: TrainConfig, placement: Placement, device: torch.device, count: int
) -> int:
    """Rows of each of `count` models that fit together."""
    rows = cfg.batch_tokens // cfg.seq_len
    if placement.micro_batch_rows is not None:
        return placement.micro_batch_rows
    if device.type == "cpu":
        return max(1, _CPU_TOKENS // cfg.seq_len // count)
    eager = attention_backend(placement, device, cfg.seq_len) == "eager"
    free, _ = torch.cuda.mem_get_info(device)
    budget = free * MEMORY_SHARE / count
    return rows_that_fit(model, cfg, placement, rows=rows, eager=eager, budget=budget)
