"""Which class of transformers has a block, and GPT-2's and GPT-NeoX's layouts of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llama_core.config import ModelConfig

State = dict[str, Tensor]


class CheckpointError(ValueError):
    """A foreign checkpoint cannot be used; the message is one line."""


@dataclass(frozen=True, slots=True)
class HfClass:
    """What a class of transformers can be configured to.

    Attributes:
        model_type: its name in config.json.
        square: every query head has its own key-value head, and together they have the width.
    """

    name: str
    model_type: str
    norm: str
    gated: bool
    positions: str = "rotary"
    parallel: tuple[bool, ...] = (False,)
    biases: tuple[bool, ...] = (False, True)
    qk_norm: bool = False
    square: bool = False

    def lacks(self, model: ModelConfig) -> list[str]:
        """Parts of the model that the class does not have."""
        block = model.block
        heads = f"{model.n_heads} heads of {model.head_dim} on {model.n_kv_heads} key-value heads"
        square = model.n_kv_heads == model.n_heads and model.n_heads * model.head_dim
        parts = {
            f"norm {block.norm}": block.norm == self.norm,
            f"feed-forward {block.ffn}": block.gated == self.gated,
            f"positions {block.positions}": block.positions == self.positions,
            "parallel branches" if block.parallel else "branches in turn": (
                block.parallel in self.parallel
            ),
            "biases": block.biases in self.biases,
            "QK-norm" if model.qk_norm else "queries without QK-norm": (
                model.qk_norm == self.qk_norm
            ),
            f"{heads} in a width of {model.d_model}": not self.square or square == model.d_model,
        }
        return [part for part, there in parts.items() if not there]


CLASSES = (
    HfClass("LlamaForCausalLM", "llama", "rms", gated=True),
    HfClass("Qwen3ForCausalLM", "qwen3", "rms", gated=True, biases=(False,), qk_norm=True),
    HfClass("CohereForCausalLM", "cohere", "layer", True, parallel=(True,), biases=(False,)),
    HfClass("GPT2LMHeadModel", "gpt2", "layer", False, "learned", square=True),
    HfClass("GPTNeoXForCausalLM", "gpt_neox", "layer", False, parallel=(False, True), square=True),
)
ACTIVATIONS = {
    "swiglu": "silu",
    "geglu": "gelu_pytorch_tanh",
    "gelu": "gelu_pytorch_tanh",
    "relu2": "relu2",
}


def class_of(model: ModelConfig) -> HfClass:
    """The class of transformers that computes what the model does.

    Raises:
        CheckpointError: none does; the message says what the nearest lacks.
    """
    nearest = min(CLASSES, key=lambda each: len(each.lacks(model)))
    if lacks := nearest.lacks(model):
        raise CheckpointError(
            f"transformers has no class for this block: the nearest, {nearest.name}, has no "
            f"{', no '.join(lacks)}. `isoflop generate` and `isoflop evaluate` need no export."
        )
    return nearest


def gpt2_config(model: ModelConfig) -> dict[str, Any]:
    """The fields of config.json that are GPT-2's own."""
    return {
        "n_embd": model.d_model,
        "n_inner": model.d_ffn,
        "n_layer": model.n_layers,
        "n_head": model.n_heads,
        "n_positions": model.max_positions,
        "activation_function": ACTIVATIONS[model.block.ffn],
        "layer_norm_epsilon": model.norm_eps,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    }


def gpt_neox_config(model: ModelConfig) -> dict[str, Any]:
    """The fields of config.json that are GPT-NeoX's own; its linear layers all have biases."""
    rope = {
        "rope_type": "default",
        "rope_theta": model.rope_theta,
        "partial_rotary_factor": 1.0,
    }
    return {
        "layer_norm_eps": model.norm_eps,
        "attention_bias": True,
        "use_parallel_residual": model.block.parallel,
        "rope_parameters": rope,
        # The names of transformers 4, whose default rotates a quarter of a head.
        "rotary_pct": 1.0,
        "rotary_emb_base": model.rope_theta,
    }


_GPT2 = {
    "embed_tokens": "transformer.wte",
    "embed_positions": "transformer.wpe",
    "norm": "transformer.ln_f",
    "layers": "transformer.h",
    "input_layernorm": "ln_1",
    "self_attn.qkv_proj": "attn.c_attn",
    "self_attn.o_proj": "attn.c_proj",
    "post_attention_layernorm": "ln_2",
    "mlp.up_proj": "mlp.c_fc",
    "mlp.down_proj": "mlp.c_proj",
}
_GPT_NEOX = {
    "embed_tokens": "gpt_neox.embed_in",
    "norm": "gpt_neox.final_layer_norm",
    "lm_head": "embed_out",
    "layers": "gpt_neox.layers",
    "self_attn.qkv_proj": "attention.query_key_value",
    "self_attn.o_proj": "attention.dense",
    "mlp.up_proj": "mlp.dense_h_to_4h",
    "mlp.down_proj": "mlp.dense_4h_to_h",
}


def to_gpt2(model: ModelConfig, state: State) -> State:
    """Our weights under GPT-2's names; its linear layers hold their matrices transposed."""

    def turned(name: str, tensor: Tensor) -> Tensor:
        return tensor.T if name.endswith("_proj.weight") else tensor

    return _renamed(model, state, _GPT2, turned)


def to_gpt_neox(model: ModelConfig, state: State) -> State:
    """Our weights under GPT-NeoX's names; it stacks queries, keys and values head by head.

    A parallel block there has a norm for each branch, which are equal here.
    """

    def by_head(name: str, tensor: Tensor) -> Tensor:
        if ".qkv_proj." not in name:
            return tensor
        heads = tensor.view(3, model.n_heads, model.head_dim, *tensor.shape[1:])
        return heads.transpose(0, 1).reshape(tensor.shape)

    weights = _renamed(model, state, _GPT_NEOX, by_head)
    if model.block.parallel:
        for name in [name for name in weights if ".input_layernorm." in name]:
            twin = name.replace("input_layernorm", "post_attention_layernorm")
            weights[twin] = weights[name].clone()
    return weights


def _renamed(
    model: ModelConfig,
    state: State,
    names: dict[str, str],
    changed: Callable[[str, Tensor], Tensor],
) -> State:
    """Weights under other names, with a bias of zeros wherever a norm or linear layer lacks one."""
    weights: State = {}
    for name, tensor in state.items():
        module, _, kind = name.rpartition(".")
        if module == "lm_head" and model.tie_embeddings:
            continue
        layers, number, part = module.split(".", 2) if "." in module else ("", "", module)
        prefix = f"{names[layers]}.{number}." if layers else ""
        renamed = f"{prefix}{names.get(part, part)}"
        weights[f"{renamed}.{kind}"] = changed(name, tensor).contiguous()
        if "embed" not in module and module != "lm_head" and f"{module}.bias" not in state:
            weights[f"{renamed}.bias"] = torch.zeros(len(tensor))
    return weights
