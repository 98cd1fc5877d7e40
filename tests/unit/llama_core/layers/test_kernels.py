import pytest
import torch
import torch.nn.functional as F

from llama_core.layers import kernels
from llama_core.layers.attention import Rope, eager_attention, rotate
from llama_core.layers.kernels import cross_entropy_sum, fused_output_loss, rms_norm


@pytest.fixture(params=["eager", "compiling"])
def compiling(request, monkeypatch):
    """Runs what a compiler traces as well, by torch's own kernels."""
    if request.param == "compiling":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cross_entropy_and_its_gradient_times_a_factor_are_torchs(dtype):
    generator = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(20, 50, generator=generator)).to(dtype)
    targets = torch.randint(0, 50, (20,), generator=generator)
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    objective, nats = cross_entropy_sum(ours, targets, 0.3)
    expected = F.cross_entropy(theirs.float(), targets, reduction="sum")
    # A sum of twenty terms near ten, in fp32.
    torch.testing.assert_close(nats, expected, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(objective, 0.3 * expected, rtol=1e-6, atol=1e-5)
    assert not nats.requires_grad
    (objective / 3).backward()
    (0.1 * expected).backward()
    assert ours.grad.dtype == dtype
    torch.testing.assert_close(
        ours.grad, theirs.grad, rtol=1e-2 if dtype.itemsize == 2 else 1e-5, atol=1e-6
    )


def test_cross_entropy_in_parts_is_that_of_all_rows(monkeypatch):
    logits = torch.randn(20, 50, generator=torch.Generator().manual_seed(0)).bfloat16()
    targets = torch.arange(20)

    def run():
        leaf = logits.clone().requires_grad_()
        objective, nats = cross_entropy_sum(leaf, targets)
        objective.backward()
        return nats, leaf.grad

    whole = run()
    monkeypatch.setattr("llama_core.layers.kernels._CPU_WIDE", 350)  # parts of seven rows
    nats, gradient = run()
    torch.testing.assert_close(nats, whole[0], rtol=1e-6, atol=0)  # another order of the sum
    assert torch.equal(gradient, whole[1])


def test_a_target_of_vanishing_probability_has_a_finite_loss():
    logits, targets = torch.tensor([[0.0, 500.0]], requires_grad=True), torch.tensor([0])
    _, nats = cross_entropy_sum(logits, targets)
    assert float(nats) == pytest.approx(500.0)
    x, weight = torch.ones(1, 1, requires_grad=True), logits.detach().T
    objective, nats = fused_output_loss(x, weight, targets, 0.0, 1.0)
    assert float(nats) == pytest.approx(500.0)
    objective.backward()
    assert float(x.grad) == pytest.approx(500.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("z_loss", [0.0, 0.01])
def test_the_fused_loss_in_parts_is_the_output_layer_with_torchs_loss(monkeypatch, z_loss, dtype):
    # Parts of nine rows, the last of two, of what is summed in fp32.
    monkeypatch.setattr(kernels, "_CACHED", 450)
    monkeypatch.setattr(kernels, "_FEWEST_ROWS", 1)
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 50, (20,), generator=generator)
    ours, theirs = ([t.to(dtype).requires_grad_() for t in _output_layer()] for _ in range(2))
    objective, nats = fused_output_loss(*ours, targets, z_loss, 0.3)
    logits = (theirs[0] @ theirs[1].T).float()
    expected = F.cross_entropy(logits, targets, reduction="sum")
    with_z = 0.3 * (expected + z_loss * logits.logsumexp(-1).square().sum())
    torch.testing.assert_close(nats, expected, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(objective, with_z, rtol=1e-6, atol=1e-5)
    assert not nats.requires_grad
    (objective / 3).backward()
    (with_z / 3).backward()
    for our, their in zip(ours, theirs, strict=True):
        assert our.grad.dtype == dtype
        tolerance = 2e-2 if dtype.itemsize == 2 else 1e-5
        torch.testing.assert_close(
            our.grad, their.grad, rtol=tolerance, atol=tolerance * float(their.grad.abs().max())
        )


def _output_layer():
    """Inputs (20, 8) and weights (50, 8) whose logits are about 5."""
    generator = torch.Generator().manual_seed(1)
    shapes = (20, 8), (50, 8)
    return [1.4 * torch.randn(shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_rms_norm_and_its_gradients_are_those_of_fp64(size):
    generator = torch.Generator().manual_seed(0)
    draws = [torch.randn(2, 9, 24, generator=generator) for _ in range(2)]
    scale = torch.rand(24, generator=generator) + 0.5

    def run(norm, dtype):
        x = (size * draws[0]).to(dtype).requires_grad_()
        weight = scale.to(dtype, copy=True).requires_grad_()
        out = norm(x, weight)
        out.backward(draws[1].to(dtype))
        return out.detach().double(), size * x.grad.double(), weight.grad.double()

    computed = run(lambda x, weight: rms_norm(x, weight, 1e-5), torch.float32)
    exact = run(lambda x, weight: F.rms_norm(x, (24,), weight, 1e-5), torch.float64)
    for ours, theirs in zip(computed, exact, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6 * float(theirs.abs().max()))


def test_rms_norm_of_bf16_is_the_rounded_norm_of_fp32_with_a_scale_for_each_vector():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, 8, generator=generator).bfloat16().requires_grad_()
    scale = torch.rand(3, 8, generator=generator).requires_grad_()
    out = rms_norm(x, scale, 1e-5)
    wide = x.detach().float().requires_grad_()
    same_scale = scale.detach().clone().requires_grad_()
    exact = F.rms_norm(wide, (8,), eps=1e-5) * same_scale
    assert torch.equal(out, exact.bfloat16())
    out.backward(torch.ones_like(out))
    exact.backward(torch.ones_like(exact))
    assert torch.allclose(x.grad.float(), wide.grad, rtol=1e-2, atol=1e-2)  # rounded to bf16
    torch.testing.assert_close(scale.grad, same_scale.grad)


@pytest.mark.usefixtures("compiling")
# fp32 differs by the order of sums; of bf16 a part in 256 is lost at each of ten operations.
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 4e-2)])
@pytest.mark.parametrize("length", [10, 201])
def test_attention_that_rotates_and_its_gradients_are_those_of_sdpa_in_fp64(length, dtype, close):
    generator = torch.Generator().manual_seed(0)
    draws = [torch.randn(2, heads, length, 8, generator=generator) for heads in (4, 2, 2, 4)]
    tables = Rope(8, 100.0)(length, torch.device("cpu"))

    def run(attend, dtype):
        q, k, v = (draw.to(dtype).requires_grad_() for draw in draws[:3])
        out = attend(q, k, v, *(table.to(dtype) for table in tables))
        out.backward(draws[3].to(dtype))
        return [tensor.double() for tensor in (out.detach(), q.grad, k.grad, v.grad)]

    def exactly(q, k, v, cos, sin):
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    exact = run(exactly, torch.float64)
    for ours, theirs in zip(run(eager_attention, dtype), exact, strict=True):
        assert (ours - theirs).norm() < close * theirs.norm()
