"""What a change is worth: how many times less compute, or time, a variant needs for equal loss.

The baseline's losses at its best sizes follow L = E + A·C^-b. A variant that reaches L at C FLOPs
is worth (A/(L - E))^(1/b)/C of them: above 1, it needs less.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtri, stdtrit

from analysis.compare import pair_fit
from analysis.compare.comparable import Named
from analysis.compare.pair_fit import BASE, VARIANT, Design
from analysis.compare.problem import NoSpeedup, Problem, free_constants, make_problem
from analysis.compare.speed import speed_ratios
from analysis.law import Array, central
from analysis.table.observations import TableError
from analysis.words import counted

Asymptote = Literal["shared", "free", "given"]
Verdict = Literal["holds", "shrinks with scale", "not shown"]
_MOST_FREEDOM = 1000.0


@dataclass(frozen=True, slots=True)
class Multiplier:
    """How many times less the variant needs; ends are None without an interval or a bound.

    Attributes:
        value: infinite where the baseline never reaches the variant's loss.
    """

    value: float
    lower: float | None
    upper: float | None

    @property
    def gain(self) -> bool:
        """Whether the variant is shown to need less."""
        return self.lower is not None and self.lower > 1


@dataclass(frozen=True, slots=True)
class AtBudget:
    """The compute multiplier at a budget of the variant."""

    flops: float
    compute: Multiplier


@dataclass(frozen=True, slots=True)
class Projection:
    """The compute multiplier at the target, and whether the gain is still there.

    Attributes:
        verdict: `holds` where the gain is shown at the common budgets and at the target;
            `shrinks with scale` where it is shown there and shown to be less at the target.
    """

    flops: float
    compute: Multiplier
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Answer:
    """The multipliers under one assumption about the irreducible loss.

    Attributes:
        E: of the baseline, and of the variant.
        pooled: over the common budgets, the mean of logs.
        projection: None where the variant's tables cannot show a slope of its own.
    """

    asymptote: Asymptote
    E: tuple[float, float]
    E_interval: tuple[float, float] | None
    pooled: Multiplier
    by_budget: tuple[AtBudget, ...]
    projection: Projection | None


@dataclass(frozen=True, slots=True)
class Speedup:
    """What a variant is worth against the baseline.

    Attributes:
        lead: under the assumption that was asked for.
        others: the same under the other assumptions.
        time: None where it was not measured; then `no_time` says why.
        matched: pairs of runs of the same size, compute and seed.
        units: what is drawn together: pairs of runs, or of trainings.
    """

    name: str
    lead: Answer
    others: tuple[Answer, ...]
    time: Multiplier | None
    no_time: str
    matched: int
    units: int
    doubts: tuple[str, ...]


def speedup(
    baseline: Named,
    variant: Named,
    *,
    at: float | None = None,
    asymptote: float | Literal["shared", "free"] = "shared",
    draws: int = 1000,
    level: float = 0.9,
) -> Speedup:
    """How many times less the variant needs than the baseline.

    Both tables are fitted together by `analysis.compare.pair_fit`; the matched runs' residuals
    are drawn together, so that what they share, seed and data order, cancels.

    Args:
        at: budget of the projection; ten times the largest common one when left out.
        asymptote: the irreducible loss: one for both tables, one for each, or a given number.

    Raises:
        TableError: the losses do not compare, or no budget is common.
        NoSpeedup: the rows are too few, or a mixture.
    """
    problem = make_problem(baseline, variant, at=at, draws=draws, level=level)
    rows, paired = problem.rows, problem.paired
    given = asymptote if isinstance(asymptote, float | int) else None
    if given is not None and not 0 <= given < rows.loss.min():
        raise TableError(
            f"--asymptote {given:g} is not below every loss: the lowest is {rows.loss.min():.4f}."
        )
    wanted: Asymptote = "given" if isinstance(asymptote, float | int) else asymptote
    kinds: list[Asymptote] = [wanted, *(k for k in ("shared", "free") if k != wanted)]
    answers = []
    for kind in kinds:
        try:
            answers.append(_answer(problem, kind, given))
        except NoSpeedup:
            if kind == wanted:
                raise
    (lead, pooled), others = answers[0], answers[1:]
    ratios, no_time = speed_ratios(problem.names, problem.frames, paired.pairs)
    return Speedup(
        name=variant[0],
        lead=lead,
        others=tuple(answer for answer, _ in others),
        time=_time(problem, pooled, ratios) if ratios is not None else None,
        no_time=no_time,
        matched=len(paired.pairs),
        units=int(paired.clusters.max()) + 1,
        doubts=tuple(_doubts(problem)),
    )


def _answer(
    problem: Problem, kind: Asymptote, given: float | None
) -> tuple[Answer, tuple[float, Array, float]]:
    """The multipliers under one assumption; also the pooled logarithm, its draws and their stretch.

    Raises:
        NoSpeedup: the rows cannot show it.
    """
    design = free_constants(
        problem, given=given if kind == "given" else None, shared=kind != "free"
    )
    rows, clusters = problem.rows, problem.paired.clusters
    theta = pair_fit.fit(rows, design)
    drawn = freedom = None
    if problem.draws and _spare(problem, design):
        drawn = pair_fit.draw(rows, design, theta, clusters, problem.draws, 0)
        freedom = pair_fit.freedoms(rows, design, theta, clusters)

    def measure(quantity: Callable[[Array], Array]) -> tuple[float, Array, float]:
        value = float(quantity(theta[None])[0])
        if drawn is None or freedom is None or not np.isfinite(value):
            return value, np.array([]), 1.0
        tail = 0.5 + problem.level / 2
        degrees = float(np.clip(freedom(quantity), 1.0, _MOST_FREEDOM))
        return value, quantity(drawn), float(stdtrit(degrees, tail) / ndtri(tail))

    places = [float(np.log(flops)) - problem.centre for flops in problem.budgets]
    pooled = measure(lambda t: np.mean([_log_multiplier(t, z) for z in places], axis=0))
    by_budget = tuple(
        AtBudget(flops, _multiplier(problem, *measure(lambda t, z=z: _log_multiplier(t, z))))  # type: ignore[misc]
        for flops, z in zip(problem.budgets, places, strict=True)
    )
    projection = None
    if design.ties[BASE["b"]] @ design.ties[VARIANT["b"]] == 0:
        far = float(np.log(problem.target)) - problem.centre
        ahead = measure(lambda t: _log_multiplier(t, far))
        growth = measure(
            lambda t: (
                _log_multiplier(t, far) - np.mean([_log_multiplier(t, z) for z in places], axis=0)
            )
        )
        projection = Projection(
            problem.target,
            _multiplier(problem, *ahead),
            _verdict(*(_multiplier(problem, *part) for part in (pooled, ahead, growth))),
        )
    return (
        Answer(
            asymptote=kind,
            E=(float(theta[BASE["E"]]), float(theta[VARIANT["E"]])),
            E_interval=_E_interval(problem, drawn, kind),
            pooled=_multiplier(problem, *pooled),
            by_budget=by_budget,
            projection=projection,
        ),
        pooled,
    )


def _spare(problem: Problem, design: Design) -> bool:
    """Whether each table has more rows than constants, so that its noise is seen."""
    mine = int(problem.rows.of_variant.sum())
    others = len(problem.rows.loss) - mine
    return others > design.of(BASE.values()) and mine > design.of(
        [place for place in VARIANT.values() if not design.ties[place] @ design.ties[place - 4]]
    )


def _log_multiplier(theta: Array, z: float) -> Array:
    """ln of the multiplier at the variant's compute C0·exp(z), of constants (s, 9)."""
    loss = theta[:, VARIANT["E"]] + np.exp(theta[:, VARIANT["k"]] - theta[:, VARIANT["b"]] * z)
    above = loss - theta[:, BASE["E"]]
    # Below the baseline's irreducible loss no compute of it is enough.
    reached = np.log(np.maximum(above, 1e-300))
    logs = (theta[:, BASE["k"]] - reached) / theta[:, BASE["b"]] - z
    return np.asarray(np.where(above > 0, logs, np.inf))


