"""Rows and objectives: what a fit minimises."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.law import Array

ObjectiveName = Literal["huber_log", "lad_log", "mse_log", "mse"]


@dataclass(frozen=True, slots=True)
class Rows:
    """What a fit sees of a table: centred logs of N and D, and the loss.

    Attributes:
        n: ln N minus `n_mean`.
        d: ln D minus `d_mean`.
        loss: positive.
        unique: ln of the unique tokens minus `d_mean`; None where no form needs it.
    """

    n: Array
    d: Array
    loss: Array
    n_mean: float
    d_mean: float
    unique: Array | None = None

    @classmethod
    def of(cls, N: Array, D: Array, loss: Array, unique: Array | None = None) -> "Rows":
        """Rows of positive N, D and loss, equally long."""
        n, d = np.log(N), np.log(D)
        u = None if unique is None else np.log(unique) - d.mean()
        return cls(n - n.mean(), d - d.mean(), np.asarray(loss, float), n.mean(), d.mean(), u)

    @property
    def places(self) -> int:
        """Different N and D (and unique tokens), to 0.1 %: runs that differ in luck share one."""
        logs = (self.n, self.d) if self.unique is None else (self.n, self.d, self.unique)
        return len(np.unique(np.round(np.stack(logs), 3), axis=1).T)


@dataclass(frozen=True, slots=True)
class Objective:
    """Sum over rows of weight times a penalty of the residual.

    huber_log: Huber's penalty with `delta` of log prediction minus log loss.
    lad_log: its absolute value, as the limit of huber_log/delta (`delta` is then the
        smoothing, small enough not to show in the digits printed).
    mse_log, mse: half the squared residual, of log-loss or of loss.

    Raises:
        ValueError: delta is not positive.
    """

    name: ObjectiveName
    delta: float = 1e-3

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise ValueError(
                f"delta={self.delta} must be positive: it is where Huber turns linear."
            )

    @property
    def on_log(self) -> bool:
        """Whether residuals are differences of logs."""
        return self.name != "mse"

    def residual(self, prediction_log: Array, loss: Array) -> Array:
        """Prediction minus observation on the objective's scale; broadcasts."""
        if self.on_log:
            return prediction_log - np.log(loss)
        return np.exp(prediction_log) - loss

    def penalty(self, residual: Array) -> Array:
        """The penalty of each residual."""
        if self.name in ("mse", "mse_log"):
            return 0.5 * residual**2
        size = np.abs(residual)
        if self.name == "lad_log":
            return size
        inner = np.minimum(size, self.delta)
        return inner * (size - 0.5 * inner)

    def derivatives(self, residual: Array) -> tuple[Array, Array, Array]:
        """Penalty (smoothed for lad_log) with its first and second derivative."""
        if self.name in ("mse", "mse_log"):
            return 0.5 * residual**2, residual, np.ones_like(residual)
        first = np.clip(residual, -self.delta, self.delta)
        value = first * (residual - 0.5 * first)
        second = (np.abs(residual) <= self.delta).astype(float)
        if self.name == "huber_log":
            return value, first, second
        scale = 1.0 / self.delta
        return value * scale, first * scale, second * scale


# Hoffmann et al. 2022, eq. 3.
HUBER = Objective("huber_log")
