import pytest
import torch
import torch.nn.functional as F

from llama_core.layers import loss
from llama_core.layers.loss import cross_entropy_sum, fused_output_loss


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
    monkeypatch.setattr("llama_core.layers.loss._CPU_WIDE", 350)  # parts of seven rows
    nats, gradient = run()
    torch.testing.assert_close(nats, whole[0], rtol=1e-6, atol=0)  # another order of the sum
    assert torch.equal(gradient, whole[1])


def test_a_target_of_vanishing_probability_has_a_finite_loss():
    logits, targets = torch.tensor([[0.0, 500.0]], requires_grad=True), torch.tensor([0])
    _, nats = cross_entropy_sum(logits, targets)
    assert float(nats) == pytest.approx(500.0)
    x, weight = torch.ones(1, 1, requires_grad=True), logits.detach().T
    objective, nats = fused_output_loss(x, weight, targets, None, torch.tensor(1.0))
    assert float(nats) == pytest.approx(500.0)
    objective.backward()
    assert float(x.grad) == pytest.approx(500.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("z_loss", [0.0, 0.01])
def test_the_fused_loss_in_parts_is_the_output_layer_with_torchs_loss(monkeypatch, z_loss, dtype):
    # Parts of nine rows, the last of two, of what is summed in fp32.
    monkeypatch.setattr(loss, "_CACHED", 450)
    monkeypatch.setattr(loss, "_FEWEST_ROWS", 1)
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 50, (20,), generator=generator)
    ours, theirs = ([t.to(dtype).requires_grad_() for t in _output_layer()] for _ in range(2))
    z = torch.tensor(z_loss) if z_loss else None
    objective, nats = fused_output_loss(*ours, targets, z, torch.tensor(0.3))
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


@pytest.mark.parametrize(
    ("cached", "fewest", "most", "rows"),
    [
        (450, 1, 8, [9, 9, 2]),
        (450, 12, 8, [12, 8]),
        (50, 1, 3, [7, 7, 6]),
    ],
    ids=["what the cache holds", "the fewest rows of a fast product", "the most parts of a graph"],
)
def test_rows_of_a_fused_loss_at_once_follow(monkeypatch, cached, fewest, most, rows):
    for name, value in (("_CACHED", cached), ("_FEWEST_ROWS", fewest), ("_MOST_PARTS", most)):
        monkeypatch.setattr(loss, name, value)
    of_part, parts = loss._fused_losses, []

    def counted(logits, *others):
        parts.append(len(logits))
        return of_part(logits, *others)

    monkeypatch.setattr(loss, "_fused_losses", counted)
    x, weight = (t.requires_grad_() for t in _output_layer())
    fused_output_loss(x, weight, torch.arange(20), None, torch.tensor(1.0))
    assert parts == rows


def _output_layer():
    """Inputs (20, 8) and weights (50, 8) whose logits are about 5."""
    generator = torch.Generator().manual_seed(1)
    shapes = (20, 8), (50, 8)
    return [1.4 * torch.randn(shape, generator=generator) for shape in shapes]
