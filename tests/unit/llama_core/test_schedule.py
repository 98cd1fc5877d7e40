import itertools
import math

import pytest

from llama_core.config import Wsd
from llama_core.schedule import lr_multiplier, segments, steps_done, tokens_spent
from tests.core_tools import BATCH_TOKENS, recipe


def test_warm_up_rises_linearly_in_tokens_and_reaches_one():
    cfg = recipe(100, warmup_tokens=4 * BATCH_TOKENS)
    rates = [lr_multiplier(cfg, step, None) for step in range(6)]
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_without_warm_up_the_first_step_has_the_full_rate():
    assert lr_multiplier(recipe(100, warmup_tokens=0), 0, None) == 1.0


def test_the_trunk_keeps_the_peak_and_every_branch_falls_towards_zero():
    cfg = recipe(100, 200)
    assert all(lr_multiplier(cfg, step, None) == 1.0 for step in range(2, 140))
    for horizon in cfg.schedule.horizons:
        last = horizon // BATCH_TOKENS
        branch = [lr_multiplier(cfg, step, horizon) for step in range(round(0.7 * last), last)]
        assert all(a > b > 0 for a, b in itertools.pairwise(branch))
        # Of n cooldown steps the first has n/(n+1) of the peak and the last 1/(n+1).
        assert branch[0] == pytest.approx(len(branch) / (len(branch) + 1))
        assert branch[-1] == pytest.approx(1 / (len(branch) + 1))


def test_one_minus_sqrt_lies_below_the_line_inside_the_cooldown():
    tokens = 100 * BATCH_TOKENS
    line = recipe(100)
    root = line.model_copy(update={"schedule": Wsd(horizons=(tokens,), shape="one_minus_sqrt")})
    for step in range(70, 100):
        assert 0 <= lr_multiplier(root, step, tokens) < lr_multiplier(line, step, tokens)


def test_cosine_ends_at_a_tenth_and_passes_its_middle_halfway():
    cfg = recipe(101, cosine=True, warmup_tokens=BATCH_TOKENS)
    horizon = cfg.schedule.tokens
    assert lr_multiplier(cfg, 100, horizon) == pytest.approx(0.1)
    assert lr_multiplier(cfg, 50, horizon) == pytest.approx(0.55)
    assert lr_multiplier(cfg, 0, horizon) == pytest.approx(1.0)


def test_the_trunk_is_trained_once_and_every_branch_but_the_last_rejoins():
    path = segments(recipe(10, 20, 40))
    walked = [(s.horizon, s.first_step, s.last_step, s.rejoins) for s in path]
    tokens = BATCH_TOKENS
    assert walked == [
        (None, 0, 7, False),
        (10 * tokens, 7, 10, True),
        (None, 7, 14, False),
        (20 * tokens, 14, 20, True),
        (None, 14, 28, False),
        (40 * tokens, 28, 40, False),
    ]


def test_horizons_too_close_to_part_share_a_branching_point():
    path = segments(recipe(2, 3))
    assert sum(s.steps for s in path if s.horizon is None) == 2
    assert [s.horizon for s in path if s.horizon] == [2 * BATCH_TOKENS, 3 * BATCH_TOKENS]


def test_a_run_of_one_step_is_all_cooldown():
    (only,) = segments(recipe(1))
    assert (only.first_step, only.last_step, only.horizon) == (0, 1, BATCH_TOKENS)
    assert math.isfinite(lr_multiplier(recipe(1), 0, BATCH_TOKENS))


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.3, 0.5, 0.9])
def test_every_branch_is_paid_once_beside_the_trunk(fraction):
    for short in range(1, 60):
        schedule = Wsd(
            horizons=(short * BATCH_TOKENS, 60 * BATCH_TOKENS), cooldown_fraction=fraction
        )
        cfg = recipe(1).model_copy(update={"schedule": schedule})
        cooldown = max(1, round(fraction * short))
        assert tokens_spent(cfg) == (60 + cooldown) * BATCH_TOKENS


def test_steps_done_count_every_step_of_the_path_once_in_the_order_of_training():
    cfg = recipe(10, 11, 40)
    walked = [
        steps_done(cfg, segment.horizon, step)
        for segment in segments(cfg)
        for step in range(segment.first_step + 1, segment.last_step + 1)
    ]
    assert walked == list(range(1, tokens_spent(cfg) // BATCH_TOKENS + 1))


def test_a_step_that_is_not_on_the_path_is_refused():
    with pytest.raises(ValueError, match="step 41 with horizon None is not on the path"):
        steps_done(recipe(10, 40), None, 41)


def test_a_cosine_that_is_all_warm_up_still_has_a_last_step():
    cfg = recipe(10, cosine=True, warmup_tokens=10 * BATCH_TOKENS)
    rates = [lr_multiplier(cfg, step, cfg.schedule.tokens) for step in range(10)]
    assert rates[:9] == pytest.approx([step / 10 for step in range(1, 10)])
    assert rates[9] == pytest.approx(0.1)