def _multiplier(problem: Problem, value: float, drawn: Array, stretch: float) -> Multiplier:
    """The draws' middle as an interval, stretched by Student's t for the rows that made them."""
    if not len(drawn):
        return Multiplier(_exp(value), None, None)
    tail = (1 - problem.level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], method="inverted_cdf")
    lower, upper = (_exp(value + stretch * (end - value)) for end in (low, high))
    return Multiplier(_exp(value), lower, upper if np.isfinite(upper) else None)


def _exp(value: float) -> float:
    return float(np.exp(min(value, 700.0))) if value < np.inf else np.inf


def _verdict(pooled: Multiplier, ahead: Multiplier, growth: Multiplier) -> Verdict:
    if not pooled.gain:
        return "not shown"
    if growth.upper is not None and growth.upper < 1:
        return "shrinks with scale"
    return "holds" if ahead.gain else "not shown"


def _E_interval(
    problem: Problem, drawn: Array | None, kind: Asymptote
) -> tuple[float, float] | None:
    if drawn is None or kind == "given":
        return None
    return central(drawn[:, BASE["E"]], problem.level)


def _time(problem: Problem, pooled: tuple[float, Array, float], ratios: Array) -> Multiplier:
    """The pooled multiplier times the ratio of measured FLOP/s over matched runs.

    Args:
        ratios: logs of the variant's FLOP/s over the baseline's by pair; NaN where unknown.
    """
    value, drawn, stretch = pooled
    known = np.isfinite(ratios)
    mean = float(ratios[known].mean())
    if len(drawn):
        clusters = problem.paired.clusters
        units = clusters[problem.paired.pairs[known, 0]]
        apart = np.zeros(int(clusters.max()) + 1)
        np.add.at(apart, units, (ratios[known] - mean) / known.sum())
        count = len(np.unique(units))
        grown = np.sqrt(count / (count - 1)) if count > 1 else 1.0
        # The same draws as the losses': see `pair_fit.draw`.
        factors = np.random.default_rng(0).standard_normal((problem.draws, len(apart)))
        drawn = drawn + mean + grown * factors @ apart
    return _multiplier(problem, value + mean, drawn, stretch)


def _doubts(problem: Problem) -> list[str]:
    doubts, names = [], problem.names
    if not len(problem.paired.pairs):
        doubts.append(
            f"No run of {names[1]} has the size, compute and seed of a run of {names[0]}: nothing "
            "cancels, and the intervals are as wide as two separate tables make them."
        )
    if 0 < problem.draws < 2 / (1 - problem.level) - 1e-6:
        drawn = counted(problem.draws, "draw")
        doubts.append(f"Too few for {problem.level:.0%} intervals: {drawn}. Take 1000.")
    return doubts
