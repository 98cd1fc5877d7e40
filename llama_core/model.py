"""The decoder. Its default block is LLaMA's: pre-RMSNorm, rotary positions, SwiGLU."""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from llama_core.config import ModelConfig, require_positions
from llama_core.layers.attention import Attention, AttentionBackend, CacheSlot, KvCache, Rope
from llama_core.layers.kernels import rms_norm

Recompute = Literal["off", "selective", "full"]
# Selective recomputation keeps what is expensive to recompute: matmuls and attention.
_KEPT = [
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.bmm.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
]


class Llama(nn.Module):
    """Decoder-only transformer (Touvron et al. 2023, section 2.2), of LLaMA's or another block.

    Parameters have the names of Hugging Face's Llama, with two exceptions. The three projections
    into attention are one matrix `qkv_proj` (queries, keys, values stacked), multiplied at once;
    the two into a gated feed-forward are one `gate_up_proj`, whose halves are multiplied
    separately. Beyond LLaMA there are `embed_positions`, biases beside weights, and `up_proj` of
    a plain feed-forward; a parallel block has `input_layernorm` alone.
    Rotary pairs are Hugging Face's: dimension i of a head rotates with i + head_dim/2.

    Initialisation: every matrix normal with `init_std`, those that write into the residual
    stream (`o_proj`, `down_proj`) divided by sqrt(2·n_layers) so that the stream's variance
    does not grow with depth (Radford et al. 2019, section 2.3); norms one, biases zero.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        attention: AttentionBackend = "sdpa",
        recompute: Recompute = "off",
    ) -> None:
        super().__init__()
        self.config = config
        self.recompute = recompute
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        if config.max_positions is not None:
            self.embed_positions = nn.Embedding(config.max_positions, config.d_model)
        self.layers = nn.ModuleList(Block(config, attention) for _ in range(config.n_layers))
        self.norm = norm_of(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        if config.block.positions == "rotary":
            self.rope = Rope(config.head_dim, config.rope_theta)

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Draw all weights from `seed` alone.

        They are drawn on the CPU in the order of `named_parameters`, so a seed gives the same
        weights on every device.
        """
        generator = torch.Generator().manual_seed(seed)
        residual_std = self.config.init_std / math.sqrt(2 * self.config.n_layers)
        for name, weight in self.named_parameters():
            if weight.ndim == 1:
                weight.fill_(0.0 if name.endswith(".bias") else 1.0)
                continue
            writes_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
            std = residual_std if writes_residual else self.config.init_std
            weight.copy_(torch.empty(weight.shape).normal_(0.0, std, generator=generator))

    def forward(self, ids: Tensor, cache: KvCache | None = None) -> Tensor:
        """Logits of shape (b, t, vocab) for token ids of shape (b, t).

        With a cache, `ids` continue the tokens in it, and are added to it.
        """
        logits: Tensor = self.lm_head(self.hidden(ids, cache))
        return logits

    def hidden(self, ids: Tensor, cache: KvCache | None = None) -> Tensor:
        """Input of the output layer, (b, t, d_model): `forward` without its largest matmul."""
        x = self.embed_tokens(ids)
        seen = 0 if cache is None else cache.length
        cos = sin = None
        match self.config.block.positions:
            case "rotary":
                cos, sin = (table[seen:] for table in self.rope(seen + ids.shape[1], ids.device))
            case "learned":
                x = x + self.embed_positions(self._positions(ids, cache))
        for index, layer in enumerate(self.layers):
            slot = None if cache is None else cache.slot(index)
            if self.recompute == "off" or not torch.is_grad_enabled():
                x = layer(x, cos, sin, slot)
            else:
                x = _recomputed(layer, self.recompute, x, cos, sin)
        if cache is not None:
            cache.length += ids.shape[1]
        normed: Tensor = self.norm(x)
        return normed

    def _positions(self, ids: Tensor, cache: KvCache | None) -> Tensor:
        """Places in the table of learned positions, (t,), or (b, t) where rows have padding."""
        seen = 0 if cache is None else cache.length
        require_positions(self.config, seen + ids.shape[1])
        places = torch.arange(seen, seen + ids.shape[1], device=ids.device)
        if cache is None or cache.first is None:
            return places
        return (places - cache.first[:, None]).clamp(min=0)


