"""AdamW with decay on matrices only."""

import inspect
from typing import Any

import torch
from torch import nn

from llama_core.config import AdamW


def adamw(model: nn.Module, cfg: AdamW) -> torch.optim.AdamW:
    """Fused AdamW over two groups: matrices decay, norms do not.

    Tied weights appear once. The caller sets `lr` of each group before every step.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {"params": [w for w in weights if w.ndim >= 2], "weight_decay": cfg.weight_decay},
        {"params": [w for w in weights if w.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = _AdamW(groups, lr=cfg.lr, betas=(cfg.beta1, cfg.beta2), eps=cfg.eps, fused=True)
    for weight in weights:
        # torch would create this state at the first step; a copy taken before needs it too.
        optimizer.state[weight] = {
            "step": torch.zeros((), dtype=torch.float32, device=weight.device),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }
    return optimizer


_add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
_step = inspect.unwrap(torch.optim.AdamW.step)


class _AdamW(torch.optim.AdamW):
    """torch's AdamW without the wrappers that exclude it from compilation.

    They import torch's whole compiler, which takes longer than a short training. A step that is
    not compiled does not need them.
    """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _add_param_group(self, param_group)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        _step(self)
