"""How the best learning rate and batch grow with N and D: power laws through surface minima.

lr* = coef · N^exponent_N · D^exponent_D, batch* = coef · D^exponent_D, as in Step Law
(Li et al. 2025) and, with other variables, DeepSeek-AI 2024 and Porian et al. 2024.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict, Field

from analysis.law import Array, Frozen, central
from analysis.tuning.surface import Surface
from analysis.words import counted

# `confounded`: N and D rise together over the minima, so no exponent is identified.
LawStatus = Literal["fitted", "confounded", "no_minimum"]
# A quantity that varies by less than this factor over the points does not identify its exponent.
_SPREAD = np.log(1.2)
# No minimum is known to better than a millionth; a smaller spread means a table without noise.
_SHARPEST = 1e-6
# Beyond this correlation of ln N and ln D their exponents cannot be told apart.
_TOGETHER = 0.999


@dataclass(frozen=True, slots=True)
class TunedPoint:
    """The surface of one model size at one budget.

    Attributes:
        N: parameters that multiply a token.
        D: tokens, the mean over the trials, whose budgets are rounded to their batches.
    """

    N: float
    D: float
    surface: Surface


class PowerLaw(Frozen):
    """coef · N^exponent_N · D^exponent_D; None where the trials do not identify a constant.

    Attributes:
        intervals: by constant of the law; None where it has no interval.
        points: number of minima it was fitted through.
        reasons: what is not identified, and why; for people, never searched.
    """

    coef: float | None
    exponent_N: float | None = None
    exponent_D: float | None
    intervals: dict[str, tuple[float, float] | None]
    points: int
    reasons: tuple[str, ...]

    def at(self, N: float, D: float) -> float | None:
        """The value, an exponent that is not identified taken as 0; None without a coefficient."""
        if self.coef is None:
            return None
        return float(self.coef * N ** (self.exponent_N or 0) * D ** (self.exponent_D or 0))


class TunedLaw(PowerLaw):
    """A power law with its draws.

    Attributes:
        draws: ln coef, exponent_N and exponent_D (0 where not identified), (draws, 3).
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    status: LawStatus
    draws: Array = Field(repr=False)

    def interval_at(self, N: float, D: float, level: float) -> tuple[float, float] | None:
        """Interval of the law's value at N and D, from the draws."""
        if self.coef is None:
            return None
        low, high = central(self.draws @ np.array([1.0, np.log(N), np.log(D)]), level)
        return float(np.exp(low)), float(np.exp(high))


@dataclass(frozen=True, slots=True)
class Exponents:
    """Prior knowledge of a law's exponents: a normal distribution.

    Attributes:
        mean: in the order of the law's variables, (k,).
        covariance: (k, k).
        words: its source, for people.
    """

    mean: Array
    covariance: Array
    words: str


def fit_laws(
    points: Sequence[TunedPoint], level: float, prior: Mapping[str, Exponents] | None = None
) -> tuple[TunedLaw, TunedLaw]:
    """The laws of learning rate and batch through the minima that are not at an edge.

    Args:
        prior: exponents by `lr` and `batch_tokens`; None fits the trials alone.
    """
    prior = prior or {}
    return (
        _fit(points, "lr", ("N", "D"), level, prior.get("lr")),
        _fit(points, "batch_tokens", ("D",), level, prior.get("batch_tokens")),
    )


