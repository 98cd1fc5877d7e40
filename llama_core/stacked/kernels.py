"""The loss of each token, with a derivative that reads memory less often than autograd's."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of every token in nats, (n,), in fp32.

    Args:
        logits: (n, vocab), any type.
        targets: (n,).
    """
    nats: Tensor = _CrossEntropy.apply(logits, targets)  # type: ignore[no-untyped-call]
    return nats


class _CrossEntropy(Function):
    # As `llama_core.layers.kernels`, but not summed: tokens of different models have weights.
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        wide = logits.float() if logits.device.type == "cpu" else logits
        gradient = torch.softmax(wide, dim=-1, dtype=torch.float32)
        at_target = targets.unsqueeze(1)
        normaliser = wide.amax(-1, keepdim=True).float() - gradient.amax(-1, keepdim=True).log()
        nats = (normaliser - wide.gather(1, at_target).float()).squeeze(1)
        gradient.scatter_add_(1, at_target, torch.full_like(normaliser, -1.0))
        ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient.mul_(grad.unsqueeze(1)).to(ctx.dtype), None
