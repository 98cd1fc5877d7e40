import pytest
import torch
import torch.nn.functional as F

from llama_core.config import AdamW, Block
from llama_core.counting import count_params
from llama_core.layers.attention import Rope, cached_attention, eager_attention, rotate
from llama_core.model import Llama
from llama_core.optim import adamw
from tests.core_tools import tiny


def build(config, attention="eager"):
    net = Llama(config, attention=attention)
    net.init_weights(0)
    return net


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_counted_parameters_are_those_of_the_module(tied, qk_norm):
    config = tiny(tie_embeddings=tied, qk_norm=qk_norm)
    assert sum(w.numel() for w in build(config).parameters()) == count_params(config).total


# One block of queries, two, and two of different length.
@pytest.mark.parametrize("length", [10, 192, 201])
@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
def test_eager_attention_equals_scaled_dot_product_attention(n_kv_heads, length):
    torch.manual_seed(0)
    q = torch.randn(3, 4, length, 8, requires_grad=True)
    k, v = (torch.randn(3, n_kv_heads, length, 8, requires_grad=True) for _ in "kv")
    weights = torch.randn(q.shape)
    mixed = eager_attention(q, k, v)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    # Orders of summation in fp32 over values near one.
    torch.testing.assert_close(mixed, expected, rtol=0, atol=2e-6)
    ours = torch.autograd.grad((mixed * weights).sum(), (q, k, v))
    theirs = torch.autograd.grad((expected * weights).sum(), (q, k, v))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5)


def test_both_attention_backends_give_the_same_logits():
    ids = torch.randint(0, 32, (2, 16), generator=torch.Generator().manual_seed(0))
    eager, sdpa = build(tiny()), build(tiny(), "sdpa")
    torch.testing.assert_close(eager(ids), sdpa(ids), rtol=0, atol=1e-6)


def test_no_position_sees_a_later_token():
    net = build(tiny())
    ids = torch.randint(0, 32, (1, 12), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[0, 8:] = (changed[0, 8:] + 1) % 32
    before, after = net(ids), net(changed)
    assert torch.equal(before[0, :8], after[0, :8])
    assert not torch.equal(before[0, 8:], after[0, 8:])


def test_rotation_leaves_lengths_and_makes_products_depend_on_distance_alone():
    cos, sin = Rope(8, 10_000.0)(20, torch.device("cpu"))
    x, y = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(0)).unbind()
    xs, ys = rotate(x.expand(1, 1, 20, 8), cos, sin), rotate(y.expand(1, 1, 20, 8), cos, sin)
    torch.testing.assert_close(xs.norm(dim=-1), x.norm(dim=-1).expand(1, 1, 20))
    products = (xs[0, 0, 3:20] * ys[0, 0, 0:17]).sum(-1)
    torch.testing.assert_close(products, products[:1].expand(17), rtol=1e-4, atol=1e-5)


def test_initial_weights_follow_the_seed_and_the_stated_spread():
    config = tiny(d_model=128, d_ffn=256, n_heads=8, head_dim=16, vocab_size=512, n_layers=4)
    first, again = build(config).state_dict(), build(config).state_dict()
    other = Llama(config)
    other.init_weights(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other.state_dict()["lm_head.weight"])
    assert float(first["embed_tokens.weight"].std()) == pytest.approx(0.02, rel=0.02)
    # Written into the stream: divided by sqrt(2 * 4 layers).
    written = first["layers.3.mlp.down_proj.weight"]
    assert float(written.std()) == pytest.approx(0.02 / 8**0.5, rel=0.02)
    assert bool((first["layers.0.self_attn.q_norm.weight"] == 1).all())


def test_norms_start_at_one_and_biases_at_zero():
    block = Block(norm="layer", biases=True, positions="learned", ffn="gelu")
    state = build(tiny(block=block, max_positions=16)).state_dict()
    vectors = {name: weight for name, weight in state.items() if weight.ndim == 1}
    assert {name for name in vectors if name.startswith("layers.0")} == {
        f"layers.0.{name}"
        for name in (
            "input_layernorm.weight", "input_layernorm.bias", "post_attention_layernorm.weight",
            "post_attention_layernorm.bias", "self_attn.q_norm.weight", "self_attn.k_norm.weight",
            "self_attn.qkv_proj.bias", "self_attn.o_proj.bias", "mlp.up_proj.bias",
            "mlp.down_proj.bias",
        )
    }  # fmt: skip
    for name, vector in vectors.items():
        assert bool((vector == (0 if name.endswith("bias") else 1)).all()), name


