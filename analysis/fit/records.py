"""The records of a group's fit: law, verdicts, optimal points, influence."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from analysis.fit.conventions import Convention
from analysis.fit.design import Judgement
from analysis.fit.isoflop import IsoflopFit, ParabolaBias
from analysis.law import LawFit
from analysis.repetition.answer import RepeatedFit
from analysis.solver.profile import Profile
from analysis.table.repeats import REPEATS
from analysis.table.runs import Duplicate
from analysis.table.selection import left_out_lines
from analysis.table.sources import Source
from analysis.words import flops, short

# Times the table's largest compute; a target that nobody chose lies ten times above it.
FAR = 10.5


@dataclass(frozen=True, slots=True)
class OptimalPoint:
    """The law's optimum at a budget under C = 6·N·D; intervals by name, or empty.

    `extrapolation` is the budget over the largest compute of the table.
    """

    flops: float
    n_opt: float
    d_opt: float
    loss: float
    intervals: Mapping[str, tuple[float, float]]
    extrapolation: float

    @property
    def tokens_per_param(self) -> float:
        """D*/N*."""
        return self.d_opt / self.n_opt


@dataclass(frozen=True, slots=True)
class Influence:
    """The effect of leaving a row out on the exponent of N*.

    Attributes:
        effect_on_exponent_N: averaged over resampled tables; see `solver.uncertainty.influence`.
        effect_alone: with all other rows present.
    """

    row: int
    effect_on_exponent_N: float
    effect_alone: float


@dataclass(frozen=True, slots=True)
class GroupFit:
    """The whole answer on a group.

    Attributes:
        optimal: empty where N* and D* are withheld.
        leave_one_out_percent: root mean square error of predicting each row from the others; None
            where there are no more different N and D than constants.
        used: the rows of the fit with their `residual`.
        read: where their columns come from.
        repeated: what the rows that repeat their tokens say; None where none does.
    """

    group: Any
    fit: LawFit
    isoflop: IsoflopFit
    parabola_bias: ParabolaBias | None
    optimal: tuple[OptimalPoint, ...]
    verdicts: Mapping[str, Judgement]
    profiles: Mapping[str, Profile]
    influence: tuple[Influence, ...]
    conventions: tuple[Convention, ...]
    duplicates: tuple[Duplicate, ...]
    doubts: tuple[str, ...]
    leave_one_out_percent: float | None
    used: pl.DataFrame
    read: tuple[Source, ...] = ()
    repeated: RepeatedFit | None = None

    def withheld(self) -> "GroupFit":
        """The answer without N* and D* where the law's `trust` bars them."""
        if not self.fit.law.trust.bars:
            return self
        bare = (replace(each, n_opt=None, tokens_per_param=None) for each in self.conventions)
        return replace(self, optimal=(), conventions=tuple(bare))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be read before the answer, for its first lines; empty when nothing must."""
        lines = [*(self.repeated.warnings if self.repeated else ()), *self.fit.law.trust.lines]
        out = [row.reason for row in self.fit.rows_excluded if row.reason == REPEATS]
        lines += left_out_lines(
            out, len(self.fit.rows_used) + len(self.fit.rows_excluded), self.read
        )
        if not self.optimal:
            lines.append("No N* or D* is given under such a law; isoflop fit --anyway gives them.")
            if not any(bar.startswith("DOUBTFUL") for bar in lines):
                # A doubt about the table holds for a forecast too.
                lines.append("isoflop forecast may answer from the same runs.")
        elif self.optimal[-1].extrapolation > FAR:
            target = self.optimal[-1]
            lines.append(
                f"EXTRAPOLATION: the target of {flops(target.flops)} FLOPs is "
                f"{short(target.extrapolation)} times the table's largest compute."
            )
        return tuple(lines)
