"""Meta's original checkpoints: params.json and consolidated.NN.pth, in one or several parts."""

import json
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from llama_core.config import ModelConfig, llama_ffn_width
from llama_core.exchange.hf_classes import CheckpointError, State

# Weights that are split among parts by columns. Norms are in every part; others are split by rows.
_SPLIT_BY_COLUMNS = ("attention.wo", "feed_forward.w2")


def import_meta(folder: Path) -> tuple[ModelConfig, State]:
    """Shape and weights of a LLaMA, Llama 2 or Llama 3 release.

    The tensors are read by torch's restricted unpickler, which runs no code.

    Raises:
        CheckpointError: files missing, or not such a release.
    """
    files = sorted(folder.glob("consolidated.*.pth"))
    if not files:
        raise CheckpointError(f"{folder} has no consolidated.*.pth.")
    try:
        params = json.loads((folder / "params.json").read_text())
        parts = [torch.load(file, map_location="cpu", weights_only=True) for file in files]
    except (OSError, json.JSONDecodeError, UnpicklingError, RuntimeError) as error:
        raise CheckpointError(f"{folder} cannot be read: {error}") from error
    try:
        return _assemble(params, parts)
    except KeyError as error:
        raise CheckpointError(f"{folder} is not a Llama release: {error} is missing.") from error


def _assemble(params: dict[str, float], parts: list[State]) -> tuple[ModelConfig, State]:
    d_model, heads = int(params["dim"]), int(params["n_heads"])
    kv_heads = int(params.get("n_kv_heads") or heads)
    if params.get("use_scaled_rope"):
        raise CheckpointError(
            "the release has scaled rotary positions, which llama_core does not support."
        )
    embedding = _join_embedding(parts, d_model)
    model = ModelConfig(
        vocab_size=embedding.shape[0],
        d_model=d_model,
        n_layers=int(params["n_layers"]),
        n_heads=heads,
        n_kv_heads=kv_heads,
        head_dim=d_model // heads,
        d_ffn=llama_ffn_width(
            d_model,
            multiple_of=int(params["multiple_of"]),
            multiplier=params.get("ffn_dim_multiplier") or 1.0,
        ),
        rope_theta=params.get("rope_theta", 10_000.0),
        norm_eps=params["norm_eps"],
    )
    state = {
        "embed_tokens.weight": embedding,
        "norm.weight": _join(parts, "norm"),
        "lm_head.weight": _join(parts, "output"),
    }
    for layer in range(model.n_layers):
        prefix = f"layers.{layer}."
        q = _halves_from_pairs(_join(parts, f"{prefix}attention.wq"), heads)
        k = _halves_from_pairs(_join(parts, f"{prefix}attention.wk"), kv_heads)
        v = _join(parts, f"{prefix}attention.wv")
        gate_up = [_join(parts, f"{prefix}feed_forward.{name}") for name in ("w1", "w3")]
        state |= {
            f"{prefix}self_attn.qkv_proj.weight": torch.cat((q, k, v)),
            f"{prefix}self_attn.o_proj.weight": _join(parts, f"{prefix}attention.wo"),
            f"{prefix}mlp.gate_up_proj.weight": torch.cat(gate_up),
            f"{prefix}mlp.down_proj.weight": _join(parts, f"{prefix}feed_forward.w2"),
            f"{prefix}input_layernorm.weight": _join(parts, f"{prefix}attention_norm"),
            f"{prefix}post_attention_layernorm.weight": _join(parts, f"{prefix}ffn_norm"),
        }
    return model, state


def _join(parts: list[State], name: str) -> Tensor:
    pieces = [part[f"{name}.weight"] for part in parts]
    if name.endswith("norm"):
        return pieces[0]
    return torch.cat(pieces, dim=1 if name.endswith(_SPLIT_BY_COLUMNS) else 0)


def _join_embedding(parts: list[State], d_model: int) -> Tensor:
    # LLaMA and Llama 2 split the embedding by width, Llama 3 by vocabulary.
    pieces = [part["tok_embeddings.weight"] for part in parts]
    return torch.cat(pieces, dim=0 if pieces[0].shape[1] == d_model else 1)


def _halves_from_pairs(weight: Tensor, heads: int) -> Tensor:
    """Reorder a head's rows: Meta rotates dimensions (2i, 2i + 1) as a pair, we (i, i + d/2)."""
    rows, d_model = weight.shape
    pairs = weight.view(heads, rows // heads // 2, 2, d_model)
    return pairs.transpose(1, 2).reshape(rows, d_model)
