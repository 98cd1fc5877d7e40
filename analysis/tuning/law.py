"""How the best learning rate and batch grow with N and D: power laws through surface minima.

lr* = coef · N^exponent_N · D^exponent_D, batch* = coef · D^exponent_D, as in Step Law
(Li et al. 2025) and, with other variables, DeepSeek-AI 2024 and Porian et al. 2024.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from analysis.tuning.surface import Array, Surface

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


@dataclass(frozen=True, slots=True)
class TunedLaw:
    """One power law and how certain it is.

    Attributes:
        coef: None unless `status` is `fitted`.
        exponent_N, exponent_D: None where the points do not identify it, or it is not in the law.
        intervals: by constant; absent where there is none.
        draws: ln coef, exponent_N and exponent_D (0 where not identified), (draws, 3).
        points: number of minima it was fitted through.
        reasons: what is not identified, and why; for people, never searched.
    """

    status: LawStatus
    coef: float | None
    exponent_N: float | None
    exponent_D: float | None
    intervals: dict[str, tuple[float, float]]
    draws: Array
    points: int
    reasons: tuple[str, ...]

    def at(self, N: float, D: float) -> float | None:
        """The law's value; None without a law. An exponent that is not identified counts as 0."""
        if self.coef is None:
            return None
        return float(self.coef * N ** (self.exponent_N or 0) * D ** (self.exponent_D or 0))

    def interval_at(self, N: float, D: float, level: float) -> tuple[float, float] | None:
        """Interval of the law's value at N and D, from the draws."""
        if self.coef is None:
            return None
        logs = self.draws @ np.array([1.0, np.log(N), np.log(D)])
        low, high = np.quantile(logs, [(1 - level) / 2, (1 + level) / 2])
        return float(np.exp(low)), float(np.exp(high))

    def as_json(self, names: Sequence[str]) -> dict[str, Any]:
        """The constants by name, null where not identified, and their intervals."""
        return {
            **{name: getattr(self, name) for name in names},
            "intervals": {
                name: list(self.intervals[name]) if name in self.intervals else None
                for name in names
            },
            "points": self.points,
            "reasons": list(self.reasons),
        }


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
    points: Sequence[TunedPoint], level: float, known: Mapping[str, Exponents] | None = None
) -> tuple[TunedLaw, TunedLaw]:
    """The laws of learning rate and batch through the minima that are not at an edge.

    Args:
        known: prior exponents by `lr` and `batch_tokens`; None fits the trials alone.
    """
    known = known or {}
    return (
        _fit(points, "lr", ("N", "D"), level, known.get("lr")),
        _fit(points, "batch_tokens", ("D",), level, known.get("batch_tokens")),
    )


def _fit(
    points: Sequence[TunedPoint],
    axis: str,
    variables: tuple[str, ...],
    level: float,
    known: Exponents | None,
) -> TunedLaw:
    reasons = []
    usable = []
    for point in points:
        optimum = point.surface.optima.get(axis)
        if optimum is not None and optimum.edge is None and _spread(point, axis) > 0:
            usable.append(point)
    if len(usable) < len(points):
        reasons.append(
            f"{len(points) - len(usable)} of {len(points)} surfaces have no minimum in {axis} "
            "inside the searched range and are left out"
        )
    if not usable:
        return _no_law("no_minimum", 0, reasons)
    logs = {
        "N": np.log([point.N for point in usable]),
        "D": np.log([point.D for point in usable]),
    }
    if known is None and _confounded(logs, variables):
        reasons.append(
            "the exponents of N and D are not identified: N and D rise together over "
            f"the {len(usable)} minima. Tune one size at two budgets"
        )
        return _no_law("confounded", len(usable), reasons)
    identified = list(variables)
    if known is None:
        identified = [name for name in variables if _varies(logs[name])]
        reasons += [
            f"the exponent of {name} is not identified: every minimum is at {name} = "
            f"{np.exp(logs[name].mean()):.3g}; the law holds there and omits {name}"
            for name in variables
            if name not in identified
        ]
    k = _place(usable[0], axis)
    minima = np.stack([point.surface.minimum[k] for point in usable])
    drawn = np.stack([point.surface.minimum_draws[:, k] for point in usable])
    spread = np.array([_spread(point, axis) for point in usable]).clip(_SHARPEST)
    design = np.stack([np.ones(len(usable)), *(logs[name] for name in identified)], axis=1)
    # Columns are centred while solving: raw logs of N and D are nearly constant.
    centre = design.mean(axis=0) * (np.arange(design.shape[1]) > 0)
    weighted, right = (design - centre) / spread[:, None], minima / spread
    right_draws = drawn / spread[:, None]
    if known is not None:
        # Prior exponents enter as further measurements, drawn like the minima.
        root = np.linalg.inv(np.linalg.cholesky(known.covariance))
        weighted = np.vstack([weighted, np.column_stack([np.zeros(len(root)), root])])
        right = np.concatenate([right, root @ known.mean])
        noise = np.random.default_rng(0).standard_normal((len(root), right_draws.shape[1]))
        right_draws = np.vstack([right_draws, (root @ known.mean)[:, None] + noise])
    solve = np.linalg.pinv(weighted)
    coef, draws = solve @ right, (solve @ right_draws).T
    free = len(right) - len(coef)
    if free:
        # Scatter about the law beyond the surfaces' own spread widens the draws (Birge 1932).
        chi2 = float(np.sum((right - weighted @ coef) ** 2))
        draws = coef + (draws - coef) * max(1.0, np.sqrt(chi2 / free))
    else:
        reasons.append(
            f"{len(usable)} minima and as many constants: the scatter of sizes about the law is "
            "unknown and not in its intervals"
        )
    full, full_draws = _raw(coef, centre, identified), _raw(draws, centre, identified)
    names = ["exponent_" + name for name in identified]
    intervals = {
        name: (
            float(np.quantile(column, (1 - level) / 2)),
            float(np.quantile(column, (1 + level) / 2)),
        )
        for name, column in zip(
            ["coef", "exponent_N", "exponent_D"],
            (np.exp(full_draws[:, 0]), full_draws[:, 1], full_draws[:, 2]),
            strict=True,
        )
        if name == "coef" or name in names
    }
    return TunedLaw(
        status="fitted",
        coef=float(np.exp(full[0])),
        exponent_N=float(full[1]) if "N" in identified else None,
        exponent_D=float(full[2]) if "D" in identified else None,
        intervals=intervals,
        draws=full_draws,
        points=len(usable),
        reasons=tuple(reasons),
    )


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
    """Whether N and D vary too much alike over the minima to tell their exponents apart."""
    points = len(logs["N"])
    if len(variables) < 2 or points < 2 or not all(_varies(logs[name]) for name in variables):
        return False
    return points < 3 or abs(np.corrcoef(logs["N"], logs["D"])[0, 1]) > _TOGETHER


def _no_law(status: LawStatus, points: int, reasons: Sequence[str]) -> TunedLaw:
    return TunedLaw(status, None, None, None, {}, np.empty((0, 3)), points, tuple(reasons))


def _raw(coef: Array, centre: Array, identified: Sequence[str]) -> Array:
    """ln coef, exponent_N, exponent_D from centred coefficients (..., p)."""
    raw = np.zeros((*coef.shape[:-1], 3))
    raw[..., 0] = coef[..., 0] - coef[..., 1:] @ centre[1:]
    for place, name in enumerate(identified):
        raw[..., 1 if name == "N" else 2] = coef[..., 1 + place]
    return raw
