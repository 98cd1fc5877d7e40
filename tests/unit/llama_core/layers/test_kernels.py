import pytest
import torch
import torch.nn.functional as F

from llama_core.layers.attention import Rope, eager_attention, rotate
from llama_core.layers.kernels import rms_norm


@pytest.fixture(params=["eager", "compiling"])
def compiling(request, monkeypatch):
    """Runs what a compiler traces as well, by torch's own kernels."""
    if request.param == "compiling":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)


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
