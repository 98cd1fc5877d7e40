"""AdamW and clipping of several models at once, each with settings of its own."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from llama_core.config import AdamW


class StackedAdamW:
    """`llama_core.optim.adamw` of several models: rows of numbers, of which the first decay.

    Attributes:
        exp_avg, exp_avg_sq: the moments, (count, size).
        steps: steps taken by each model, (count,).
    """

    def __init__(self, settings: Sequence[AdamW], weights: Tensor, decayed: int) -> None:
        """Args:
        weights: (count, size).
        decayed: how many of the first numbers of each row decay.
        """
        self._device, self._decayed = weights.device, decayed
        self.exp_avg, self.exp_avg_sq = torch.zeros_like(weights), torch.zeros_like(weights)
        self.steps = [0] * len(settings)
        self._settings = list(settings)

    def keep(self, members: Sequence[int]) -> None:
        """Keep these models' state and forget the others'."""
        self.exp_avg, self.exp_avg_sq = self.exp_avg[members], self.exp_avg_sq[members]
        self.steps = [self.steps[member] for member in members]
        self._settings = [self._settings[member] for member in members]

    @torch.no_grad()
    def step(self, weights: Tensor, gradients: Tensor, rates: Sequence[float | None]) -> None:
        """One step of every model that has a learning rate; others stay as they are.

        Args:
            rates: this step's rate of each model; None for a model that takes no step.
        """
        going = [member for member, rate in enumerate(rates) if rate is not None]
        columns = [
            self._factors(member, rate) for member, rate in enumerate(rates) if rate is not None
        ]
        table = torch.tensor(columns, dtype=torch.float32).to(self._device).mT.unsqueeze(2)
        shrink, new1, keep2, size, correction2, eps = table.unbind()
        whole = (weights, gradients, self.exp_avg, self.exp_avg_sq)
        every = len(going) == len(rates)
        weight, gradient, first, second = whole if every else (part[going] for part in whole)
        weight[:, : self._decayed].mul_(shrink)
        first.lerp_(gradient, new1)
        second.mul_(keep2).addcmul_(gradient * (1 - keep2), gradient)
        weight.sub_(first / (second.sqrt().div_(correction2).add_(eps)) * size)
        if not every:
            weights[going], self.exp_avg[going], self.exp_avg_sq[going] = weight, first, second

    def _factors(self, member: int, rate: float) -> tuple[float, ...]:
        """The numbers of a model's next step, as torch's fused AdamW has them."""
        cfg = self._settings[member]
        self.steps[member] += 1
        correction1 = 1 - cfg.beta1 ** self.steps[member]
        correction2 = math.sqrt(1 - cfg.beta2 ** self.steps[member])
        shrink, size = 1 - rate * cfg.weight_decay, rate / correction1
        return shrink, 1 - cfg.beta1, cfg.beta2, size, correction2, cfg.eps


@torch.no_grad()
def clip(gradients: Tensor, limits: Tensor) -> Tensor:
    """Scale each model's gradient down to its limit; the norms before that, (count,)."""
    norms: Tensor = torch.linalg.vector_norm(gradients, dim=1)
    gradients.mul_((limits / (norms + 1e-6)).clamp(max=1.0).unsqueeze(1))
    return norms
