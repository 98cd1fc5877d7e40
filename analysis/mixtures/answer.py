"""What a source is worth: the law of a table of mixtures, the best shares, and losses foretold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.law import Array, central
from analysis.mixtures.best import Space, least_loss, outside
from analysis.mixtures.choice import CrossValidation, chosen, cross_validate
from analysis.mixtures.measured import Measured, compare
from analysis.mixtures.question import ROUNDING, Question, share_limits, target_weights
from analysis.mixtures.rows import SAME, SYMBOLS, Mixtures, rows_of, size_range
from analysis.mixtures.surface import Surface
from analysis.table.observations import TableError

# Under these the held-out errors support no choice of a mixture.
_LEAST_RANK, _LEAST_R2 = 0.6, 0.3
# A share this close to the largest one tried lies at its edge.
_EDGE = 0.97
_DOUBLED, _RAISED, _LARGE = 2.0, 1.25, 0.4


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Foretold:
    """The losses of one mixture, as a run would measure them.

    Attributes:
        losses: by source, in the order of the table's.
        pooled: the target.
        outside: how far the mixture is from averages of those tried, in shares; 0 inside.
    """

    shares: Array
    losses: tuple[Estimate, ...]
    pooled: Estimate
    outside: float


@dataclass(frozen=True, slots=True)
class Effect:
    """What `factor` times the share of a source costs each loss, the others shrunk alike.

    Attributes:
        losses: differences of the losses, in the table's unit.
    """

    source: str
    share: float
    factor: float
    losses: tuple[Estimate, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything that `isoflop mix` answers.

    Attributes:
        weights: of the losses in the target (t,).
        scores: every law tried, from few constants to many; `score` is the chosen one's.
        best: the mixture of least loss; intervals of its shares (k, 2).
        best_tried: place of the tried row of least measured loss, of those within the limits; of
            all if none lies within them.
        gain: the target's fall from that row's mixture to the best one, as the law has it.
        mean: the average of the mixtures tried, around which effects are taken.
        limits: of the shares (k,).
        points: mixtures asked for.
        measured: how the law orders them, where they have losses of their own.
        bars, warnings: what must be read before the answer.
        notes: what reading did to the numbers.
    """

    table: Mixtures
    question: Question
    weights: Array
    scores: tuple[CrossValidation, ...]
    score: CrossValidation
    size: dict[str, float]
    best: Foretold
    intervals: Array
    best_tried: int
    gain: Estimate
    mean: Array
    effects: tuple[Effect, ...]
    limits: Array
    points: tuple[Foretold, ...]
    measured: Measured | None
    bars: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


def mix(table: Mixtures, question: Question, points: Mixtures | None = None) -> Answer:
    """The law, the best shares for the target, and the losses of the points.

    Raises:
        TableError: too few mixtures, an unknown target or source, a target that never varies, or
            limits that nothing keeps.
    """
    weights = target_weights(question.target, table.targets)
    if np.ptp(table.losses[:, weights > 0], axis=0).max() == 0:
        raise TableError(
            "every row has the same target, so no shares lower it. Name other losses with --target."
        )
    size = _size(table, question)
    limits = share_limits(question, table.sources, size.get("tokens"))
    corners = np.eye(len(table.sources)) if question.anywhere else table.shares
    space = Space.of(corners, limits, table.sources)
    scores = tuple(cross_validate(table, weights))
    score = chosen(scores)
    foretell = _Foretelling(table, weights, score, question.level)
    sizes = np.array([np.log(size[name]) for name in table.size_names])
    shares = least_loss(score.fitted, weights, space, sizes, 1)
    draws = score.fitted.draws(question.draws, np.random.default_rng(0))
    best_draws = least_loss(draws, weights, space, sizes, question.draws)
    tails = (1 - question.level) / 2
    intervals = np.quantile(best_draws, [tails, 1 - tails], axis=0).T
    intervals = np.column_stack(
        [np.minimum(intervals[:, 0], shares[0]), np.maximum(intervals[:, 1], shares[0])]
    )
    target = table.losses @ weights
    kept = (table.shares <= limits + ROUNDING).all(axis=1)
    best_tried = int(np.where(kept, target, np.inf).argmin() if kept.any() else target.argmin())
    mean = table.shares[np.unique(table.mixture, return_index=True)[1]].mean(axis=0)
    look = _Draws(score.fitted, draws, sizes, question.draws, question.level)
    best = foretell(shares, sizes[None])[0]
    gain = look.target_gain(table.shares[best_tried], shares[0], weights)
    foretold = () if points is None else tuple(foretell(points.shares, points.sizes))
    measured = None
    if points is not None:
        values = np.array([[loss.value for loss in point.losses] for point in foretold])
        measured = compare(values, points.losses, weights, points.targets)
    warnings = (
        *_beyond(table, sizes, points),
        *_own_rows(table, points),
        *_far_points(foretold),
        *_doubtful_best(question, best, gain),
        *_thin_table(table, question, best, limits),
    )
    notes = table.notes
    if points is not None:
        warnings, notes = (*points.doubts, *warnings), (*notes, *points.notes)
    return Answer(
        table, question, weights, scores, score, size, best, intervals, best_tried, gain, mean,
        tuple(look.effects(table.sources, mean)), limits, foretold, measured,
        tuple(_bars(table, score)), warnings, notes,
    )  # fmt: skip


