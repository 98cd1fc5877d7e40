"""Hand-written derivatives that read memory less often than autograd's."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

# Logits whose softmax is in memory in fp32 at once: 16 MiB, and 256 on a GPU, where a few large
# operations are faster than many.
_CPU_WIDE, _GPU_WIDE = 2**22, 2**26
# Logits that a compiled loss reads again while they are in a core's cache, 1 MiB; but no fewer rows
# than a fast product has, nor more parts than a graph should.
_CACHED, _FEWEST_ROWS, _MOST_PARTS = 2**18, 256, 8


def rms_norm(x: Tensor, scale: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps) · scale (Zhang and Sennrich 2019, arXiv:1910.07467, equation 4).

    `F.rms_norm`, except on a CPU: there torch has no kernel, differentiates seven small operations
    one by one, and takes twice as long.

    Args:
        x: (..., d).
        scale: (d,), or (n, d) for n vectors with scales of their own, or with as many dimensions
            as x, of length 1 where it is repeated.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        if scale.ndim == 1:
            return F.rms_norm(x, scale.shape, scale, eps)
        return (F.rms_norm(x, scale.shape[-1:], eps=eps) * scale).to(x.dtype)
    normed: Tensor = _RmsNorm.apply(x, scale, eps)  # type: ignore[no-untyped-call]
    return normed


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
    x: Tensor, weight: Tensor, targets: Tensor, z_loss: float, factor: float
) -> tuple[Tensor, Tensor]:
    """The output layer's product, `cross_entropy_sum` of it and a z-loss, for a compiler.

    Both gradients are made with the loss, of some rows at a time in fp32, whose logits stay in the
    cache. In bf16 all rows are one part: a sum of parts would round each.

    Args:
        x: (n, d).
        weight: (vocab, d), of x's type.
        targets: (n,).
        z_loss: weight of the squared log-normaliser (Chowdhery et al. 2022, section 5).
        factor: of the first result and its gradient.

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


def causal_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cos: Tensor | None,
    sin: Tensor | None,
    masks: tuple[Tensor, ...],
) -> Tensor:
    """`eager_attention` of `llama_core.layers.attention`, whose arguments these are.

    Heads are laid out as batched matmuls read them before they are rotated, which halves the time
    of rotating; and a derivative of a block of keys is added in place.

    Args:
        masks: additive, one for each block of queries in order, (n_heads / n_kv_heads · block, end
            of the block).
    """
    # Autocast would copy scores to fp32 and back. Softmax of bf16 scores sums in fp32 anyway
    # and rounds once, as the copy back would.
    with torch.autocast(q.device.type, enabled=False):
        mixed: Tensor = _CausalAttention.apply(  # type: ignore[no-untyped-call]
            q, k, v, cos, sin, masks
        )
    return mixed


def fused_causal_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cos: Tensor | None,
    sin: Tensor | None,
    blocks: tuple[tuple[int, int], ...],
) -> Tensor:
    """`causal_attention` for a compiler.

    What it makes of autograd's derivatives transposes those of keys one number at a time.

    Args:
        blocks: first and last query of each block.
    """
    with torch.autocast(q.device.type, enabled=False):
        mixed: Tensor = _FusedCausalAttention.apply(  # type: ignore[no-untyped-call]
            q, k, v, cos, sin, blocks
        )
    return mixed


class _FusedCausalAttention(Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cos: Tensor | None,
        sin: Tensor | None,
        blocks: tuple[tuple[int, int], ...],
    ) -> Tensor:
        keys, values = _rotated(k, cos, sin, 1).flatten(0, 1), v.flatten(0, 1)
        queries = _rotated(q, cos, sin, 1).reshape(len(keys), -1, *keys.shape[1:])
        weights, mixed = [], []
        for first, end in blocks:
            block = queries[:, :, first:end]
            mask = causal_mask(first, end, queries.shape[1], q.dtype, q.device)
            scale = keys.shape[2] ** -0.5
            scores = torch.baddbmm(mask, block.flatten(1, 2), keys[:, :end].mT, alpha=scale)
            weights.append(scores.softmax(-1))
            part = torch.bmm(weights[-1], values[:, :end])
            mixed.append(part.view(*q.shape[:2], end - first, -1).transpose(1, 2))
        ctx.save_for_backward(queries, keys, values, cos, sin, *weights)
        ctx.blocks = blocks
        # In the order in which the output projection reads it.
        return torch.cat(mixed, dim=1).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        queries, keys, values, cos, sin, *weights = ctx.saved_tensors
        to_mixed = grad.reshape(queries.shape)
        to_queries, to_keys, to_values = [], [], []
        for (first, end), weight in zip(ctx.blocks, weights, strict=True):
            block, to_block = (x[:, :, first:end].flatten(1, 2) for x in (queries, to_mixed))
            part = weight.float() * torch.bmm(to_block, values[:, :end].mT)
            to_scores = part - weight.float() * part.sum(-1, keepdim=True)
            to_scores = (to_scores * keys.shape[2] ** -0.5).to(grad.dtype)
            to_part = torch.bmm(to_scores, keys[:, :end])
            to_queries.append(to_part.unflatten(1, (-1, end - first)))  # type: ignore[no-untyped-call]
            to_keys.append(torch.bmm(to_scores.mT, block))
            to_values.append(torch.bmm(weight.mT, to_block))
        shape = (grad.shape[0], -1, *keys.shape[1:])
        return (
            _rotated(torch.cat(to_queries, dim=2).view(grad.shape), cos, sin, -1),
            _rotated(_over_blocks(to_keys, ctx.blocks).view(shape), cos, sin, -1),
            _over_blocks(to_values, ctx.blocks).view(shape),
            None,
            None,
            None,
        )


