"""Cross-entropy with its derivative made going forward: fewer passes over the largest tensor."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def cross_entropy_sum(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats, summed, in fp32, as `F.cross_entropy` of the logits in fp32.

    Args:
        logits: (n, vocab), any type.
        targets: (n,).
    """
    nats: Tensor = _CrossEntropySum.apply(logits, targets)  # type: ignore[no-untyped-call]
    return nats


class _CrossEntropySum(Function):
    # Autograd's own keeps log-probabilities, fills a gradient with zeros and passes over both
    # again: a fifth of the step of a tiny model on a CPU. The gradient is the softmax, less one
    # at the target.
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        gradient = torch.softmax(logits, dim=-1, dtype=torch.float32)
        at_target = targets.unsqueeze(1)
        # The normaliser through each row's largest entry, since the target's may have vanished.
        normaliser = logits.amax(-1, keepdim=True).float() - gradient.amax(-1, keepdim=True).log()
        nats = (normaliser - logits.gather(1, at_target).float()).sum()
        gradient.scatter_add_(1, at_target, torch.full_like(normaliser, -1.0))
        ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient.mul_(grad).to(ctx.dtype), None
