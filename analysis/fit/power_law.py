"""Power laws through the minima of valleys, weighted by their errors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from analysis.law import Array


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """y = coef · C^exponent; intervals by Student's t on the budgets, None with only two."""

    exponent: float
    coef: float
    exponent_interval: tuple[float, float] | None
    coef_interval: tuple[float, float] | None
    budgets: int

    def at(self, flops: float) -> float:
        """The law's value at a budget."""
        return float(self.coef * flops**self.exponent)


def power_law(log_C: Array, log_y: Array, level: float, weights: Array | None = None) -> PowerLaw:
    """Weighted least squares of ln y on ln C, its scale estimated from the residuals."""
    weights = np.ones_like(log_C) if weights is None else weights
    centre = float(np.average(log_C, weights=weights))
    design = np.stack([np.ones_like(log_C), log_C - centre], axis=1)
    inverse = np.linalg.pinv(design.T @ (design * weights[:, None]))
    c = inverse @ (design.T @ (weights * log_y))
    exponent, log_coef = float(c[1]), float(c[0] - c[1] * centre)
    freedom = len(log_C) - 2
    if freedom < 1:
        return PowerLaw(exponent, float(np.exp(log_coef)), None, None, len(log_C))
    residual = log_y - design @ c
    variance = float((weights * residual**2).sum()) / freedom * inverse
    width = float(stdtrit(freedom, 0.5 + level / 2))
    half = width * float(np.sqrt(variance[1, 1]))
    at_one = np.array([1.0, -centre])
    half_coef = width * float(np.sqrt(at_one @ variance @ at_one))
    return PowerLaw(
        exponent,
        float(np.exp(log_coef)),
        (exponent - half, exponent + half),
        (float(np.exp(log_coef - half_coef)), float(np.exp(log_coef + half_coef))),
        len(log_C),
    )


def weighted(
    log_C: Array, log_y: Array, errors: Sequence[float | None], level: float
) -> PowerLaw | None:
    """The power law with each minimum weighing by its own and the budgets' common variance."""
    if any(error is None for error in errors) or len(log_C) < 3:
        return None
    variance = np.array([float(error or 0.0) ** 2 for error in errors])
    variance = np.maximum(variance, 1e-12)
    weights = 1 / variance
    design = np.stack([np.ones_like(log_C), log_C - log_C.mean()], axis=1)
    inverse = np.linalg.pinv(design.T @ (design * weights[:, None]))
    residual = log_y - design @ (inverse @ (design.T @ (weights * log_y)))
    excess = float((weights * residual**2).sum()) - (len(log_C) - 2)
    squares = design.T @ (design * (weights**2)[:, None])
    between = max(0.0, excess / (weights.sum() - float(np.trace(inverse @ squares))))
    return power_law(log_C, log_y, level, 1 / (variance + between))
