"""Tell a training that went wrong from one that is only noisy."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Self

# The smoothed loss looks back over about this many steps.
SMOOTHING_STEPS = 32
# A smoothed loss this far above its own minimum, in nats per token, does not come back in the
# budgets of a sweep: it has forgotten what it learnt.
EXPLOSION_NATS = 1.0


@dataclass
class LossGuard:
    """Watches loss and gradient norm; goes back with the trunk when a branch is left."""

    smoothed: float | None = None
    lowest: float = math.inf
    trunk_smoothed: float | None = None
    trunk_lowest: float = math.inf

    def trouble(self, loss: float, grad_norm: float) -> str:
        """Why training must end at this step, or an empty string."""
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
        """Go back to the trunk's losses."""
        self.smoothed, self.lowest = self.trunk_smoothed, self.trunk_lowest

    def to_notes(self) -> dict[str, Any]:
        """For a checkpoint's header."""
        return asdict(self)

    @classmethod
    def from_notes(cls, notes: dict[str, Any]) -> Self:
        """What `to_notes` gave."""
        return cls(**notes)