def _fit(
    points: Sequence[TunedPoint],
    axis: str,
    variables: tuple[str, ...],
    level: float,
    prior: Exponents | None,
) -> TunedLaw:
    constants = dict.fromkeys(("coef", *(f"exponent_{name}" for name in variables)))
    no_law: dict[str, Any] = {**constants, "intervals": constants, "draws": np.empty((0, 3))}
    reasons: list[str] = []
    usable = [point for point in points if _has_minimum(point, axis)]
    if len(usable) < len(points):
        reasons.append(
            f"left out: {len(points) - len(usable)} of {counted(len(points), 'surface')}, without "
            f"a minimum in {axis} inside the searched range"
        )
    if not usable:
        return TunedLaw(**no_law, status="no_minimum", points=0, reasons=tuple(reasons))
    logs = {
        "N": np.log([point.N for point in usable]),
        "D": np.log([point.D for point in usable]),
    }
    if prior is None and _confounded(logs, variables):
        reasons.append(
            "the exponents of N and D are not identified: N and D rise together over "
            f"the {len(usable)} minima. Tune one size at two budgets"
        )
        return TunedLaw(**no_law, status="confounded", points=len(usable), reasons=tuple(reasons))
    identified = [name for name in variables if prior is not None or _varies(logs[name])]
    reasons += [
        f"the exponent of {name} is not identified: every minimum is at {name} = "
        f"{np.exp(logs[name].mean()):.3g}; the law holds there and omits {name}"
        for name in variables
        if name not in identified
    ]
    design = np.stack([np.ones(len(usable)), *(logs[name] for name in identified)], axis=1)
    free = len(usable) + (len(prior.mean) if prior else 0) - design.shape[1]
    if not free:
        reasons.append(
            f"as many constants as minima, {len(usable)}: the scatter of sizes about the law is "
            "unknown and not in its intervals"
        )
    solved, solved_draws = _solve(usable, axis, design, prior)
    draws = np.zeros((len(solved_draws), 3))
    draws[:, [0, *("ND".index(name) + 1 for name in identified)]] = solved_draws
    names = ["coef", *(f"exponent_{name}" for name in identified)]
    values = [float(np.exp(solved[0])), *solved[1:].tolist()]
    columns = [np.exp(solved_draws[:, 0]), *solved_draws[:, 1:].T]
    ends = [central(column, level) for column in columns]
    return TunedLaw(
        **constants | dict(zip(names, values, strict=True)),
        intervals=constants | dict(zip(names, ends, strict=True)),
        status="fitted",
        draws=draws,
        points=len(usable),
        reasons=tuple(reasons),
    )


def _solve(
    points: Sequence[TunedPoint], axis: str, design: Array, prior: Exponents | None
) -> tuple[Array, Array]:
    """The law's constants, coef as its logarithm, by weighted least squares: (p,), (draws, p).

    Args:
        design: a column of ones and the logs of the law's variables, (points, p).
    """
    k = _place(points[0], axis)
    spread = np.array([_spread(point, axis) for point in points]).clip(_SHARPEST)
    # Columns are centred while solving: raw logs of N and D are nearly constant.
    centre = design.mean(axis=0) * (np.arange(design.shape[1]) > 0)
    weighted = (design - centre) / spread[:, None]
    right = np.stack([point.surface.minimum[k] for point in points]) / spread
    right_draws = np.stack([point.surface.minimum_draws[:, k] for point in points])
    right_draws = right_draws / spread[:, None]
    if prior is not None:
        # Prior exponents enter as further measurements, drawn like the minima.
        root = np.linalg.inv(np.linalg.cholesky(prior.covariance))
        weighted = np.vstack([weighted, np.column_stack([np.zeros(len(root)), root])])
        right = np.concatenate([right, root @ prior.mean])
        noise = np.random.default_rng(0).standard_normal((len(root), right_draws.shape[1]))
        right_draws = np.vstack([right_draws, (root @ prior.mean)[:, None] + noise])
    solve = np.linalg.pinv(weighted)
    coef, draws = solve @ right, (solve @ right_draws).T
    if free := len(right) - len(coef):
        # Scatter about the law beyond the surfaces' own spread widens the draws (Birge 1932).
        chi2 = float(np.sum((right - weighted @ coef) ** 2))
        draws = coef + (draws - coef) * max(1.0, np.sqrt(chi2 / free))
    for constants in (coef, draws):
        constants[..., 0] -= constants[..., 1:] @ centre[1:]
    return coef, draws


def _has_minimum(point: TunedPoint, axis: str) -> bool:
    """Whether the surface has a minimum along the axis inside the searched range."""
    optimum = point.surface.optima.get(axis)
    return optimum is not None and optimum.edge is None and _spread(point, axis) > 0


def _place(point: TunedPoint, axis: str) -> int:
    return [searched.name for searched in point.surface.axes].index(axis)


def _spread(point: TunedPoint, axis: str) -> float:
    """Half the width of the middle 68 % of a minimum's draws, in logs; 0 when all are at an end."""
    drawn = point.surface.minimum_draws[:, _place(point, axis)]
    low, high = np.quantile(drawn, [0.16, 0.84])
    return float(high - low) / 2


def _varies(logs: Array) -> bool:
    return bool(np.ptp(logs) >= _SPREAD)


def _confounded(logs: dict[str, Array], variables: tuple[str, ...]) -> bool:
    """Whether N and D are too correlated over the minima to separate their exponents."""
    points = len(logs["N"])
    if len(variables) < 2 or points < 2 or not all(_varies(logs[name]) for name in variables):
        return False
    return bool(abs(np.corrcoef(logs["N"], logs["D"])[0, 1]) > _TOGETHER)
