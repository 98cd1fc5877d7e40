"""AdamW with decay on matrices only."""

import torch
from torch import nn

from llama_core.config import AdamW


def adamw(model: nn.Module, cfg: AdamW) -> torch.optim.AdamW:
    """Fused AdamW over two groups: matrices decay, norms do not.

    Tied weights appear once. The learning rate stands in each group as `lr` and is the
    caller's to set before every step.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {"params": [w for w in weights if w.ndim >= 2], "weight_decay": cfg.weight_decay},
        {"params": [w for w in weights if w.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        groups, lr=cfg.lr, betas=(cfg.beta1, cfg.beta2), eps=cfg.eps, fused=True
    )
    for weight in weights:
        # As torch would at the first step; made now so that a copy taken before it is whole.
        optimizer.state[weight] = {
            "step": torch.zeros((), dtype=torch.float32, device=weight.device),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }
    return optimizer