def _recomputed(
    layer: nn.Module, recompute: Recompute, x: Tensor, cos: Tensor | None, sin: Tensor | None
) -> Tensor:
    """Run a block; keep only its input for the backward pass, or also the results of `_KEPT`."""
    if recompute == "full":
        out: Tensor = checkpoint(layer, x, cos, sin, use_reentrant=False)
    else:
        contexts = partial(create_selective_checkpoint_contexts, _KEPT)
        out = checkpoint(layer, x, cos, sin, use_reentrant=False, context_fn=contexts)
    return out


class Block(nn.Module):
    """Attention and feed-forward; each reads the normalised stream and adds to it.

    In a parallel block both read the same (Chowdhery et al. 2022, section 2).
    """

    def __init__(self, config: ModelConfig, attention: AttentionBackend) -> None:
        super().__init__()
        self.parallel = config.block.parallel
        self.input_layernorm = norm_of(config)
        self.self_attn = Attention(config, attention)
        if not self.parallel:
            self.post_attention_layernorm = norm_of(config)
        self.mlp = GatedFeedForward(config) if config.block.gated else FeedForward(config)

    def forward(
        self, x: Tensor, cos: Tensor | None, sin: Tensor | None, slot: CacheSlot | None = None
    ) -> Tensor:
        if self.parallel:
            normed = self.input_layernorm(x)
            both: Tensor = x + self.self_attn(normed, cos, sin, slot) + self.mlp(normed)
            return both
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, slot)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


def norm_of(config: ModelConfig) -> nn.Module:
    """A norm of the model's kind over its width."""
    if config.block.norm == "rms":
        return RmsNorm(config.d_model, config.norm_eps)
    return nn.LayerNorm(config.d_model, config.norm_eps, bias=config.block.biases)


class RmsNorm(nn.Module):
    """x / rms(x) · weight (Zhang and Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


class GatedFeedForward(nn.Module):
    """down(act(gate(x)) · up(x)) (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        biases = config.block.biases
        self.gate_up_proj = nn.Linear(config.d_model, 2 * config.d_ffn, bias=biases)
        self.down_proj = nn.Linear(config.d_ffn, config.d_model, bias=biases)
        self.act = ACTIVATIONS[config.block.ffn]

    def forward(self, x: Tensor) -> Tensor:
        # Two matmuls: halves of one would not be contiguous, which costs more than it saves.
        weights, bias = self.gate_up_proj.weight.chunk(2), self.gate_up_proj.bias
        biases = (None, None) if bias is None else bias.chunk(2)
        gate, up = (F.linear(x, *half) for half in zip(weights, biases, strict=True))
        out: Tensor = self.down_proj(self.act(gate) * up)
        return out


class FeedForward(nn.Module):
    """down(act(up(x))), as in GPT."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        biases = config.block.biases
        self.up_proj = nn.Linear(config.d_model, config.d_ffn, bias=biases)
        self.down_proj = nn.Linear(config.d_ffn, config.d_model, bias=biases)
        self.act = ACTIVATIONS[config.block.ffn]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(self.act(self.up_proj(x)))
        return out


def relu2(x: Tensor) -> Tensor:
    """The square of ReLU (So et al. 2021, arXiv:2109.08668)."""
    return F.relu(x).square()


_tanh_gelu = partial(F.gelu, approximate="tanh")
# Of the feed-forwards that `config.Block` names.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "swiglu": F.silu,
    "geglu": _tanh_gelu,
    "gelu": _tanh_gelu,
    "relu2": relu2,
}


def stacked_rows(config: ModelConfig, name: str) -> list[int] | None:
    """Rows of each matrix (or bias) stacked in the parameter of a name; None if it is one."""
    if ".qkv_proj." in name:
        keys = config.n_kv_heads * config.head_dim
        return [config.n_heads * config.head_dim, keys, keys]
    return [config.d_ffn, config.d_ffn] if ".gate_up_proj." in name else None
