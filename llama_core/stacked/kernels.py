"""Norm and loss of several models at once, with derivatives that read memory less often."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def rms_norm(x: Tensor, scale: Tensor, eps: float) -> Tensor:
    """`llama_core.layers.kernels.rms_norm` with a scale for each model.

    Args:
        x: (k, ..., d).
        scale: (k, d).
    """
    shape = (scale.shape[0], *[1] * (x.ndim - 2), scale.shape[1])
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return F.rms_norm(x, (x.shape[-1],), eps=eps) * scale.view(shape)
    normed: Tensor = _RmsNorm.apply(x, scale.view(shape), eps)  # type: ignore[no-untyped-call]
    return normed


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of every token in nats, (n,), in fp32.

    Args:
        logits: (n, vocab), any type.
        targets: (n,).
    """
    nats: Tensor = _CrossEntropy.apply(logits, targets)  # type: ignore[no-untyped-call]
    return nats


class _RmsNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, eps: float) -> Tensor:
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
        along = (scaled * unit).sum(-1, keepdim=True).div_(unit.shape[-1])
        to_scale = (grad * unit).sum_to_size(scale.shape)
        return torch.addcmul(scaled, unit, along, value=-1.0).mul_(inverse), to_scale, None


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