def _rotated(x: Tensor, cos: Tensor | None, sin: Tensor | None, direction: int) -> Tensor:
    """x rotated forwards or backwards by the tables of `Rope` if there are any."""
    if cos is None or sin is None:
        return x
    first, second = x.chunk(2, dim=-1)
    # The tables' second halves have the cosines and sines themselves.
    cos, sin = (table.chunk(2, dim=-1)[1].to(x.dtype) for table in (cos, sin))
    sin = sin * direction
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def causal_mask(
    first: int, end: int, group: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """0 at the keys that queries `first` to `end` may see, else -inf; repeated `group` times."""
    mask = torch.full((end - first, end), -torch.inf, dtype=dtype, device=device)
    return mask.triu(first + 1).repeat(group, 1)


def _over_blocks(parts: list[Tensor], blocks: tuple[tuple[int, int], ...]) -> Tensor:
    """The sum of parts that reach from the first key to the end of a block each."""
    sums = []
    for number, (first, end) in enumerate(blocks):
        total = parts[number][:, first:end]
        for later in parts[number + 1 :]:
            total = total + later[:, first:end]
        sums.append(total)
    return torch.cat(sums, dim=1)


class _CausalAttention(Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cos: Tensor | None,
        sin: Tensor | None,
        masks: tuple[Tensor, ...],
    ) -> Tensor:
        ctx.tables = None
        if cos is not None and sin is not None:
            ctx.tables = cos.to(q.dtype), sin.to(q.dtype)
        queries, keys = _turned(q, ctx.tables, 1), _turned(k, ctx.tables, 1).flatten(0, 1)
        values = v.contiguous().flatten(0, 1)
        queries = queries.view(len(keys), -1, *keys.shape[1:])
        weights, mixed, first = [], [], 0
        for mask in masks:
            end = mask.shape[1]
            block = queries[:, :, first:end]
            scores = torch.baddbmm(
                mask, block.flatten(1, 2), keys[:, :end].mT, alpha=keys.shape[2] ** -0.5
            )
            weights.append(scores.softmax(-1))
            mixed.append(torch.bmm(weights[-1], values[:, :end]).view(block.shape))
            first = end
        ctx.save_for_backward(queries, keys, values, *weights)
        return (torch.cat(mixed, dim=2) if len(mixed) > 1 else mixed[0]).view(q.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        queries, keys, values, *weights = ctx.saved_tensors
        to_mixed = grad.contiguous().view(queries.shape)
        to_queries = torch.empty_like(queries)
        to_keys, to_values = torch.empty_like(keys), torch.empty_like(values)
        scale, unused = keys.shape[2] ** -0.5, keys.new_zeros(1)
        end = keys.shape[1]
        # The last block sees all keys, so it comes first and the others add to it.
        for weight in reversed(weights):
            first = end - weight.shape[1] // queries.shape[1]
            block, to_block = queries[:, :, first:end].flatten(1, 2), to_mixed[:, :, first:end]
            to_block = to_block.flatten(1, 2)
            to_scores = torch._softmax_backward_data(
                torch.bmm(to_block, values[:, :end].mT), weight, -1, weight.dtype
            )
            part = torch.baddbmm(unused, to_scores, keys[:, :end], beta=0, alpha=scale)
            to_queries[:, :, first:end] = part.view(len(keys), -1, end - first, keys.shape[2])
            beta = float(end < keys.shape[1])
            to_keys[:, :end].baddbmm_(to_scores.mT, block, beta=beta, alpha=scale)
            to_values[:, :end].baddbmm_(weight.mT, to_block, beta=beta)
            end = first
        shape = (grad.shape[0], -1, *keys.shape[1:])
        return (
            _turned(to_queries.view(grad.shape), ctx.tables, -1),
            _turned(to_keys.view(shape), ctx.tables, -1),
            to_values.view(shape),
            None,
            None,
            None,
        )


def _turned(x: Tensor, tables: tuple[Tensor, Tensor] | None, direction: int) -> Tensor:
    """Contiguous x, rotated forwards or backwards by the tables of `Rope` if there are any."""
    x = x.contiguous()
    if tables is None:
        return x
    cos, sin = tables
    swapped = x.roll(x.shape[-1] // 2, -1)
    return (x * cos).addcmul_(swapped, sin, value=direction)


class _RmsNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, eps: float) -> Tensor:
        ctx.dtype = x.dtype
        x = x.float()
        # The norm writes no squares to memory; a mean of squares would.
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        unit = x * inverse
        ctx.save_for_backward(unit, inverse, scale)
        scaled: Tensor = (unit * scale).to(ctx.dtype)
        return scaled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, inverse, scale = ctx.saved_tensors
        grad = grad.float()
        scaled = grad * scale
        # Scaling x does not change the output, so the gradient has no part along x.
        along = (scaled * unit).sum(-1, keepdim=True).div_(unit.shape[-1])
        to_scale = grad * unit
        if scale.ndim == grad.ndim:
            to_scale = to_scale.sum_to_size(scale.shape)
        else:
            to_scale = to_scale.flatten(0, -1 - scale.ndim).sum(0)
        to_x = torch.addcmul(scaled, unit, along, value=-1.0).mul_(inverse)
        return to_x.to(ctx.dtype), to_scale, None


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
        ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, z_loss: float, factor: float
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
    logits: Tensor, targets: Tensor, z_loss: float, factor: float
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
    objective, slope = nats, torch.full_like(total, factor)
    if z_loss:
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
