"""The guard ends a diverged training, and no other."""

import math

import pytest

from llama_core.guard import EXPLOSION_NATS, SMOOTHING_STEPS, LossGuard


def fed(*losses):
    guard = LossGuard()
    for loss in losses:
        assert guard.failure_reason(loss, 1.0) == ""
    return guard


def test_falling_and_noisy_losses_are_not_a_failure():
    guard = fed(*(5 - number / 100 + 0.5 * (-1) ** number for number in range(300)))
    assert guard.failure_reason(2.0, 1.0) == ""


@pytest.mark.parametrize("loss", [math.inf, -math.inf, math.nan])
def test_a_loss_that_is_not_finite_fails_at_once(loss):
    assert f"loss is {loss}" in fed(2.0).failure_reason(loss, 1.0)


@pytest.mark.parametrize("norm", [math.inf, math.nan])
def test_a_gradient_norm_that_is_not_finite_fails_at_any_loss(norm):
    assert f"gradient norm is {norm} at loss 2.0000" in fed(2.0).failure_reason(2.0, norm)


def test_one_step_moves_the_smoothed_loss_by_its_share():
    guard = fed(2.0, 2.0 + SMOOTHING_STEPS / 2)
    assert guard.smoothed == 2.5
    assert guard.lowest == 2.0


def test_a_rise_of_over_a_nat_above_the_lowest_fails_and_of_one_nat_does_not():
    # Powers of two, so that no sum is rounded.
    assert fed(2.0).failure_reason(2.0 + SMOOTHING_STEPS * EXPLOSION_NATS, 1.0) == ""
    reason = fed(2.0).failure_reason(2.5 + SMOOTHING_STEPS * EXPLOSION_NATS, 1.0)
    assert reason == "loss rose to 3.016 (mean of about 32 steps) from 2.000"


def test_a_rise_is_measured_from_the_lowest_and_not_from_the_first_loss():
    falling = fed(*[4.0] * 10, *[2.0] * 300)
    reason = ""
    for _ in range(2 * SMOOTHING_STEPS):
        reason = reason or falling.failure_reason(4.0, 1.0)
    assert "loss rose to 3.0" in reason


def test_leaving_a_branch_forgets_its_losses_the_lowest_among_them():
    trunk = fed(4.0, 3.9, 3.8)
    before = trunk.smoothed, trunk.lowest
    trunk.enter_branch()
    for _ in range(300):
        trunk.failure_reason(1.0, 1.0)
    assert trunk.lowest < before[1] - EXPLOSION_NATS
    trunk.leave_branch()
    assert (trunk.smoothed, trunk.lowest) == before
    # Else the trunk would look exploded where it goes on.
    assert trunk.failure_reason(3.8, 1.0) == ""


def test_a_guard_saved_in_a_branch_has_the_losses_of_its_trunk():
    guard = fed(4.0, 3.9)
    trunk = guard.smoothed, guard.lowest
    guard.enter_branch()
    guard.failure_reason(1.0, 1.0)
    kept = LossGuard.from_notes(guard.to_notes())
    assert kept == guard
    kept.leave_branch()
    assert (kept.smoothed, kept.lowest) == trunk
