"""Hugging Face checkpoints in and out, and Meta's original layout in.

A model is exported as the class of transformers that has its block (`hf_classes`): Llama; Qwen3
with QK-norm, whose attention normalises each head's queries and keys before rotating them, as ours
does; Cohere for PaLM's block; GPT-2 and GPT-NeoX. Llama and Qwen3 are read back.
"""

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from llama_core.config import Block, ModelConfig
from llama_core.corpus.tokenizer import BOS, EOS, Tokenizer
from llama_core.exchange.hf_classes import (
    ACTIVATIONS,
    CheckpointError,
    State,
    class_of,
    gpt2_config,
    gpt_neox_config,
    to_gpt2,
    to_gpt_neox,
)
from llama_core.exchange.hf_tokenizer import tokenizer_files
from llama_core.model import stacked_rows


def export_hf(
    folder: Path, model: ModelConfig, state: State, *, seq_len: int, tokenizer: Tokenizer | None
) -> None:
    """Write config.json, model.safetensors and tokenizer so that `from_pretrained` reads them.

    Args:
        state: as `Llama(model).state_dict()`.
        seq_len: length trained on, which becomes `max_position_embeddings`.

    Raises:
        CheckpointError: transformers has no class for the model's block, or the weights cannot be
            written. Nothing is left in the folder then.
    """
    contents = {
        "config.json": hf_config(model, seq_len),
        "generation_config.json": {"bos_token_id": BOS, "eos_token_id": EOS},
        **(tokenizer_files(tokenizer, seq_len) if tokenizer is not None else {}),
    }
    files = {
        name: (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
        for name, content in contents.items()
    }
    if tokenizer is not None:
        files["tokenizer.model"] = tokenizer.model
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "model.safetensors"
    try:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        save_file(to_hf(model, state), weights, metadata={"format": "pt"})
    except BaseException as error:
        for name in (*files, weights.name):
            (folder / name).unlink(missing_ok=True)
        if isinstance(error, SafetensorError):
            raise CheckpointError(f"{weights} cannot be written: {error}") from error
        raise
    # safetensors lets no one else read it.
    weights.chmod((folder / "config.json").stat().st_mode)


def import_hf(folder: Path) -> tuple[ModelConfig, State]:
    """Shape and weights of a Llama (or Qwen3) checkpoint in safetensors, sharded or not.

    Raises:
        CheckpointError: not such a checkpoint, or one with parts this model does not have.
    """
    config = _read_json(folder / "config.json")
    model = from_hf_config(config)
    index = folder / "model.safetensors.index.json"
    names = {"model.safetensors"}
    if index.exists():
        names = set(_read_json(index)["weight_map"].values())
    weights: State = {}
    for name in sorted(names):
        try:
            weights |= load_file(folder / name)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{folder / name} cannot be read: {error}") from error
    try:
        return model, from_hf(model, weights)
    except KeyError as error:
        raise CheckpointError(f"{folder} has no weight {error}.") from error


def hf_config(model: ModelConfig, seq_len: int) -> dict[str, Any]:
    """config.json of a model.

    Raises:
        CheckpointError: transformers has no class for the model's block.
    """
    chosen = class_of(model)
    common = {
        "architectures": [chosen.name],
        "model_type": chosen.model_type,
        "vocab_size": model.vocab_size,
        "initializer_range": model.init_std,
        "tie_word_embeddings": model.tie_embeddings,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "torch_dtype": "float32",
    }
    if chosen.model_type == "gpt2":
        return common | gpt2_config(model)
    common |= {
        "hidden_size": model.d_model,
        "intermediate_size": model.d_ffn,
        "num_hidden_layers": model.n_layers,
        "num_attention_heads": model.n_heads,
        "hidden_act": ACTIVATIONS[model.block.ffn],
        "max_position_embeddings": seq_len,
    }
    if chosen.model_type == "gpt_neox":
        return common | gpt_neox_config(model)
    common |= {
        "num_key_value_heads": model.n_kv_heads,
        "head_dim": model.head_dim,
        "rope_theta": model.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rope_theta},
        "attention_bias": model.block.biases,
    }
    if chosen.model_type == "cohere":
        return common | {"layer_norm_eps": model.norm_eps, "logit_scale": 1.0, "pad_token_id": None}
    if model.block.biases:
        common["mlp_bias"] = True
    return common | {"rms_norm_eps": model.norm_eps}


