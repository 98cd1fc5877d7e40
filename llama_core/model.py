"""The LLaMA transformer: pre-RMSNorm, rotary positions, grouped queries, SwiGLU."""

import math
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from llama_core import config as settings
from llama_core.config import ModelConfig
from llama_core.layers.attention import Attention, AttentionBackend, CacheSlot, KvCache, Rope
from llama_core.layers.kernels import rms_norm

LLAMA = settings.Block()
Recompute = Literal["off", "selective", "full"]
# Selective recomputation keeps what is expensive to recompute: matmuls and attention.
_KEPT = [
    torch.ops.aten.mm.default,
    torch.ops.aten.bmm.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
]


class Llama(nn.Module):
    """Decoder-only transformer (Touvron et al. 2023, section 2.2).

    Parameters have the names of Hugging Face's Llama, with two exceptions. The three projections
    into attention are one matrix `qkv_proj` (queries, keys, values stacked), multiplied at once;
    the two into the feed-forward are one `gate_up_proj`, whose halves are multiplied separately.
    Rotary pairs are Hugging Face's: dimension i of a head rotates with i + head_dim/2.

    Initialisation: every matrix normal with `init_std`, those that write into the residual
    stream (`o_proj`, `down_proj`) divided by sqrt(2·n_layers) so that the stream's variance
    does not grow with depth (Radford et al. 2019, section 2.3); norms one.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        attention: AttentionBackend = "sdpa",
        recompute: Recompute = "off",
    ) -> None:
        super().__init__()
        if config.block != LLAMA:
            raise NotImplementedError(f"block {config.block} is not built yet.")
        self.config = config
        self.recompute = recompute
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(Block(config, attention) for _ in range(config.n_layers))
        self.norm = RmsNorm(config.d_model, config.norm_eps)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
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
                weight.fill_(1.0)
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
        cos, sin = self.rope(seen + ids.shape[1], ids.device)
        for index, layer in enumerate(self.layers):
            slot = None if cache is None else cache.slot(index)
            if self.recompute == "off" or not torch.is_grad_enabled():
                x = layer(x, cos[seen:], sin[seen:], slot)
            else:
                x = _recomputed(layer, self.recompute, x, cos, sin)
        if cache is not None:
            cache.length += ids.shape[1]
        normed: Tensor = self.norm(x)
        return normed


def _recomputed(
    layer: nn.Module, recompute: Recompute, x: Tensor, cos: Tensor, sin: Tensor
) -> Tensor:
    """Run a block; keep only its input for the backward pass, or also the results of `_KEPT`."""
    if recompute == "full":
        out: Tensor = checkpoint(layer, x, cos, sin, use_reentrant=False)
    else:
        contexts = partial(create_selective_checkpoint_contexts, _KEPT)
        out = checkpoint(layer, x, cos, sin, use_reentrant=False, context_fn=contexts)
    return out


class Block(nn.Module):
    """Attention and feed-forward; each reads the normalised stream and adds to it."""

    def __init__(self, config: ModelConfig, attention: AttentionBackend) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(config.d_model, config.norm_eps)
        self.self_attn = Attention(config, attention)
        self.post_attention_layernorm = RmsNorm(config.d_model, config.norm_eps)
        self.mlp = SwiGlu(config.d_model, config.d_ffn)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, slot: CacheSlot | None = None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, slot)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class RmsNorm(nn.Module):
    """x / rms(x) · weight (Zhang and Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


class SwiGlu(nn.Module):
    """down(silu(gate(x)) · up(x)) (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, d_model: int, d_ffn: int) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(d_model, 2 * d_ffn, bias=False)
        self.down_proj = nn.Linear(d_ffn, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # Two matmuls: halves of one would not be contiguous, which costs more than it saves.
        gate, up = (F.linear(x, half) for half in self.gate_up_proj.weight.chunk(2))
        out: Tensor = self.down_proj(F.silu(gate) * up)
        return out
