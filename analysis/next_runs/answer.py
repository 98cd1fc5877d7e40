"""The runs to train next, what each does to the intervals at the target, and when to stop.

`isoflop next` prints it. C is 6·N·D throughout; what a run costs its caller says.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.forecast.answer import Answer, Question, beside_others, forecast
from analysis.forecast.design import Candidates, Stakes, Widths, choose, stakes
from analysis.forecast.optimum import Optimum
from analysis.law import Array, deviations
from analysis.table.observations import Table, TableError
from analysis.words import counted, flops

_MOST = 2000  # candidates: their covariance matrix is held a few times over


@dataclass(frozen=True, slots=True)
class Intervals:
    """Widths of the target's intervals.

    Attributes:
        n_factor: upper over lower end of N*.
        loss_percent: of the loss there.
    """

    n_factor: float
    loss_percent: float


@dataclass(frozen=True, slots=True)
class NextRun:
    """A run to train.

    Attributes:
        flops: what it costs.
        spent: the cost of this run and those before it.
        loss, loss_interval: as forecast.
        alone: the intervals after this run alone.
        together: after this run and those before it.
        saves: FLOPs of the target that its sharper N* is worth, after the runs before it; None
            where the forecast has no valley.
    """

    candidate: int
    n_params: float
    tokens: float
    flops: float
    spent: float
    loss: float
    loss_interval: tuple[float, float]
    alone: Intervals
    together: Intervals
    saves: float | None


@dataclass(frozen=True, slots=True)
class NextRuns:
    """Runs to train next, best first.

    Attributes:
        forecast: today's, with what must be read before it.
        today: the intervals at the target.
        runs: those chosen.
        candidates: of which they were chosen.
        n_alone: width of ln N*'s interval after each candidate alone, as a share of today's.
        saves_alone: FLOPs of the target that each candidate alone saves; None as in `NextRun`.
        budget: FLOPs that the runs may cost together.
        unaffordable: candidates that cost more than the runs leave of the budget.
    """

    forecast: Answer
    today: Intervals
    runs: tuple[NextRun, ...]
    candidates: Candidates
    n_alone: Array
    saves_alone: Array | None
    budget: float
    unaffordable: NDArray[np.bool_]

    @property
    def target(self) -> Optimum:
        """N*, D* and the loss at the target today."""
        return self.forecast.optimum[0].best

    @property
    def worthwhile(self) -> int:
        """How many of the runs, the first ones, save most in excess of what they cost."""
        if self.saves_alone is None:
            return 0
        net = np.cumsum([(run.saves or 0.0) - run.flops for run in self.runs])
        return int(np.argmax(net)) + 1 if net.size and net.max() > 0 else 0


def next_runs(
    table: Table,
    candidates: Candidates,
    target_flops: float,
    budget: float,
    runs: int,
    *,
    level: float = 0.9,
) -> NextRuns:
    """The runs among the candidates that sharpen N* and the loss at the target most per FLOP.

    Raises:
        TableError: fewer than 10 pairs of N and D or 3 sizes, or no candidate is within the budget.
    """
    _check(candidates, budget)
    # A table that bars N* is what more runs may change.
    question = Question(budgets=(target_flops,), level=level, anyway=True)
    today = beside_others(forecast(table, question), table)
    learnt, best = today.posterior, today.optimum[0].best
    design = choose(learnt, candidates, target_flops, budget, runs)
    valley = stakes(learnt, target_flops)
    sd = float(np.log(best.n_interval[1] / best.n_interval[0])) / (2 * deviations(level))

    def saved(n: Array) -> Array | None:
        return None if valley is None else _saved(valley, sd, n, target_flops)

    chosen = list(design.chosen)
    spent = np.cumsum(candidates.flops[chosen])
    together = saved(design.together.n)
    saves = None if together is None else np.diff(together, prepend=0.0)
    foretold = learnt.predict(candidates.N[chosen], candidates.D[chosen])
    losses = np.array(foretold.losses(level)).T.tolist()
    others = ~np.isin(np.arange(len(candidates)), chosen)
    return NextRuns(
        forecast=today,
        today=_intervals(best, 1.0, 1.0),
        runs=tuple(
            NextRun(
                candidate=c,
                n_params=float(candidates.N[c]),
                tokens=float(candidates.D[c]),
                flops=float(candidates.flops[c]),
                spent=float(spent[k]),
                loss=losses[k][0],
                loss_interval=(losses[k][1], losses[k][2]),
                alone=_after(best, design.alone, c),
                together=_after(best, design.together, k),
                saves=None if saves is None else float(saves[k]),
            )
            for k, c in enumerate(chosen)
        ),
        candidates=candidates,
        n_alone=design.alone.n,
        saves_alone=saved(design.alone.n),
        budget=budget,
        unaffordable=others & (candidates.flops > budget - spent[-1]),
    )


def _check(candidates: Candidates, budget: float) -> None:
    if not len(candidates):
        raise TableError(
            f"no candidate costs between the table's cheapest run and --budget {budget:.3g}. "
            "Raise it, or name runs with --candidates."
        )
    if len(candidates) > _MOST:
        raise TableError(
            f"{len(candidates):,} candidates are more than {_MOST:,}, whose covariances fit into "
            "memory. Name fewer with --candidates."
        )
    if candidates.flops.min() > budget:
        raise TableError(
            f"the cheapest of {counted(len(candidates), 'candidate')} costs "
            f"{flops(candidates.flops.min())} FLOPs, more than --budget {budget:.3g}. Raise it, or "
            "name others with --candidates."
        )


def intervals_today(table: Table, target_flops: float) -> Intervals:
    """The widths that the target's 90 % intervals have.

    Raises:
        TableError: fewer than 10 pairs of N and D or 3 sizes.
    """
    question = Question(budgets=(target_flops,), anyway=True)
    return _intervals(forecast(table, question).optimum[0].best, 1.0, 1.0)


def _after(best: Optimum, widths: Widths, place: int) -> Intervals:
    return _intervals(best, float(widths.n[place]), float(widths.loss[place]))


def _intervals(best: Optimum, n_share: float, loss_share: float) -> Intervals:
    """Today's intervals with the widths in logs multiplied."""
    n = np.log(best.n_interval[1] / best.n_interval[0])
    loss = np.log(best.loss_interval[1] / best.loss_interval[0])
    return Intervals(float(np.exp(n * n_share)), float(100 * loss * loss_share))


def _saved(valley: Stakes, sd: float, n: Array, flops: float) -> Array:
    """FLOPs of the target that narrower intervals of ln N*, as shares of today's, are worth."""
    return valley.flops(sd, flops) - np.array([valley.flops(sd * share, flops) for share in n])
