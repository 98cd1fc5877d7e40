"""Peak memory of a training step, estimated from shape and placement. No torch here."""

import itertools
from dataclasses import dataclass

from llama_core.config import ModelConfig, Muon, Placement, TrainConfig
from llama_core.counting import count_params, matrix_params, query_blocks

# Share of a GPU's memory that an estimate may fill; estimates are up to 15 % too low.
MEMORY_SHARE = 0.85


@dataclass(frozen=True, slots=True)
class StepMemory:
    """Bytes of one training step on one device; all but activations are in fp32.

    Attributes:
        optimizer: AdamW's two moments; Muon's momentum of the layers' matrices.
        activations: of one micro-batch, kept for its backward pass, logits included.
        snapshot: the trunk's copy of weights and moments while a branch cools down.
        gathered: weights and gradients that are whole for a while on a rank of a sharded model,
            of which the other three are this rank's shards.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    snapshot: int
    gathered: int

    @property
    def peak(self) -> int:
        """Bytes at the peak.

        With one micro-batch, activations are freed while gradients appear, so both are never
        complete at once. With several, the activations of the next one include the gradients of
        those before. The optimizer needs all gradients and no activations.
        """
        held = self.weights + self.optimizer + self.snapshot + self.gathered
        return held + max(self.activations, self.gradients)


def step_memory(
    model: ModelConfig, cfg: TrainConfig, placement: Placement, *, rows: int, eager: bool
) -> StepMemory:
    """Memory of a step whose micro-batch is `rows` rows.

    Args:
        eager: attention keeps its scores; SDPA keeps two rows of statistics instead.
    """
    shards = placement.ranks if placement.sharding == "shard" else 1
    params = count_params(model).total // shards
    moments = 8 * params
    if isinstance(cfg.optimizer, Muon):
        moments -= 4 * matrix_params(model)
    branches = len(cfg.schedule.horizons) > 1
    tokens = rows * cfg.seq_len
    activations = tokens * _bytes_per_token(model, cfg, placement, eager=eager)
    # Replicas keep their gradients in the buffers of their exchange from step to step.
    if tokens < cfg.batch_tokens // placement.ranks or placement.ranks > shards:
        activations += 4 * params
    return StepMemory(
        weights=4 * params,
        gradients=4 * params,
        optimizer=moments,
        activations=activations,
        snapshot=4 * params + moments if branches else 0,
        gathered=_gathered_params(model) * 8 if shards > 1 else 0,
    )


def rows_that_fit(
    model: ModelConfig,
    cfg: TrainConfig,
    placement: Placement,
    *,
    rows: int,
    eager: bool,
    budget: float,
) -> int:
    """The largest divisor of `rows` whose step stays within `budget` bytes; at least one row."""
    divisors = (count for count in range(rows, 0, -1) if rows % count == 0)
    for count in divisors:
        if step_memory(model, cfg, placement, rows=count, eager=eager).peak <= budget:
            return count
    return 1


def _gathered_params(model: ModelConfig) -> int:
    """Of a sharded model two blocks are whole at once, and what lies in none: that goes last."""
    counts = count_params(model)
    blocks = min(2, model.n_layers) * counts.non_embedding // model.n_layers
    return counts.total - counts.non_embedding + blocks


def _bytes_per_token(
    model: ModelConfig, cfg: TrainConfig, placement: Placement, *, eager: bool
) -> int:
    """Bytes kept for the backward pass, in the order of `model.Llama`'s forward pass."""
    narrow = 2 if cfg.dtype == "bfloat16" else 4
    stream = 4 * model.d_model
    block = _block_bytes(model, cfg.seq_len, narrow, eager=eager)
    # Autograd's steps from the squared normaliser of the z-loss back to the logits, in fp32.
    z_loss = 4 * 4 * model.vocab_size if cfg.z_loss else 0
    if placement.activation_checkpointing == "off":
        layers = model.n_layers * block + z_loss
    else:
        # The inputs of all blocks, and one block at a time in full, after the z-loss.
        kept = stream
        if placement.activation_checkpointing == "selective":
            kept += _matmul_bytes(model, narrow)
        layers = model.n_layers * kept + max(block, z_loss)
    # Logits and their gradient; its fp32 parts are at most 256 MiB.
    logits = model.vocab_size * 2 * narrow
    return layers + 2 * stream + logits


def _block_bytes(model: ModelConfig, seq_len: int, narrow: int, *, eager: bool) -> int:
    queries = model.n_heads * model.head_dim
    keys = model.n_kv_heads * model.head_dim
    norm = model.d_model * 4 + model.d_model * narrow
    if narrow == 2:
        norm += model.d_model * 4  # a norm's fp32 output beside its bf16 copy
    norms = norm if model.block.parallel else 2 * norm
    heads = queries + 2 * keys  # rotated queries and keys, and values, as attention reads them
    if model.qk_norm:
        heads += queries + 2 * keys + queries + keys  # before the norm, and before its scale
    scores = model.n_heads * (_keys_per_query(seq_len) if eager else 1)
    mixed = queries if eager else 2 * queries
    # Gate, up, act(gate) and act(gate) · up; or up and act(up).
    feed_forward = (4 if model.block.gated else 2) * model.d_ffn
    return norms + narrow * (heads + scores + mixed + feed_forward)


def _keys_per_query(seq_len: int) -> int:
    """Mean number of keys each query is scored against in eager attention."""
    blocks = itertools.pairwise(query_blocks(seq_len))
    return sum((end - first) * end for first, end in blocks) // seq_len


def _matmul_bytes(model: ModelConfig, narrow: int) -> int:
    """Bytes of a block that selective recomputation keeps: results of matmuls and attention."""
    queries = model.n_heads * model.head_dim
    heads = queries + 2 * model.n_kv_heads * model.head_dim
    feed_forward = (2 if model.block.gated else 1) * model.d_ffn
    return narrow * (heads + queries + 2 * model.d_model + feed_forward)
