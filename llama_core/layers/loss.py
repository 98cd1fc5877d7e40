"""The output layer's loss, with derivatives that read logits less often than autograd's."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

# Logits whose softmax is in memory in fp32 at once: 16 MiB, and 256 on a GPU, where a few large
# operations are faster than many.
_CPU_WIDE, _GPU_WIDE = 2**22, 2**26
# Logits that a compiled loss reads again while they are in a core's cache, 1 MiB; but no fewer rows
# than a fast product has, nor more parts than a graph should.
_CACHED, _FEWEST_ROWS, _MOST_PARTS = 2**18, 256, 8


def cross_entropy_sum(
    logits: Tensor, targets: Tensor, factor: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Cross-entropy in nats, summed, in fp32, as `F.cross_entropy` of the logits in fp32.

    Args:
        logits: (n, vocab), any type.
        targets: (n,).
        factor: of the first result and its gradient.

    Returns:
        the sum times the factor, and the sum itself, which has no gradient.
    """
    both: tuple[Tensor, Tensor] = _CrossEntropySum.apply(  # type: ignore[no-untyped-call]
        logits, targets, factor
    )
    return both


def fused_output_loss(
    x: Tensor, weight: Tensor, targets: Tensor, z_loss: Tensor | None, factor: Tensor
) -> tuple[Tensor, Tensor]:
    """The output layer's product, `cross_entropy_sum` of it and a z-loss, for a compiler.

    Both gradients are made with the loss, of some rows at a time in fp32, whose logits stay in the
    cache. In bf16 all rows are one part: a sum of parts would round each.

    Args:
        x: (n, d).
        weight: (vocab, d), of x's type.
        targets: (n,).
        z_loss: (), weight of the squared log-normaliser (Chowdhery et al. 2022, section 5).
        factor: (), of the first result and its gradient.

    Returns:
        the objective times the factor, and the cross-entropy in nats, summed, without a gradient.
    """
    both: tuple[Tensor, Tensor] = _FusedOutputLoss.apply(  # type: ignore[no-untyped-call]
        x, weight, targets, z_loss, factor
    )
    return both


def cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each token in nats (n,), and `cross_entropy_sum` to the bit; no gradient.

    Args:
        logits: (n, vocab), any type.
        targets: (n,).
    """
    rows = _rows_at_once(logits)
    parts = zip(torch.split(logits, rows), torch.split(targets.unsqueeze(1), rows), strict=True)
    nats = [_nats_and_softmax(*part)[0] for part in parts]
    sums = [part.sum() for part in nats]
    return torch.cat(nats).squeeze(1), sums[0] if len(sums) == 1 else torch.stack(sums).sum()


class _CrossEntropySum(Function):
    # Autograd keeps log-probabilities, fills a gradient with zeros and passes over both again:
    # a fifth of a tiny model's step on a CPU. The gradient is the softmax, minus one at the target.
    # Made in parts, no softmax of all logits is ever in memory in fp32 beside bf16 logits.
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, factor: float) -> tuple[Tensor, Tensor]:
        rows = _rows_at_once(logits)
        targets = targets.unsqueeze(1)
        if len(logits) <= rows:
            nats, gradient = _nats_and_gradient(logits, targets)
        else:
            gradient, parts = torch.empty_like(logits), []
            for first in range(0, len(logits), rows):
                part = slice(first, first + rows)
                of_part, gradient[part] = _nats_and_gradient(logits[part], targets[part])
                parts.append(of_part)
            nats = torch.stack(parts).sum()
        ctx.save_for_backward(gradient)
        ctx.factor = factor
        ctx.mark_non_differentiable(nats)
        return nats * factor, nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient.mul_(grad * ctx.factor), None, None


class _FusedOutputLoss(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        targets: Tensor,
        z_loss: Tensor | None,
        factor: Tensor,
    ) -> tuple[Tensor, Tensor]:
        rows = len(x)
        if x.dtype == torch.float32:
            rows = max(_CACHED // len(weight), _FEWEST_ROWS, -(-rows // _MOST_PARTS))
        targets = targets.unsqueeze(1)
        sums, to_x, to_weight = [], [], None
        for first in range(0, len(x), rows):
            part = x[first : first + rows]
            logits = part @ weight.mT
            *both, gradient = _fused_losses(logits, targets[first : first + rows], z_loss, factor)
            sums.append(torch.stack(both))
            to_x.append(gradient @ weight)
            of_part = gradient.mT @ part
            to_weight = of_part if to_weight is None else to_weight + of_part
        objective, nats = torch.stack(sums).sum(0)
        ctx.save_for_backward(torch.cat(to_x), to_weight)
        ctx.mark_non_differentiable(nats)
        return objective * factor, nats

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        to_x, to_weight = ctx.saved_tensors
        return to_x * grad, to_weight * grad, None, None, None


def _rows_at_once(logits: Tensor) -> int:
    """How many rows of logits may have their softmax in memory together."""
    wide = _CPU_WIDE if logits.device.type == "cpu" else _GPU_WIDE
    return max(1, wide // logits.shape[1])


def _nats_and_gradient(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    nats, gradient = _nats_and_softmax(logits, targets)
    gradient.scatter_add_(1, targets, torch.full_like(nats, -1.0))
    return nats.sum(), gradient.to(logits.dtype)


def _fused_losses(
    logits: Tensor, targets: Tensor, z_loss: Tensor | None, factor: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Objective and nats, summed, and the objective's gradient times a factor.

    Written so that a compiler reads each row of logits once.
    """
    wide = logits.float()
    largest = wide.amax(-1, keepdim=True)
    exps = (wide - largest).exp()
    total = exps.sum(-1, keepdim=True)
    normaliser, of_target = largest + total.log(), wide.gather(1, targets)
    nats = (normaliser - of_target).sum()
    objective, slope = nats, factor
    if z_loss is not None:
        objective = nats + z_loss * normaliser.square().sum()
        slope = factor + 2 * z_loss * factor * normaliser
    share = total.reciprocal() * slope
    # To compare each place of a row with the target takes longer than to write there once more.
    at_target = (of_target - largest).exp() * share - factor
    gradient = (exps * share).to(logits.dtype)
    return objective, nats, gradient.scatter(1, targets, at_target.to(logits.dtype))


def _nats_and_softmax(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each token (n, 1), and the softmax (n, vocab), both in fp32."""
    # Softmax on a CPU makes this copy anyway, and `amax` is slow in bf16.
    wide = logits.float() if logits.device.type == "cpu" else logits
    softmax = torch.softmax(wide, dim=-1, dtype=torch.float32)
    # The normaliser follows from each row's largest entry; the target's may underflow to 0.
    normaliser = wide.amax(-1, keepdim=True).float() - softmax.amax(-1, keepdim=True).log()
    return normaliser - wide.gather(1, targets).float(), softmax
