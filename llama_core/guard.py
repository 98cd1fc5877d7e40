"""Detect a training that has diverged, not one that is merely noisy."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Self

# The smoothed loss looks back over about this many steps.
SMOOTHING_STEPS = 32
# A smoothed loss this far above its own minimum, in nats per token, does not recover within the
# budgets of a sweep: the model has forgotten what it learnt.
EXPLOSION_NATS = 1.0


@dataclass
class LossGuard:
    """Watches loss and gradient norm; after a branch it continues from the trunk's losses."""

    smoothed: float | None = None
    lowest: float = math.inf
    trunk_smoothed: float | None = None
    trunk_lowest: float = math.inf

    def failure_reason(self, loss: float, grad_norm: float) -> str:
        """Why training must end at this step; empty if it need not."""
        if not math.isfinite(loss):
            return f"loss is {loss}"
        if not math.isfinite(grad_norm):
            return f"gradient norm is {grad_norm} at loss {loss:.4f}"
        before = loss if self.smoothed is None else self.smoothed
        self.smoothed = before + (loss - before) / SMOOTHING_STEPS
        self.lowest = min(self.lowest, self.smoothed)
        if self.smoothed > self.lowest + EXPLOSION_NATS:
            return (
                f"loss rose to {self.smoothed:.3f} (mean of about {SMOOTHING_STEPS} steps) from "
                f"{self.lowest:.3f}"
            )
        return ""

    def enter_branch(self) -> None:
        """Remember the trunk's losses."""
        self.trunk_smoothed, self.trunk_lowest = self.smoothed, self.lowest

    def leave_branch(self) -> None:
        """Return to the trunk's losses."""
        self.smoothed, self.lowest = self.trunk_smoothed, self.trunk_lowest

    def to_notes(self) -> dict[str, Any]:
        """The guard's state, for a checkpoint's header."""
        return asdict(self)

    @classmethod
    def from_notes(cls, notes: dict[str, Any]) -> Self:
        """The guard whose state `to_notes` saved."""
        return cls(**notes)
