"""Two hand-written derivatives that read memory less often than autograd's."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def rms_norm(x: Tensor, scale: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps) · scale (Zhang and Sennrich 2019, arXiv:1910.07467, equation 4).

    `F.rms_norm`, except on a CPU in fp32: there torch has no kernel, differentiates seven small
    operations one by one, and takes twice as long.

    Args:
        x: (..., d).
        scale: (d,).
    """
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.compiler.is_compiling():
        return F.rms_norm(x, scale.shape, scale, eps)
    normed: Tensor = _RmsNorm.apply(x, scale, eps)  # type: ignore[no-untyped-call]
    return normed


def cross_entropy_sum(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats, summed, in fp32, as `F.cross_entropy` of the logits in fp32.

    Args:
        logits: (n, vocab), any type.
        targets: (n,).
    """
    nats: Tensor = _CrossEntropySum.apply(logits, targets)  # type: ignore[no-untyped-call]
    return nats


class _RmsNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, eps: float) -> Tensor:
        # The norm writes no squares to memory; a mean of squares would.
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        unit = x * inverse
        ctx.save_for_backward(unit, inverse, scale)
        scaled: Tensor = unit * scale
        return scaled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, inverse, scale = ctx.saved_tensors
        scaled = grad * scale
        # Scaling x does not change the output, so the gradient has no part along x.
        along = (scaled * unit).sum(-1, keepdim=True).div_(unit.shape[-1])
        to_scale = (grad * unit).flatten(0, -2).sum(0)
        return torch.addcmul(scaled, unit, along, value=-1.0).mul_(inverse), to_scale, None


class _CrossEntropySum(Function):
    # Autograd keeps log-probabilities, fills a gradient with zeros and passes over both again:
    # a fifth of a tiny model's step on a CPU. The gradient is the softmax, minus one at the target.
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        # Softmax on a CPU makes this copy anyway, and `amax` is slow in bf16.
        wide = logits.float() if logits.device.type == "cpu" else logits
        gradient = torch.softmax(wide, dim=-1, dtype=torch.float32)
        at_target = targets.unsqueeze(1)
        # The normaliser follows from each row's largest entry; the target's may underflow to 0.
        normaliser = wide.amax(-1, keepdim=True).float() - gradient.amax(-1, keepdim=True).log()
        nats = (normaliser - wide.gather(1, at_target).float()).sum()
        gradient.scatter_add_(1, at_target, torch.full_like(normaliser, -1.0))
        ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient.mul_(grad).to(ctx.dtype), None
