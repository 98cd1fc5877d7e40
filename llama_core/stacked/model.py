"""Several models of one shape as one: every weight has a model axis, every matmul is batched."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from llama_core.config import ModelConfig
from llama_core.layers.attention import AttentionBackend, Rope, eager_attention, rotate
from llama_core.layers.kernels import rms_norm
from llama_core.model import Llama


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each weight of a model lies in its row of numbers: matrices first, then vectors.

    Attributes:
        places: first and last number of each weight and its shape, by name.
        matrices: numbers that belong to matrices.
        size: numbers of a model.
    """

    places: dict[str, tuple[int, int, tuple[int, ...]]]
    matrices: int
    size: int

    def views(self, rows: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Each weight's part of some rows of numbers, in the order of `Llama.named_parameters`.

        Args:
            rows: (..., size).
        """
        for name, (first, end, shape) in self.places.items():
            yield name, rows[..., first:end].view(*rows.shape[:-1], *shape)


def layout_of(config: ModelConfig) -> Layout:
    """The layout of models of a shape."""
    with torch.device("meta"):
        shapes = {name: tuple(w.shape) for name, w in Llama(config).named_parameters()}
    order = sorted(shapes, key=lambda name: len(shapes[name]) < 2)
    end, matrices = 0, 0
    spans = {}
    for name in order:
        first, end = end, end + torch.Size(shapes[name]).numel()
        spans[name] = (first, end)
        matrices = end if len(shapes[name]) >= 2 else matrices
    return Layout({name: (*spans[name], shape) for name, shape in shapes.items()}, matrices, end)


class StackedLlama:
    """The weights and gradients of `count` models, and their forward pass.

    Attributes:
        weights, gradients: (count, layout.size).
    """

    def __init__(
        self, config: ModelConfig, attention: AttentionBackend, count: int, device: torch.device
    ) -> None:
        self.config, self.attention = config, attention
        self.layout = layout_of(config)
        self.rope = Rope(config.head_dim, config.rope_theta)
        self.weights = torch.empty(count, self.layout.size, device=device)
        self.gradients = torch.zeros_like(self.weights)
        self._bind()

    def keep(self, members: Sequence[int]) -> None:
        """Keep these models and forget the others."""
        self.weights, self.gradients = self.weights[members], self.gradients[members]
        self._bind()

    def _bind(self) -> None:
        self._named = {
            name: view.detach().requires_grad_() for name, view in self.layout.views(self.weights)
        }
        self._gradients = [view for _, view in self.layout.views(self.gradients)]

    def backward(self, objective: Tensor) -> None:
        """Add the derivatives of a sum over all models to their gradients."""
        # Not `backward`, which warns of leaves that are parts of rows.
        new = torch.autograd.grad(objective, list(self._named.values()))
        torch._foreach_add_(self._gradients, new)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (count, rows · t, vocab) for token ids (count, rows, t) of each model."""
        config, named = self.config, self._named
        count, rows, t = ids.shape
        first = torch.arange(count, device=ids.device).mul_(config.vocab_size).view(-1, 1, 1)
        embeddings = named["embed_tokens.weight"]
        x = F.embedding(ids + first, embeddings.reshape(-1, config.d_model)).flatten(1, 2)
        cos, sin = self.rope(t, ids.device)
        for layer in range(config.n_layers):
            name = f"layers.{layer}."
            normed = self._norm(x, name + "input_layernorm.weight")
            heads = linear(normed, named[name + "self_attn.qkv_proj.weight"])
            mixed = self._attend(
                name, heads.view(count, rows * t, -1, config.head_dim), t, cos, sin
            )
            x = x + linear(mixed, named[name + "self_attn.o_proj.weight"])
            normed = self._norm(x, name + "post_attention_layernorm.weight")
            halves = named[name + "mlp.gate_up_proj.weight"].chunk(2, dim=1)
            gate, up = (linear(normed, half) for half in halves)
            x = x + linear(F.silu(gate) * up, named[name + "mlp.down_proj.weight"])
        head = embeddings if config.tie_embeddings else named["lm_head.weight"]
        return linear(self._norm(x, "norm.weight"), head)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return rms_norm(x, self._named[name].unsqueeze(1), self.config.norm_eps)

    def _attend(self, name: str, heads: Tensor, t: int, cos: Tensor, sin: Tensor) -> Tensor:
        """Attention of every row; `heads` and the result are (count, rows · t, ...)."""
        config, named = self.config, self._named
        n_heads, n_kv_heads = config.n_heads, config.n_kv_heads
        qk, v = torch.split(heads, [n_heads + n_kv_heads, n_kv_heads], dim=2)
        if config.qk_norm:
            q_scale = named[name + "self_attn.q_norm.weight"].unsqueeze(1).expand(-1, n_heads, -1)
            k_scale = named[name + "self_attn.k_norm.weight"].unsqueeze(1)
            scale = torch.cat((q_scale, k_scale.expand(-1, n_kv_heads, -1)), dim=1)
            qk = rms_norm(qk, scale.unsqueeze(1), config.norm_eps)
        q, k = torch.split(qk, [n_heads, n_kv_heads], dim=2)
        # (count · rows, heads, t, head_dim)
        q, k, v = (
            part.unflatten(1, (-1, t)).flatten(0, 1).transpose(1, 2)  # type: ignore[no-untyped-call]
            for part in (q, k, v)
        )
        if self.attention == "sdpa":
            grouped = n_heads != n_kv_heads
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        else:
            mixed = eager_attention(q, k, v, cos, sin)
        return mixed.transpose(1, 2).reshape(*heads.shape[:2], -1)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Each model's `F.linear`: x (k, n, in), weight (k, out, in)."""
    return torch.bmm(x, weight.transpose(1, 2))
