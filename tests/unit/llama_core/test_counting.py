"""FLOPs counted from a shape are those of its matrices and of causal attention."""

import itertools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from llama_core.counting import (
    count_params,
    flops_6nd,
    forward_flops_per_sequence,
    query_blocks,
    train_flops,
)
from llama_core.model import Llama
from tests.core_tools import tiny

SEQ_LEN = 12
SHAPES = pytest.mark.parametrize(
    "shape", [{}, {"n_kv_heads": 2, "qk_norm": False}, {"tie_embeddings": True, "n_layers": 3}]
)


@SHAPES
def test_forward_flops_are_two_for_each_weight_and_token_and_for_each_pair_that_attends(shape):
    model = tiny(**shape)
    with torch.device("meta"):
        net = Llama(model)
    matrices = [part.weight for part in net.modules() if isinstance(part, torch.nn.Linear)]
    products = 2 * SEQ_LEN * sum(weight.numel() for weight in matrices)
    # Position t attends to t positions: a score and a weighted value of head_dim for each.
    width = model.n_layers * model.n_heads * model.head_dim
    attention = sum(2 * 2 * width * position for position in range(1, SEQ_LEN + 1))
    assert forward_flops_per_sequence(model, SEQ_LEN) == products + attention


@SHAPES
def test_counted_flops_equal_torchs_except_for_the_masked_half_of_attention(shape):
    model = tiny(**shape)
    net = Llama(model, attention="eager")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, SEQ_LEN, dtype=torch.long))
    masked = SEQ_LEN**2 - SEQ_LEN * (SEQ_LEN + 1) // 2
    square = 4 * model.n_layers * model.n_heads * model.head_dim * masked
    assert forward_flops_per_sequence(model, SEQ_LEN) == counter.get_total_flops() - square


def test_training_costs_three_forward_passes_of_every_sequence():
    model = tiny()
    forward = forward_flops_per_sequence(model, SEQ_LEN)
    assert train_flops(model, SEQ_LEN, 5 * SEQ_LEN) == 15 * forward
    with pytest.raises(ValueError, match="61 tokens are not whole sequences of seq_len=12"):
        train_flops(model, SEQ_LEN, 5 * SEQ_LEN + 1)


def test_the_estimate_6nd_uses_the_parameters_that_multiply_a_token():
    model = tiny()
    assert flops_6nd(model, 1_000) == 6_000 * count_params(model).n_params


@pytest.mark.parametrize("tied", [False, True])
def test_the_three_counts_differ_by_the_embedding_and_the_head(tied):
    model = tiny(tie_embeddings=tied)
    counts, table = count_params(model), model.vocab_size * model.d_model
    assert counts.n_params - counts.non_embedding == table
    assert counts.total - counts.n_params == (0 if tied else table)


@pytest.mark.parametrize(("length", "blocks"), [(1, 1), (191, 1), (192, 2), (193, 2), (1024, 2)])
def test_blocks_of_queries_cover_a_sequence_without_a_gap(length, blocks):
    ends = query_blocks(length)
    assert (ends[0], ends[-1], len(ends)) == (0, length, blocks + 1)
    assert all(first < end for first, end in itertools.pairwise(ends))
