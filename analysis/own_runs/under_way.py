"""Where a training under way will end: the sweep's forecast, moved by the run's own curve so far.

Every recorded loss of a sweep teaches the forecast, y = ln L(N, D). The curve of a
training says more about itself. Under `wsd` a cooldown begun now, at D tokens, would end at
D' = D/(1 - its share) and lower ln L by a drop. The drop is learnt from the trunks that have passed
D, where all have just seen the same batches: from each curve there to its y at D', between its
recorded losses. Where few have come so far, it is learnt from the cooldowns that are finished.
Curve less drop is thus a measurement of y(N, D'), with the spread of the drops for noise, and y at
the horizons ahead is conditioned on it: they share the law, its error, and what luck of the run
the curve can show. Under `cosine` nothing can be ended early: the drop is that of the
finished runs from the same share of their tokens to their ends, and measures y at the end itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from analysis.forecast.answer import Answer, Question, forecast
from analysis.forecast.posterior import Posterior
from analysis.forecast.rows import NEEDS, too_few
from analysis.law import Array, deviations
from analysis.own_runs.outcome import Interval
from analysis.table.observations import Table, TableError

LEVEL = 0.9
# A curve's loss is its mean over the last fifth of its tokens: single batches are too noisy.
_WINDOW = 1.25
# Of the drops about their plane over ln N and ln D, in ln L: the spread expected before any is
# seen, counted as three of them, and by how much the plane may slope per e-fold.
_SPREAD, _COUNT = 0.003, 3.0
_SLOPE = 0.02
# Of what a run's last cooldown was off from those of its neighbours, the part that its next keeps.
_KEPT = 0.5
_BEFORE = 4.0  # sizes left out, see `_left_out`
_NEIGHBOURS = 30  # trunks, the nearest in size, are compared
_STRAY = "the losses so far follow no law closely, so the end is less sure than it looks"
# Curve and law may differ by two deviations of their difference; beyond, both are trusted less.
_APART = 2.0


@dataclass(frozen=True, slots=True)
class Horizon:
    """A token count at which a training ends, or ends a branch.

    Attributes:
        start: tokens at which its cooldown begins; its own tokens under `cosine`.
        loss: None while it is ahead.
    """

    tokens: int
    start: int
    loss: float | None


@dataclass(frozen=True, slots=True)
class Trunk:
    """A training's curve before any cooldown, or its whole curve under `cosine`.

    Attributes:
        tokens, losses, steps: at the end of each bin, its mean loss and its steps; (bins,).
        horizons: by growing tokens.
    """

    n_params: int
    tokens: Array
    losses: Array
    steps: Array
    horizons: tuple[Horizon, ...]
    cosine: bool = False

    @property
    def reached(self) -> float:
        """Tokens to which the curve has come; 0 without one."""
        return float(self.tokens[-1]) if len(self.tokens) else 0.0

    @property
    def recorded(self) -> list[tuple[float, float]]:
        """Tokens and loss of the horizons behind."""
        return [(float(each.tokens), each.loss) for each in self.horizons if each.loss is not None]

    def log_loss(self, tokens: float) -> float:
        """ln of the mean loss over the last fifth of these tokens; NaN where there is no curve."""
        within = (self.tokens > tokens / _WINDOW) & (self.tokens <= tokens * (1 + 1e-9))
        if not within.any() or tokens > _WINDOW * self.reached:
            return float("nan")
        return float(np.log(np.average(self.losses[within], weights=self.steps[within])))


@dataclass(frozen=True, slots=True)
class End:
    """The loss foretold for a horizon; `by_curve` says whether the run's own curve moved it."""

    tokens: int
    interval: Interval
    by_curve: bool


