"""Hand-written derivatives that read memory less often than autograd's."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


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
