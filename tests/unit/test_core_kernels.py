import pytest
import torch
import torch.nn.functional as F

from llama_core.kernels import cross_entropy_sum


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cross_entropy_and_its_gradient_are_torchs(dtype):
    generator = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(20, 50, generator=generator)).to(dtype)
    targets = torch.randint(0, 50, (20,), generator=generator)
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    found = cross_entropy_sum(ours, targets)
    expected = F.cross_entropy(theirs.float(), targets, reduction="sum")
    # A sum of twenty terms near ten, in fp32.
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-5)
    (found / 3).backward()
    (expected / 3).backward()
    assert ours.grad.dtype == dtype
    torch.testing.assert_close(
        ours.grad, theirs.grad, rtol=1e-2 if dtype.itemsize == 2 else 1e-5, atol=1e-6
    )


def test_a_target_of_vanishing_probability_has_a_finite_loss():
    logits = torch.tensor([[0.0, 500.0]], requires_grad=True)
    nats = cross_entropy_sum(logits, torch.tensor([0]))
    assert float(nats.detach()) == pytest.approx(500.0)
