import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from llama_core.counting import count_params, forward_flops_per_sequence, train_flops
from llama_core.family import FAMILY
from llama_core.model import Llama
from tests.core_tools import tiny


@pytest.mark.parametrize("name", FAMILY)
def test_the_parameter_count_of_a_released_model_is_the_published_one(name):
    published = FAMILY[name]
    assert count_params(published.model).total == published.params
    with torch.device("meta"):
        module = Llama(published.model)
    assert sum(weight.numel() for weight in module.parameters()) == published.params


UNRELEASED = [name for name, published in FAMILY.items() if published.printed is not None]


@pytest.mark.parametrize("name", UNRELEASED)
def test_the_count_of_an_unreleased_model_is_its_papers_within_the_last_printed_digit(name):
    # Not half of it: PaLM 540B is printed as 540.35e9 and has 540.3565e9.
    published = FAMILY[name]
    assert abs(published.params + published.missing_params - published.printed) < published.unit


def test_what_is_not_built_has_its_weights_stated():
    # Relative positions project an embedding of the distance for every head of every layer.
    for name in ("gopher-280b", "chinchilla-70b"):
        model = FAMILY[name].model
        projection = model.d_model * model.n_heads * model.head_dim
        assert FAMILY[name].missing_params == model.n_layers * projection


@pytest.mark.parametrize("changes", [{}, {"n_kv_heads": 2}, {"tie_embeddings": True}])
def test_counted_flops_equal_torchs_without_the_masked_half_of_attention(changes):
    """torch counts full squares of attention; ours counts the causal half with its diagonal."""
    model, seq_len, rows = tiny(**changes), 24, 3
    net = Llama(model, attention="eager")
    net.init_weights(0)
    ids = torch.randint(0, model.vocab_size, (rows, seq_len))
    with FlopCounterMode(display=False) as forward:
        logits = net(ids)
    upper = seq_len * (seq_len - 1) // 2
    above_diagonal = 4 * model.n_layers * model.n_heads * model.head_dim * upper
    counted = rows * (forward_flops_per_sequence(model, seq_len) + above_diagonal)
    assert forward.get_total_flops() == counted

    # torch's counter knows a batched product added to a tensor, but not when it is in place.
    def added(_, left, right, out_shape, **kwargs):
        return 2 * math.prod(left) * right[-1]

    in_place = {torch.ops.aten.baddbmm_: added}
    with FlopCounterMode(display=False, custom_mapping=in_place) as both:
        net(ids).sum().backward()
    assert both.get_total_flops() == 3 * counted
    assert train_flops(model, seq_len, rows * seq_len) == 3 * (counted - rows * above_diagonal)
    assert logits.shape == (rows, seq_len, model.vocab_size)
