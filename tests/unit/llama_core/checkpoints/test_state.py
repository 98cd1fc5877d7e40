"""The state of a training comes back as it was, and each rank stores its own part."""

import pytest
import torch

from llama_core.checkpoints.state import (
    capture,
    restore,
    stored_state,
    tensors_sha256,
    trunk_of,
)
from llama_core.config import AdamW
from llama_core.optim import adamw


@pytest.fixture
def training():
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 2)
    return net, adamw(net, AdamW(lr=0.1))


def step(net, optimizer):
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_weights_moments_and_the_step_count_come_back(training):
    step(*training)
    kept = capture(*training)
    assert set(kept) == {
        f"{kind}.{name}"
        for kind in ("weight", "step", "exp_avg", "exp_avg_sq")
        for name in ("weight", "bias")
    }
    before = {name: tensor.clone() for name, tensor in kept.items()}
    step(*training)
    # A copy, which later steps leave alone.
    assert all(torch.equal(kept[name], before[name]) for name in kept)
    assert not torch.equal(capture(*training)["weight.weight"], kept["weight.weight"])
    restore(kept, *training)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in capture(*training).items())


def test_the_first_rank_stores_what_is_not_sharded_and_others_nothing_of_it(training):
    state = capture(*training)
    step(*training)
    trunk = capture(*training)
    stored = stored_state(state, trunk, leads=True)
    assert set(stored) == {*state, *(f"trunk.{name}" for name in trunk)}
    assert torch.equal(stored["trunk.weight.weight"], trunk["weight.weight"])
    assert stored_state(state, trunk, leads=False) == {}
    back = trunk_of(stored, *training)
    assert back.keys() == trunk.keys()
    assert all(torch.equal(back[name], trunk[name]) for name in trunk)
    assert trunk_of(state, *training) == {}


def test_a_hash_is_of_names_types_shapes_and_values():
    tensor = torch.arange(6.0)
    hashes = {
        tensors_sha256(tensors)
        for tensors in (
            {"a": tensor},
            {"b": tensor},
            {"a": tensor.double()},
            {"a": tensor.view(2, 3)},
            {"a": tensor + 1},
            {"a": tensor, "b": tensor},
        )
    }
    assert len(hashes) == 6
    assert tensors_sha256({"a": tensor.view(2, 3).t()}) == tensors_sha256(
        {"a": tensor.view(2, 3).t().contiguous()}
    )