class _Foretelling:
    """Losses with intervals whose width is that of the errors on mixtures held out."""

    def __init__(
        self, table: Mixtures, weights: Array, score: CrossValidation, level: float
    ) -> None:
        self.fitted, self.weights = score.fitted, weights
        self.corners = table.shares
        observed = np.log(table.losses)
        errors = np.abs(observed - score.log_losses) / score.spread
        losses = np.exp(score.log_losses)
        pooled = np.abs((table.losses - losses) @ weights) / ((losses * score.spread) @ weights)
        rows = len(table)
        # The rank of a new error among these, of which it is one more.
        rank = min(1.0, level * (rows + 1) / rows)
        self.widths = np.quantile(errors, rank, axis=0)
        self.pooled_width = float(np.quantile(pooled, rank))

    def __call__(self, shares: Array, sizes: Array) -> list[Foretold]:
        inputs = np.hstack([shares, np.broadcast_to(sizes, (len(shares), sizes.shape[1]))])
        logs, spread = self.fitted.log_losses(inputs), self.fitted.spread(inputs)
        values = np.exp(logs)
        low, high = (np.exp(logs + sign * self.widths * spread) for sign in (-1, 1))
        pooled = values @ self.weights
        half = self.pooled_width * ((values * spread) @ self.weights)
        far = outside(shares, self.corners)
        return [
            Foretold(
                shares[i],
                tuple(map(Estimate, values[i].tolist(), low[i].tolist(), high[i].tolist())),
                Estimate(float(pooled[i]), float(pooled[i] - half[i]), float(pooled[i] + half[i])),
                float(far[i]),
            )
            for i in range(len(shares))
        ]


@dataclass(frozen=True, slots=True)
class _Draws:
    """Differences between mixtures, with intervals from draws of the law."""

    fitted: Surface
    draws: Surface
    sizes: Array
    count: int
    level: float

    def target_gain(self, before: Array, after: Array, weights: Array) -> Estimate:
        pairs = zip(self._losses(before), self._losses(after), strict=True)
        value, draws = ((a - b) @ weights for a, b in pairs)
        return self._estimate(float(value), draws)

    def effects(self, sources: Sequence[str], mean: Array) -> list[Effect]:
        factor = _DOUBLED if mean.max() <= _LARGE else _RAISED
        before = self._losses(mean)
        effects = []
        for place, source in enumerate(sources):
            if not 0 < mean[place] * factor < 1:
                continue
            raised = mean * (1 - factor * mean[place]) / (1 - mean[place])
            raised[place] = factor * mean[place]
            value, draws = (b - a for a, b in zip(before, self._losses(raised), strict=True))
            losses = [self._estimate(float(v), d) for v, d in zip(value, draws.T, strict=True)]
            effects.append(Effect(source, float(mean[place]), factor, tuple(losses)))
        return effects

    def _losses(self, shares: Array) -> tuple[Array, Array]:
        """By the law (t,), and by each draw of it (draws, t)."""
        inputs = np.append(shares, self.sizes)[None]
        value = np.exp(self.fitted.slopes(inputs)[0][0])
        return value, np.exp(self.draws.slopes(np.repeat(inputs, self.count, axis=0))[0])

    def _estimate(self, value: float, draws: Array) -> Estimate:
        low, high = central(draws, self.level)
        return Estimate(value, min(low, value), max(high, value))


def _size(table: Mixtures, question: Question) -> dict[str, float]:
    """N and D to mix for: as asked, else the largest of the table; neither where unknown.

    Raises:
        TableError: N is asked for, and the table has a single one or none.
    """
    size = dict(table.constant)
    for place, name in enumerate(table.size_names):
        size[name] = float(np.exp(table.sizes[:, place].max()))
    if question.params is not None and "n_params" not in table.size_names:
        raise TableError(
            f"--params {question.params:.3g}: the table has one N, so its law knows no other. "
            "Leave the option out."
        )
    given = {"n_params": question.params, "tokens": question.tokens}
    return size | {name: value for name, value in given.items() if value is not None}