@dataclass(frozen=True, slots=True)
class Ends:
    """The horizons ahead that can be foretold.

    Attributes:
        reason: why some are missing, are foretold from other runs alone, or are less sure than
            their intervals say; else empty.
    """

    ends: tuple[End, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Learnt:
    """What the recorded losses of a sweep and the curves behind them say of the others.

    Attributes:
        answer: the forecast of every horizon ahead.
        trunks: those with a recorded loss.
        off: of each of them, ln L at its recorded losses less the forecast there.
        widened: factor of the forecast's variance for a size, see `_left_out`; at least 1.
    """

    answer: Answer
    trunks: tuple[Trunk, ...]
    off: tuple[Array, ...]
    widened: float


def learn(table: Table, trunks: Sequence[Trunk]) -> Learnt | str:
    """What a sweep's losses and curves teach; else why it is too little.

    Args:
        table: the recorded losses.
        trunks: of all trainings of the sweep, whether ended, under way or not begun.
    """
    if few := too_few(table.used):
        return f"{NEEDS}, and {few} are recorded"
    ahead = {
        (float(trunk.n_params), float(horizon.tokens))
        for trunk in trunks
        for horizon in trunk.horizons
        if horizon.loss is None
    }
    if not ahead:
        return "no loss is ahead"
    try:
        answer = forecast(table, Question(points=tuple(sorted(ahead)), level=LEVEL))
    except TableError as error:
        return str(error).removesuffix(".")
    ended = tuple(trunk for trunk in trunks if trunk.recorded)
    off = []
    for trunk in ended:
        D, loss = np.array(trunk.recorded).T
        foretold = answer.posterior.predict(np.full(len(D), float(trunk.n_params)), D)
        off.append(np.log(loss) - foretold.mean)
    return Learnt(answer, ended, tuple(off), max(1.0, _left_out(answer.posterior)))


def ends(learnt: Learnt, trunk: Trunk) -> Ends:
    """The losses at the horizons ahead of a training, by its curve so far."""
    known = {(point.n_params, point.tokens): point for point in learnt.answer.points}
    points = [
        known[float(trunk.n_params), float(horizon.tokens)]
        for horizon in trunk.horizons
        if horizon.loss is None and (float(trunk.n_params), float(horizon.tokens)) in known
    ]
    reason = "; ".join(sorted({point.beyond.reason for point in points if point.beyond.reason}))
    points = [point for point in points if point.beyond.reason is None]
    if not points:
        return Ends((), reason)
    D = np.array([point.tokens for point in points])
    measured: _Measured | str | None = _measured(learnt, trunk)
    if isinstance(measured, str):
        reason, measured = reason or measured, None
    if any(point.reason for point in points):
        # A sweep's runs share a recipe. Where those so far stray from any law, the law's error is
        # as large, and so are the intervals.
        reason = reason or _STRAY
    intervals = _intervals(learnt, trunk.n_params, D, measured)
    foretold = (
        End(int(point.tokens), interval, measured is not None)
        for point, interval in zip(points, intervals, strict=True)
    )
    return Ends(tuple(foretold), reason)


@dataclass(frozen=True, slots=True)
class _Measured:
    """ln L at (N, tokens) as the curve has it, with its variance."""

    tokens: float
    y: float
    variance: float


def _measured(learnt: Learnt, trunk: Trunk) -> _Measured | str:
    """What the curve so far says of ln L at the end of a cooldown begun now, or of the run."""
    last = trunk.horizons[-1]
    now = min(trunk.reached, float(last.start))
    y = trunk.log_loss(now)
    if not np.isfinite(y):
        return "its curve is empty so far"
    if trunk.cosine:
        end = float(last.tokens)
        samples = [_from_share(learnt, now / end)]
    else:
        end = now * last.tokens / last.start
        samples = [_at_same_tokens(learnt, trunk, now, end), _cooldowns(learnt, now)]
    at = np.array([np.log(trunk.n_params), np.log(now)])
    drops = [_plane(seen[np.isfinite(seen).all(axis=1)], at) for seen in samples if len(seen)]
    known = [drop for drop in drops if drop is not None]
    if not known:
        return "no other run shows how far such a curve still drops"
    drop, variance = min(known, key=lambda drop: drop[1])
    return _Measured(end, y - drop - _KEPT * _own_cooldown(learnt, trunk), variance)


def _own_cooldown(learnt: Learnt, trunk: Trunk) -> float:
    """By how much a trunk's last finished cooldown dropped more than those of its neighbours."""
    behind = [horizon for horizon in trunk.horizons if horizon.loss is not None]
    if trunk.cosine or not behind:
        return 0.0
    start, end = float(behind[-1].start), float(behind[-1].tokens)
    seen = _at_same_tokens(learnt, trunk, start, end)
    at = np.array([np.log(trunk.n_params), np.log(start)])
    others = _plane(seen[np.isfinite(seen).all(axis=1)], at)
    own = trunk.log_loss(start) - np.log(behind[-1].loss or np.nan)
    return float(own - others[0]) if others is not None and np.isfinite(own) else 0.0


def _at_same_tokens(learnt: Learnt, trunk: Trunk, now: float, end: float) -> Array:
    """ln N, ln D and drop of the trunks nearest in size, from `now` to the end of a cooldown."""
    passed = [
        (each, off)
        for each, off in zip(learnt.trunks, learnt.off, strict=True)
        if each.n_params != trunk.n_params
        and each.recorded[0][0] <= end * (1 + 1e-9)
        and end <= each.recorded[-1][0] * (1 + 1e-9)
    ]  # fmt: skip
    passed.sort(key=lambda pair: abs(np.log(pair[0].n_params / trunk.n_params)))
    passed = passed[:_NEIGHBOURS]
    if not passed:
        return np.empty((0, 3))
    N = np.array([float(each.n_params) for each, _ in passed])
    y = learnt.answer.posterior.predict(N, np.full(len(N), end)).mean
    y += [
        np.interp(np.log(end), np.log([tokens for tokens, _ in each.recorded]), off)
        for each, off in passed
    ]
    curves = np.array([each.log_loss(now) for each, _ in passed])
    return np.column_stack([np.log(N), np.full(len(N), np.log(now)), curves - y])


def _cooldowns(learnt: Learnt, now: float) -> Array:
    """ln N, ln D and drop of every finished cooldown; none if all began later than `now`."""
    drops = [
        (np.log(each.n_params), np.log(start), each.log_loss(start) - np.log(horizon.loss))
        for each in learnt.trunks
        for horizon in each.horizons
        if horizon.loss is not None and (start := float(horizon.start)) > 0
    ]
    seen = np.array(drops).reshape(-1, 3)
    return seen if len(seen) and np.exp(seen[:, 1].min()) <= now * (1 + 1e-9) else seen[:0]


def _from_share(learnt: Learnt, share: float) -> Array:
    """ln N, ln D and drop of the runs that have ended, from this share of their tokens."""
    drops = [
        (np.log(each.n_params), np.log(now), each.log_loss(now) - np.log(loss))
        for each in learnt.trunks
        for tokens, loss in each.recorded
        if (now := tokens * share) > 0
    ]
    return np.array(drops).reshape(-1, 3)


def _plane(seen: Array, at: Array) -> tuple[float, float] | None:
    """The drop at ln N and ln D, and its variance: a plane with a prior on slopes and spread.

    None from fewer than two drops, which have no spread.
    """
    if len(seen) < 2:
        return None
    x = np.column_stack([np.ones(len(seen)), seen[:, :2] - at])
    # In units of the spread; the level is free.
    prior = np.diag([0.0, *[(_SPREAD / _SLOPE) ** 2] * 2])
    precision = x.T @ x + prior
    mean = np.linalg.solve(precision, x.T @ seen[:, 2])
    squares = float(((seen[:, 2] - x @ mean) ** 2).sum() + mean @ prior @ mean)
    freedom = _COUNT + len(seen) - 1
    spread = (_COUNT * _SPREAD**2 + squares) / freedom
    # The variance of a Student t with `freedom` degrees of freedom; level and slopes are unknown.
    inflated = spread * freedom / max(freedom - 2, 1.0)
    return float(mean[0]), float(inflated * (1 + np.linalg.inv(precision)[0, 0]))


def _intervals(learnt: Learnt, N: int, D: Array, measured: _Measured | None) -> list[Interval]:
    """Losses at (N, D) by the forecast, and by what the run's own curve measured."""
    tokens = D if measured is None else np.append(D, measured.tokens)
    foretold = learnt.answer.posterior.predict(np.full(len(tokens), float(N)), tokens)
    covariance, noise = learnt.widened * foretold.covariance, learnt.widened * foretold.noise[0]
    ahead = slice(len(D))
    mean, variance = foretold.mean[ahead], np.diag(covariance)[ahead] + noise
    if measured is not None:
        # Luck in the drop is not in the curve. The rest of the run's is, and two ends share it in
        # as far as they share their steps.
        luck = max(0.0, noise - measured.variance)
        shared = np.minimum(D, measured.tokens) / np.maximum(D, measured.tokens)
        together = covariance[ahead, -1] + luck * shared
        whole = covariance[-1, -1] + luck + measured.variance
        off = measured.y - foretold.mean[-1]
        mean = mean + together / whole * off
        variance = (variance - together**2 / whole) * max(1.0, off**2 / whole / _APART**2)
    half = deviations(LEVEL) * np.sqrt(variance)
    loss, lower, upper = np.exp([mean, mean - half, mean + half])
    return [Interval(*map(float, each)) for each in zip(loss, lower, upper, strict=True)]


def _left_out(posterior: Posterior) -> float:
    """Mean squared distance, in deviations, of a size's losses from the forecast without them.

    A run's losses share its luck, so a new size is off by more than rows that are taken for
    independent admit. At the heaviest scales and with the law linear there, no fit is repeated:
    the precision of the rows is Q = V^-1 less the law's part, and those of block b lie off by
    Q_bb^-1 (V^-1 r)_b with covariance Q_bb^-1.
    """
    point = max(posterior.grid, key=lambda point: point.weight)
    residual, J = point.whitened
    inverse = solve_triangular(point.factor, np.eye(len(residual)), lower=True)
    by_row = inverse.T @ residual
    freed = inverse.T @ J
    Q = inverse.T @ inverse - freed @ np.linalg.solve(point.precision, freed.T)
    squares = []
    for n in np.unique(posterior.rows.n):
        block = np.flatnonzero(posterior.rows.n == n)
        own = by_row[block]
        squares.append(own @ np.linalg.solve(Q[np.ix_(block, block)], own) / len(block))
    # A mean of few sizes is known badly: four of 1 are counted before any is seen.
    return (_BEFORE + float(np.sum(squares))) / (_BEFORE + len(squares) - 2)
