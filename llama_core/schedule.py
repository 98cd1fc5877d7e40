"""The learning rate at every step, and the path of a run: trunk, branches, horizons."""

import math
from dataclasses import dataclass

from llama_core.config import Cosine, TrainConfig, Wsd


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of steps with one schedule.

    Attributes:
        horizon: None on the trunk; else the token budget at which this cooldown (or cosine) ends.
        first_step: steps done when it begins, from the start of the trunk.
        last_step: steps done when it ends.
        rejoins: whether training then returns to the state it began from.
    """

    horizon: int | None
    first_step: int
    last_step: int
    rejoins: bool

    @property
    def steps(self) -> int:
        """Optimizer steps in this segment."""
        return self.last_step - self.first_step


def segments(cfg: TrainConfig) -> tuple[Segment, ...]:
    """The run's path, in the order of training.

    A WSD run alternates trunk and branch: each branch leaves the trunk where its cooldown
    begins, and the trunk continues from there. Nothing follows the last branch, so it alone does
    not rejoin. A cosine run is one segment.
    """
    schedule = cfg.schedule
    if isinstance(schedule, Cosine):
        return (Segment(schedule.tokens, 0, cfg.total_steps, rejoins=False),)
    path: list[Segment] = []
    trunk_step = 0
    for horizon in schedule.horizons:
        start = cooldown_start(schedule, horizon, cfg.batch_tokens)
        if start > trunk_step:
            path.append(Segment(None, trunk_step, start, rejoins=False))
            trunk_step = start
        is_last = horizon == schedule.horizons[-1]
        path.append(Segment(horizon, start, horizon // cfg.batch_tokens, rejoins=not is_last))
    return tuple(path)


def cooldown_start(schedule: Wsd, horizon: int, batch_tokens: int) -> int:
    """Steps on the trunk before the cooldown to `horizon` tokens, which has at least one step."""
    cooldown_steps = max(1, round(schedule.cooldown_fraction * horizon / batch_tokens))
    return horizon // batch_tokens - cooldown_steps


def lr_multiplier(cfg: TrainConfig, step: int, horizon: int | None) -> float:
    """Fraction of the peak learning rate at the step after `step` finished ones.

    Args:
        step: optimizer steps done before this one, from the start of the trunk.
        horizon: the branch's token budget, None on the trunk; ignored by a cosine run.
    """
    return _warmup(cfg, step) * _decay(cfg, step, horizon)


def _warmup(cfg: TrainConfig, step: int) -> float:
    tokens_after = (step + 1) * cfg.batch_tokens
    return min(1.0, tokens_after / cfg.warmup_tokens) if cfg.warmup_tokens else 1.0


def _decay(cfg: TrainConfig, step: int, horizon: int | None) -> float:
    schedule = cfg.schedule
    if isinstance(schedule, Cosine):
        # The cosine spans the steps after the warm-up and reaches its floor at the last one.
        first = min(cfg.warmup_tokens // cfg.batch_tokens, cfg.total_steps - 1)
        share = max(0.0, (step + 1 - first) / (cfg.total_steps - first))
        floor = schedule.final_fraction
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share))
    if horizon is None:
        return 1.0
    last = horizon // cfg.batch_tokens
    start = cooldown_start(schedule, horizon, cfg.batch_tokens)
    # The last step still moves: a rate of exactly zero would waste it.
    share = (step + 1 - start) / (last - start + 1)
    return 1 - share if schedule.shape == "linear" else 1 - math.sqrt(share)


def tokens_spent(cfg: TrainConfig) -> int:
    """Tokens processed by a training with all its branches, in whole steps."""
    return sum(segment.steps for segment in segments(cfg)) * cfg.batch_tokens


def steps_done(cfg: TrainConfig, horizon: int | None, step: int) -> int:
    """Optimizer steps taken, branches included, when a path has come to `step`.

    Args:
        horizon: None on the trunk, else the budget of the cooldown branch or of the cosine.

    Raises:
        ValueError: the run's path has no such step.
    """
    done = 0
    for segment in segments(cfg):
        if segment.horizon == horizon and segment.first_step <= step <= segment.last_step:
            return done + step - segment.first_step
        done += segment.steps
    raise ValueError(f"step {step} with horizon {horizon} is not on the path of this recipe.")