def _bars(table: Mixtures, score: CrossValidation) -> Iterator[str]:
    """Why the law supports no choice of shares."""
    if not (score.pooled_rank >= _LEAST_RANK and score.pooled_r2 >= _LEAST_R2):
        yield (
            f"the law foretells the target of mixtures held out with rank correlation "
            f"{score.pooled_rank:.2f} and R² {score.pooled_r2:.2f}: it supports no choice of "
            "shares. Train more mixtures, or mixtures further apart."
        )
    different = int(table.mixture.max()) + 1
    if different < len(table.sources) + 2:
        yield (
            f"{different} different mixtures of {len(table.sources)} sources do not determine what "
            "each source does; what the table does not say is filled in by the law's smoothness."
        )


def _own_rows(table: Mixtures, points: Mixtures | None) -> Iterator[str]:
    """A sentence where points are rows of the table, with their losses."""
    if points is None:
        return
    known, asked = (
        [tuple(row) for row in np.hstack([each.shares.round(4), each.losses]).tolist()]
        for each in (table, points)
    )
    copies = sum(map(set(known).__contains__, asked))
    if copies:
        which = "a point is a row" if copies == 1 else f"{copies} of {len(points)} points are rows"
        yield (
            f"{which} of the table, whose losses the law was fitted to: new mixtures are foretold "
            "less well."
        )


def _far_points(points: Sequence[Foretold]) -> Iterator[str]:
    far = [place for place, point in enumerate(points, 1) if point.outside]
    if far:
        which = (
            f"point {far[0]} lies" if len(far) == 1 else f"{len(far)} of {len(points)} points lie"
        )
        yield (
            f"{which} outside the mixtures tried and their averages, by up to "
            f"{max(point.outside for point in points):.2g} in shares: the law is stretched there."
        )


def _doubtful_best(question: Question, best: Foretold, gain: Estimate) -> Iterator[str]:
    if best.outside:
        yield (
            f"the best mixture lies outside the mixtures tried and their averages, by "
            f"{best.outside:.2g} in shares: the law is stretched there (--anywhere)."
        )
    elif gain.lower <= 0:
        yield (
            "the law does not show the best shares to be better than the best mixture tried: the "
            f"{question.level:.0%} interval of the difference does not lie above 0."
        )


def _thin_table(
    table: Mixtures, question: Question, best: Foretold, limits: Array
) -> Iterator[str]:
    """What the table tried too little of, and what it repeats."""
    most_tried = table.shares.max(axis=0)
    never = [name for name, most in zip(table.sources, most_tried, strict=True) if most == 0]
    if never:
        names = ", ".join(never)
        yield f"no mixture tried has any of {names}: what more of it would do is unknown."
    edge = [
        name
        for name, share, most, limit in zip(
            table.sources, best.shares, most_tried, limits, strict=True
        )
        if 0 < _EDGE * most <= share < _EDGE * limit
    ]
    if edge and not question.anywhere:
        yield (
            f"the best share of {', '.join(edge)} is the largest that was tried, so that a larger "
            "one may be better still."
        )
    same = np.ptp(table.losses, axis=0) == 0
    if same.any():
        names = ", ".join(n for n, never in zip(table.targets, same, strict=True) if never)
        yield f"every row has the same loss of {names}: it says nothing of the shares."
    twice = _repeated(table)
    if twice:
        yield (
            f"rows repeat others' mixture, size and losses: {rows_of(table, twice)}. Each is "
            "counted as a run of its own."
        )


def _beyond(table: Mixtures, sizes: Array, points: Mixtures | None) -> Iterator[str]:
    """A sentence for N and for D where a size to predict at is beyond the table's."""
    for place, name in enumerate(table.size_names):
        known = np.exp(table.sizes[:, place])
        wanted = np.exp(np.append([] if points is None else points.sizes[:, place], sizes[place]))
        far = wanted[(wanted > SAME * known.max()) | (wanted < known.min() / SAME)]
        if len(far):
            yield (
                f"{SYMBOLS[name]} {size_range(far)} is beyond the table's {size_range(known)}: "
                "losses there are stretched from it."
            )


def _repeated(table: Mixtures) -> list[int]:
    """Rows that are equal to an earlier one in all numbers."""
    numbers = np.hstack([table.inputs, table.losses])
    first = np.unique(numbers, axis=0, return_index=True)[1]
    return sorted({*range(len(table))} - {*first.tolist()})
