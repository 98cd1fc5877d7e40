"""Parameters and FLOPs of a ModelConfig, as exact integers. No torch here."""

from dataclasses import dataclass

from llama_core.config import ModelConfig


@dataclass(frozen=True, slots=True)
class ParamCounts:
    """Parameters under the three conventions in use.

    Attributes:
        total: every parameter, tied weights once.
        n_params: N of this project: parameters that multiply a token. All but the input
            embedding and learned positions; the head counts, also when it is tied (Porian et al.
            2024).
        non_embedding: without the head too (Kaplan et al. 2020).
    """

    total: int
    n_params: int
    non_embedding: int


def count_params(model: ModelConfig) -> ParamCounts:
    """Parameters of the model, exactly as many as the instantiated module holds."""
    block = model.block
    norm = 2 * model.d_model if block.norm == "layer" and block.biases else model.d_model
    per_layer = norm if block.parallel else 2 * norm
    if model.qk_norm:
        per_layer += 2 * model.head_dim
    if block.biases:
        heads = model.n_heads + 2 * model.n_kv_heads
        per_layer += heads * model.head_dim + 2 * model.d_model
        per_layer += (2 if block.gated else 1) * model.d_ffn
    non_embedding = matrix_params(model) + model.n_layers * per_layer + norm
    embedding = model.vocab_size * model.d_model
    n_params = non_embedding + embedding
    total = n_params if model.tie_embeddings else n_params + embedding
    total += (model.max_positions or 0) * model.d_model
    return ParamCounts(total=total, n_params=n_params, non_embedding=non_embedding)


def forward_flops_per_sequence(model: ModelConfig, seq_len: int) -> int:
    """FLOPs of one forward pass over one sequence: matmuls, causal attention, head.

    A multiply-add is two FLOPs. Attention counts the causal half, diagonal included:
    position t attends to t positions, so scores and weighted sum cost
    4·n_heads·head_dim·t each layer. Norms, biases, softmax, positions and the embedding look-up
    are not counted (as in Hoffmann et al. 2022, appendix F, which counts full squares instead).
    """
    head = model.vocab_size * model.d_model
    causal_pairs = seq_len * (seq_len + 1) // 2
    attention = 4 * model.n_layers * model.n_heads * model.head_dim * causal_pairs
    return 2 * (matrix_params(model) + head) * seq_len + attention


def train_flops(model: ModelConfig, seq_len: int, tokens: int) -> int:
    """C of this project: counted training FLOPs, three forward passes for each sequence.

    Backward costs twice the forward pass. Activation checkpointing recomputes, but what it
    recomputes is not model FLOPs and is not counted, as in MFU (Chowdhery et al. 2022, app. B).

    Raises:
        ValueError: `tokens` is not a whole number of sequences.
    """
    if tokens % seq_len:
        raise ValueError(f"{tokens:,} tokens are not whole sequences of seq_len={seq_len}.")
    return 3 * forward_flops_per_sequence(model, seq_len) * (tokens // seq_len)


def non_embedding_flops_per_token(model: ModelConfig, seq_len: int) -> float:
    """M: training FLOPs per token without embedding and head (DeepSeek-AI 2024, eq. 2).

    Attention counts whole squares, 12·n_layers·width·seq_len, twice what `train_flops` counts.
    """
    attention = 2 * model.n_layers * model.n_heads * model.head_dim * seq_len
    return 6.0 * (matrix_params(model) + attention)


def flops_6nd(model: ModelConfig, tokens: int) -> int:
    """The usual estimate 6·N·D with N = `ParamCounts.n_params`. Never called train_flops."""
    return 6 * count_params(model).n_params * tokens


def matrix_params(model: ModelConfig) -> int:
    """Parameters of the layers' matrices: without embeddings, head, norms and biases."""
    queries = model.d_model * model.n_heads * model.head_dim
    keys_values = 2 * model.d_model * model.n_kv_heads * model.head_dim
    output = model.n_heads * model.head_dim * model.d_model
    feed_forward = (3 if model.block.gated else 2) * model.d_model * model.d_ffn
    return model.n_layers * (queries + keys_values + output + feed_forward)


def query_blocks(length: int) -> tuple[int, ...]:
    """Boundaries of the query blocks of eager attention.

    A block sees the keys up to its own end. Below 192 tokens two blocks cost more than they save.
    Counted FLOPs do not depend on them: they count the causal half alone.
    """
    return (0, length) if length < 192 else (0, length // 2, length)
