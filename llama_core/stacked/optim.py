"""AdamW and clipping of several models at once, each with settings of its own."""

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
        columns = []
        for member in going:
            cfg, rate = self._settings[member], rates[member]
            assert rate is not None
            self.steps[member] += 1
            # torch's fused AdamW, in its order of operations.
            correction1 = 1 - cfg.beta1 ** self.steps[member]
            correction2 = (1 - cfg.beta2 ** self.steps[member]) ** 0.5
            columns.append(
                (1 - rate * cfg.weight_decay, 1 - cfg.beta1, cfg.beta2, rate / correction1,
                 correction2, cfg.eps)
            )
        table = torch.tensor(columns, dtype=torch.float32).to(self._device).T.contiguous().unsqueeze(2)
        shrink, new1, keep2, size, correction2, eps = table.unbind()
        if len(going) == len(rates):
            rows = [weights, gradients, self.exp_avg, self.exp_avg_sq]
        else:
            rows = [part[going] for part in (weights, gradients, self.exp_avg, self.exp_avg_sq)]
        weight, gradient, first, second = rows
        weight[:, : self._decayed].mul_(shrink)
        first.lerp_(gradient, new1)
        second.mul_(keep2).addcmul_(gradient * (1 - keep2), gradient)
        weight.sub_(first / (second.sqrt().div_(correction2).add_(eps)) * size)
        if len(going) < len(rates):
            for whole, part in zip(
                (weights, self.exp_avg, self.exp_avg_sq), (weight, first, second), strict=True
            ):
                whole[going] = part


@torch.no_grad()
def clip(gradients: Tensor, limits: Tensor) -> Tensor:
    """Scale each model's gradient down to its limit; the norms before that, (count,)."""
    norms = torch.linalg.vector_norm(gradients, dim=1)
    gradients.mul_((limits / (norms + 1e-6)).clamp(max=1.0).unsqueeze(1))
    return norms