def from_hf_config(config: dict[str, Any]) -> ModelConfig:
    """The model of a config.json.

    Raises:
        CheckpointError: another architecture or activation, biases, or scaled rotary positions.
    """
    kind = config.get("model_type")
    if kind not in ("llama", "qwen3"):
        raise CheckpointError(f"model_type {kind!r} is neither llama nor qwen3.")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    scaling = rope.get("rope_type", rope.get("type", "default"))
    unsupported = [name for name in ("attention_bias", "mlp_bias") if config.get(name)]
    if scaling != "default":
        unsupported.append(f"rope_type {scaling}")
    if config.get("use_sliding_window"):
        unsupported.append("sliding window")
    feed_forwards = {ACTIVATIONS[name]: Block(ffn=name) for name in ("swiglu", "geglu")}
    activation = config.get("hidden_act", "silu")
    if activation not in feed_forwards:
        unsupported.append(f"hidden_act {activation}")
    if unsupported:
        raise CheckpointError(
            f"the checkpoint has {', '.join(unsupported)}, which llama_core does not support."
        )
    try:
        heads = config["num_attention_heads"]
        return ModelConfig(
            vocab_size=config["vocab_size"],
            d_model=config["hidden_size"],
            n_layers=config["num_hidden_layers"],
            n_heads=heads,
            n_kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            d_ffn=config["intermediate_size"],
            rope_theta=config.get("rope_theta") or rope.get("rope_theta", 10_000.0),
            norm_eps=config.get("rms_norm_eps", 1e-6),
            tie_embeddings=config.get("tie_word_embeddings", False),
            qk_norm=kind == "qwen3",
            init_std=config.get("initializer_range", 0.02),
            block=feed_forwards[activation],
        )
    except (KeyError, ValidationError) as error:
        raise CheckpointError(f"config.json does not describe a Llama: {error!r}") from error


def to_hf(model: ModelConfig, state: State) -> State:
    """Our weights under the names of the class that has the model's block."""
    kind = class_of(model).model_type
    if kind == "gpt2":
        return to_gpt2(model, state)
    if kind == "gpt_neox":
        return to_gpt_neox(model, state)
    parts: State = {}
    for name, weight in state.items():
        rows = stacked_rows(model, name)
        if name == "lm_head.weight":
            if not model.tie_embeddings:
                parts[name] = weight
        elif rows is None:
            parts["model." + name] = weight
        else:
            stacked = "qkv_proj" if "qkv_proj" in name else "gate_up_proj"
            single = ("q", "k", "v") if stacked == "qkv_proj" else ("gate", "up")
            for part, piece in zip(single, torch.split(weight, rows), strict=True):
                if kind == "cohere" and part in ("q", "k"):
                    piece = _pairs_from_halves(piece, model.head_dim)
                parts["model." + name.replace(stacked, f"{part}_proj")] = piece
    return {name: weight.contiguous() for name, weight in parts.items()}


def _pairs_from_halves(weight: Tensor, head_dim: int) -> Tensor:
    """Reorder a head's rows: we rotate dimensions (i, i + d/2), Cohere (2i, 2i + 1) as a pair."""
    halves = weight.view(-1, 2, head_dim // 2, weight.shape[1])
    return halves.transpose(1, 2).reshape(weight.shape)


def from_hf(model: ModelConfig, weights: State) -> State:
    """Hugging Face's weights under our names, projections stacked.

    Raises:
        KeyError: one is missing.
    """
    state = {
        "embed_tokens.weight": weights["model.embed_tokens.weight"],
        "norm.weight": weights["model.norm.weight"],
    }
    tied = model.tie_embeddings
    state["lm_head.weight"] = weights["model.embed_tokens.weight" if tied else "lm_head.weight"]
    unchanged = ["input_layernorm", "post_attention_layernorm", "self_attn.o_proj", "mlp.down_proj"]
    if model.qk_norm:
        unchanged += ["self_attn.q_norm", "self_attn.k_norm"]
    for layer in range(model.n_layers):
        ours, theirs = f"layers.{layer}.", f"model.layers.{layer}."
        for name in unchanged:
            state[f"{ours}{name}.weight"] = weights[f"{theirs}{name}.weight"]
        qkv = [weights[f"{theirs}self_attn.{part}_proj.weight"] for part in "qkv"]
        state[f"{ours}self_attn.qkv_proj.weight"] = torch.cat(qkv)
        gate_up = [weights[f"{theirs}mlp.{part}_proj.weight"] for part in ("gate", "up")]
        state[f"{ours}mlp.gate_up_proj.weight"] = torch.cat(gate_up)
    return state


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a JSON object.")
    return content
