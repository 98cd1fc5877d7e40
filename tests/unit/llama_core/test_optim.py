"""Muon steps each matrix of the layers as torch's own would, AdamW everything else."""

import pytest
import torch

from llama_core.config import AdamW, Block, Muon, Placement
from llama_core.model import Llama
from llama_core.optim import MuonWithAdamW, optimizer_of
from llama_core.train import train
from tests.core_tools import batches, recipe, tiny


def drawn(config):
    net = Llama(config, attention="eager")
    net.init_weights(0)
    return net


def stepped(net, optimizer, steps=2):
    ids = torch.randint(0, 32, (2, 16), generator=torch.Generator().manual_seed(2))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 / (step + 1)
        net.zero_grad()
        net(ids).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize(
    "changes",
    [
        {"block": Block(positions="learned", biases=True, parallel=True), "max_positions": 16},
        {"tie_embeddings": True, "block": Block(ffn="gelu", norm="layer")},
    ],
)
def test_muon_steps_every_matrix_by_itself_as_torchs_own_to_the_bit(changes):
    config = tiny(n_kv_heads=2, **changes)
    net, theirs = drawn(config), drawn(config)
    cfg = Muon(lr=0.01, momentum=0.9, weight_decay=0.2)
    stepped(net, optimizer_of(net, cfg))

    parts, vectors, tables = {}, [], []
    for name, weight in theirs.named_parameters():
        if name.startswith("layers") and weight.ndim == 2:
            # Two heads of 8 for queries, keys and values; 24 rows of gate and of up.
            count = {"qkv_proj": 3, "gate_up_proj": 2}.get(name.split(".")[-2], 1)
            parts[weight] = [part.clone() for part in weight.detach().chunk(count)]
        else:
            (tables if weight.ndim == 2 else vectors).append(weight)
    muon = torch.optim.Muon(
        [part for pieces in parts.values() for part in pieces],
        lr=0.01, momentum=0.9, weight_decay=0.2, adjust_lr_fn="match_rms_adamw",
    )  # fmt: skip
    rest = torch.optim.AdamW(
        [{"params": tables, "weight_decay": 0.2}, {"params": vectors, "weight_decay": 0.0}],
        lr=0.01, betas=(0.9, 0.95), fused=True,
    )  # fmt: skip

    class Both:
        param_groups = (*muon.param_groups, *rest.param_groups)

        @staticmethod
        def step():
            for weight, pieces in parts.items():
                for part, gradient in zip(pieces, weight.grad.chunk(len(pieces)), strict=True):
                    part.grad = gradient
            muon.step()
            rest.step()
            for weight, pieces in parts.items():
                weight.data.copy_(torch.cat(pieces))

    stepped(theirs, Both)
    before = drawn(config).state_dict()
    for name, weight in net.state_dict().items():
        assert torch.equal(weight, theirs.state_dict()[name]), name
        assert not torch.equal(weight, before[name]), name


def test_an_update_of_muon_is_as_large_as_one_of_adamw():
    net = drawn(tiny(d_model=64, d_ffn=192, head_dim=32))
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    stepped(net, optimizer_of(net, Muon(lr=0.01, weight_decay=0.0)), steps=1)
    for name in ("layers.0.self_attn.o_proj.weight", "layers.1.mlp.down_proj.weight"):
        size = (net.state_dict()[name] - before[name]).square().mean().sqrt()
        # 0.2 times lr: AdamW's updates have a root mean square of 0.2 to 0.4 (Liu et al. 2025,
        # section 2.2), and Newton-Schulz leaves singular values within 0.7 to 1.2 or so.
        assert 0.2 * 0.01 * 0.6 < float(size) < 0.2 * 0.01 * 1.3, name


def test_muon_holds_one_number_for_a_matrix_of_the_layers_and_no_gradient_after_a_step():
    net = drawn(tiny())
    optimizer = optimizer_of(net, Muon(lr=0.01))
    assert isinstance(optimizer, MuonWithAdamW)
    for name, weight in net.named_parameters():
        hidden = name.startswith("layers") and weight.ndim == 2
        kinds = {"momentum_buffer"} if hidden else {"step", "exp_avg", "exp_avg_sq"}
        assert set(optimizer.state[weight]) == kinds, name
    stepped(net, optimizer, steps=1)
    held = [part.grad for group in optimizer.param_groups[:1] for part in group["params"]]
    assert held == [None] * len(held)
    assert isinstance(optimizer_of(net, AdamW(lr=0.01)), torch.optim.AdamW)


def test_muon_on_split_matrices_is_refused():
    cfg = recipe(4, optimizer=Muon(lr=0.01))
    with pytest.raises(ValueError, match=r"Use placement\.sharding=replicate"):
        next(train(tiny(), cfg, batches(cfg), placement=Placement(ranks=2, sharding="shard")))