def test_both_branches_of_a_parallel_block_read_the_same_norm():
    net = build(tiny(block=Block(parallel=True)))
    layer, x = net.layers[0], torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(0))
    cos, sin = net.rope(5, x.device)
    normed = layer.input_layernorm(x)
    expected = x + layer.self_attn(normed, cos, sin) + layer.mlp(normed)
    assert torch.equal(layer(x, cos, sin), expected)
    assert not hasattr(layer, "post_attention_layernorm")


@pytest.mark.parametrize(
    ("ffn", "expected"),
    [
        ("swiglu", lambda gate, up: gate * torch.sigmoid(gate) * up),
        ("geglu", lambda gate, up: F.gelu(gate, approximate="tanh") * up),
        ("gelu", lambda gate, up: F.gelu(up, approximate="tanh")),
        ("relu2", lambda gate, up: up.clamp(min=0) ** 2),
    ],
)
def test_a_feed_forward_computes_what_its_name_says(ffn, expected):
    mlp = build(tiny(block=Block(ffn=ffn, biases=True))).layers[0].mlp
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(0)) * 10
    with torch.no_grad():
        for bias in (weight for weight in mlp.parameters() if weight.ndim == 1):
            bias.copy_(torch.randn(bias.shape, generator=torch.Generator().manual_seed(1)))
        entry = mlp.gate_up_proj if hasattr(mlp, "gate_up_proj") else mlp.up_proj
        projected = F.linear(x, entry.weight, entry.bias)
        hidden = expected(projected[:, :24], projected[:, -24:])
        torch.testing.assert_close(mlp(x), mlp.down_proj(hidden))


def test_only_matrices_decay_and_tied_weights_are_updated_once():
    net = build(tiny(tie_embeddings=True))
    decayed, plain = adamw(net, AdamW(lr=1e-3)).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert all(w.ndim == 2 for w in decayed["params"])
    assert all(w.ndim == 1 for w in plain["params"])
    assert len(decayed["params"]) + len(plain["params"]) == len(list(net.parameters()))


@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_recomputing_activations_leaves_loss_and_gradients_as_they_are(recompute):
    ids = torch.randint(0, 32, (2, 17), generator=torch.Generator().manual_seed(0))
    gradients = []
    for mode in ("off", recompute):
        net = Llama(tiny(), attention="eager", recompute=mode)
        net.init_weights(0)
        F.cross_entropy(net(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()
        gradients.append([weight.grad for weight in net.parameters()])
    assert all(torch.equal(left, right) for left, right in zip(*gradients, strict=True))


@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_recomputing_keeps_less_for_the_backward_pass(recompute):
    def kept(mode):
        net = Llama(tiny(), attention="eager", recompute=mode)
        net.init_weights(0)
        storages = {}

        def note(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            net(torch.zeros(4, 16, dtype=torch.long))
        return sum(storages.values())

    assert kept(recompute) < 0.8 * kept("off")


def test_the_optimizer_has_the_settings_of_the_recipe():
    settings = AdamW(lr=0.5, beta1=0.8, beta2=0.7, eps=1e-3, weight_decay=0.25)
    groups = adamw(Llama(tiny()), settings).param_groups
    for group, decay in zip(groups, (0.25, 0.0), strict=True):
        assert (group["lr"], group["betas"], group["eps"]) == (0.5, (0.8, 0.7), 1e-3)
        assert group["weight_decay"] == decay
    assert {weight.ndim for weight in groups[0]["params"]} == {2}
    assert {weight.ndim for weight in groups[1]["params"]} == {1}


@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
def test_attention_of_the_newest_tokens_is_the_end_of_that_of_all(n_kv_heads):
    torch.manual_seed(0)
    q = torch.randn(2, 4, 10, 8)
    k, v = (torch.randn(2, n_kv_heads, 10, 8) for _ in "kv")
    whole = eager_attention(q, k, v)
    for new in (10, 3, 1):
        newest = cached_attention(q[:, :, -new:], k, v)
        # Orders of summation in fp32.
        torch.testing.assert_close(newest, whole[:, :, -new:], rtol=0, atol=2e-6)
    # Padding before the first key of a row is as if it were not there.
    padded = cached_attention(q[:, :, -3:], k, v, first=torch.tensor([0, 4]))
    torch.testing.assert_close(padded[0], whole[0, :, -3:], rtol=0, atol=2e-6)
    alone = eager_attention(q[1:, :, 4:], k[1:, :, 4:], v[1:, :, 4:])
    torch.testing.assert_close(padded[1], alone[0, :, -3:], rtol=0, atol=2e-6)
