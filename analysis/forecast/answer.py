"""The whole answer of a forecast: losses, N* and D*, how sure they are, and what stands beside.

`isoflop forecast` prints it. C is 6·N·D throughout.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from analysis.fit.design import design_findings, loss_findings
from analysis.fit.outlying import outliers_of
from analysis.forecast.beside import Other, fit_beside
from analysis.forecast.curve import constants
from analysis.forecast.optimum import Optimum, measured_valleys, optimum
from analysis.forecast.posterior import Posterior, posterior
from analysis.forecast.record import Cut, record
from analysis.forecast.rows import Rows, rows_of
from analysis.law import CONSTANTS, Array, ForecastForm, LossLaw, Trust
from analysis.table.cells import tried_settings
from analysis.table.observations import Table, check
from analysis.table.repeats import leave_out_repeats
from analysis.table.selection import left_out_lines
from analysis.words import flops, short

# Calibrated: everything inside these limits. Doubtful: the table bars N*.
Status = Literal["calibrated", "not_calibrated", "doubtful"]
# Times above the table's largest compute, or below its smallest.
_FARTHEST_C = 100.0
_FARTHEST_RATIO = 2.0  # e-folds outside the table's range of D/N
_RECIPES_DIFFER = 0.5  # of the weight on the largest error of the law
# A target that nobody chose, times the largest compute.
_FAR = 10.0


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a table.

    Attributes:
        points: N and D of the runs to foretell.
        budgets: FLOPs at which N* is sought.
        anyway: give N* also where the table bars it.
    """

    points: tuple[tuple[float, float], ...] = ()
    budgets: tuple[float, ...] = ()
    level: float = 0.9
    form: ForecastForm = "gamma"
    anyway: bool = False


@dataclass(frozen=True, slots=True)
class Beyond:
    """Distances outside the table's ranges of C and D/N in e-folds: 0 inside, negative below."""

    flops_efolds: float
    ratio_efolds: float

    @property
    def reason(self) -> str | None:
        """Why a forecast there is not calibrated; None where it is."""
        # A budget of just a hundred times is 6·N·D only up to rounding.
        if abs(self.flops_efolds) > np.log(_FARTHEST_C) + 1e-9:
            times = short(float(np.exp(abs(self.flops_efolds))))
            where, add = f"{times} times the table's largest", "larger"
            if self.flops_efolds < 0:
                where, add = f"{times} times below the table's smallest", "smaller"
            return (
                f"its compute is {where}, and intervals were tested up to {_FARTHEST_C:.0f} times: "
                f"add {add} runs"
            )
        if abs(self.ratio_efolds) > _FARTHEST_RATIO:
            side = "above" if self.ratio_efolds > 0 else "below"
            return (
                f"its D/N lies {short(float(np.exp(abs(self.ratio_efolds))))} times {side} the "
                f"table's: add small runs near that D/N"
            )
        return None


@dataclass(frozen=True, slots=True)
class Shares:
    """Where a forecast's variance comes from; the three add up to 1."""

    law: float
    discrepancy: float
    noise: float


@dataclass(frozen=True, slots=True)
class ForecastPoint:
    """The loss that a run of N parameters and D tokens will reach.

    `reason` says why the interval is not calibrated; None where it is.
    """

    n_params: float
    tokens: float
    loss: float
    lower: float
    upper: float
    beyond: Beyond
    shares: Shares
    reason: str | None

    @property
    def flops(self) -> float:
        """6·N·D."""
        return 6 * self.n_params * self.tokens

    @property
    def calibrated(self) -> bool:
        """Whether intervals so far from the data were tested."""
        return self.reason is None


@dataclass(frozen=True, slots=True)
class ForecastOptimum:
    """N* and D* at a budget with the loss there, and what other methods say.

    `doubts` are raised by the other methods' N*.
    """

    best: Optimum
    beyond: Beyond
    reason: str | None
    others: tuple[Other, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def calibrated(self) -> bool:
        """Whether intervals so far from the data were tested."""
        return self.reason is None


@dataclass(frozen=True, slots=True)
class Data:
    """What the forecast learnt from, and in which ranges.

    Attributes:
        rows: runs used.
        copies: of them those that repeat another to the last digit, which counts once.
        left_out: of them those so far above the frontier that they say nothing about it.
        places: what is left, runs of one N and D averaged, and neighbours of long tables.
        flops, ratio: least and greatest 6·N·D and D/N.
        bytes_factor: bits per byte over the loss; None where the table has none, or no constant.
    """

    rows: int
    copies: int
    left_out: int
    places: int
    sizes: int
    flops: tuple[float, float]
    ratio: tuple[float, float]
    bytes_factor: float | None

    def beyond(self, N: float, D: float) -> Beyond:
        """How far a run lies outside."""
        return Beyond(_outside(6 * N * D, self.flops), _outside(D / N, self.ratio))


@dataclass(frozen=True, slots=True)
class Answer:
    """A table's forecast.

    Attributes:
        law: the forecast's own, without its discrepancy; its trust holds the table's bars.
        valleys: ln 6ND and ln N of the minima of the table's own budgets, as `optimum` takes them.
        record: how this method did on this table; empty where nobody asked, or it is too small.
        bars: what speaks against N*; `optimum` is empty under them unless it was asked for.
        doubts: what else must be read before the answer.
    """

    points: tuple[ForecastPoint, ...]
    optimum: tuple[ForecastOptimum, ...]
    record: tuple[Cut, ...]
    law: LossLaw
    data: Data
    posterior: Posterior
    valleys: tuple[Array, Array] | None
    level: float
    form: ForecastForm
    status: Status
    bars: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """The first lines of the answer, the worst first."""
        withheld: tuple[str, ...] = ()
        if self.bars and not self.optimum:
            withheld = ("No N* or D* is given under such a table; isoflop forecast --anyway does.",)
        return (*self.bars, *withheld, *self.doubts)


def answer(table: Table, question: Question) -> Answer:
    """The forecast with its record, and what other methods say; see `forecast`."""
    judged = beside_others(forecast(table, question), table)
    return replace(judged, record=record(table, question.form, question.level))


def beside_others(plain: Answer, table: Table) -> Answer:
    """A forecast with what approaches 2 and 3 say of each N*, and a doubt where they disagree."""
    if not plain.optimum:
        return plain
    beside = fit_beside(table)
    best = []
    for each in plain.optimum:
        others = beside.at(each.best.flops)
        best.append(replace(each, others=others, doubts=disagreements(each.best, others)))
    return replace(plain, optimum=tuple(best))


def forecast(table: Table, question: Question) -> Answer:
    """Losses at the question's points, and N* at its budgets.

    Without points and budgets, N* at ten times the table's largest compute.

    Raises:
        TableError: fewer than 10 pairs of N and D or 3 sizes.
    """
    table = check(leave_out_repeats(table))
    rows = rows_of(table)
    learnt = posterior(rows, question.form)
    data = _data(table, rows, learnt)
    bars = _bars(table)
    recipes = _recipes(learnt)
    doubts = [f"NOT CALIBRATED: {recipes}."] if recipes else []
    doubts += _doubts(table, bars)
    budgets = question.budgets
    if not question.points and not budgets:
        budgets = (_FAR * data.flops[1],)
    valleys = measured_valleys(table)
    best: tuple[ForecastOptimum, ...] = ()
    if question.anyway or not bars:
        best = tuple(
            _optimum(optimum(learnt, C, question.level, valleys), data, recipes) for C in budgets
        )
    points = _points(learnt, question.points, question.level, data, recipes)
    status: Status = "doubtful" if bars else "calibrated"
    if not bars and any([each.reason for each in points] + [each.reason for each in best]):
        status = "not_calibrated"
    law = _law(learnt, table, question.form, Trust(bars=bars, warnings=tuple(doubts)))
    return Answer(
        points, best, (), law, data, learnt, valleys, question.level, question.form, status, bars,
        tuple(doubts),
    )  # fmt: skip


def _bars(table: Table) -> tuple[str, ...]:
    """What speaks against any N* of this table: doubts of its reading, then its design."""
    findings = (*design_findings(table.used), *loss_findings(table.used))
    return (
        *(f"DOUBTFUL: {each.sentence}" for each in table.doubts if each.bars_optimum),
        *(f"NOT IDENTIFIED (N*): {f.reason}" for f in findings if f.verdict == "not_identified"),
    )


def _doubts(table: Table, bars: tuple[str, ...]) -> list[str]:
    used = table.used
    doubts = [each.sentence for each in table.doubts if not each.bars_optimum]
    if not bars:
        findings = (f for f in design_findings(used) if f.verdict == "weak")
        doubts += [f"WEAK (N*): {finding.reason}" for finding in findings]
    if "row_weight" in used.columns:
        doubts.append("A forecast counts every row alike; the weights are not used.")
    tried = tried_settings(used)
    if tried:
        names = ", ".join(setting.column for setting in tried)
        doubts.append(
            f"Rows of one N and D differ in {names} and are averaged, so the forecast is of a run "
            f"with their mean loss; --best-of {tried[0].column} takes the best."
        )
    reasons = table.frame["excluded_reason"].drop_nulls()
    doubts += left_out_lines(reasons, table.frame.height, table.read)
    return [*doubts, *outliers_of(table)]


def _points(
    learnt: Posterior,
    points: Sequence[tuple[float, float]],
    level: float,
    data: Data,
    recipes: str | None,
) -> tuple[ForecastPoint, ...]:
    if not points:
        return ()
    N, D = np.array(points, float).T
    foretold = learnt.predict_each(N, D)
    loss, low, high = foretold.losses(level)
    shares = np.stack([foretold.law, foretold.discrepancy, foretold.noise]) / foretold.sd**2
    each = []
    for k in range(len(N)):
        beyond = data.beyond(N[k], D[k])
        each.append(
            ForecastPoint(
                float(N[k]), float(D[k]), float(loss[k]), float(low[k]), float(high[k]), beyond,
                Shares(*map(float, shares[:, k])), recipes or beyond.reason,
            )
        )  # fmt: skip
    return tuple(each)


def _optimum(best: Optimum, data: Data, recipes: str | None) -> ForecastOptimum:
    beyond = data.beyond(best.n_opt, best.d_opt)
    return ForecastOptimum(best, beyond, recipes or beyond.reason)


def _recipes(learnt: Posterior) -> str | None:
    """Why no forecast of such rows is calibrated; None where they follow one recipe."""
    if learnt.weight_of_largest_tau <= _RECIPES_DIFFER:
        return None
    return (
        "the rows stray from any law by more than its error was ever seen to be, as where small "
        "runs had another recipe (warm-up, learning rate): forecast from runs of one recipe"
    )


def disagreements(best: Optimum, rivals: Sequence[Other]) -> tuple[str, ...]:
    """A sentence where another N* is 1.5 times off, or outside the forecast's interval."""
    low, high = best.n_interval
    apart = [each for each in rivals if each.apart(best.n_opt) or not low <= each.n_opt <= high]
    if not apart:
        return ()
    sizes = ", ".join(f"{each.name} {short(each.n_opt)}" for each in apart)
    return (
        f"Methods disagree on N* at {flops(best.flops)} FLOPs: the forecast says "
        f"{short(best.n_opt)} [{short(low)}, {short(high)}], {sizes}.",
    )


def _data(table: Table, rows: Rows, learnt: Posterior) -> Data:
    used = table.used
    C = used["flops_6nd"].to_numpy().astype(float)
    ratio = (used["tokens"] / used["n_params"]).to_numpy().astype(float)
    return Data(
        used.height,
        used.height - int(rows.count.sum()),
        int(rows.count.sum() - learnt.rows.count.sum()),
        len(learnt.rows),
        used["n_params"].n_unique(),
        (float(C.min()), float(C.max())),
        (float(ratio.min()), float(ratio.max())),
        _bytes_factor(table),
    )


def _bytes_factor(table: Table) -> float | None:
    used = table.used
    known = "val_bpb" in used.columns and not used["val_bpb"].null_count()
    if not known or table.loss_unit == "bits_per_byte":
        return None
    factor = (used["val_bpb"] / used["val_loss"]).to_numpy().astype(float)
    middle = float(np.median(factor))
    # Losses and bits of one validation set, to the digits of a table.
    same = bool(np.all(np.abs(factor / middle - 1) < 1e-3))
    return middle if same and middle > 0 else None


def _law(learnt: Posterior, table: Table, form: ForecastForm, trust: Trust) -> LossLaw:
    """The forecast's constants as those of L = E + (A/N^alpha + B/D^beta)^gamma."""
    phi = learnt.phi if form == "gamma" else np.append(learnt.phi[:-1], 0.0)
    at = constants(phi, learnt.reference)
    return LossLaw(
        name="forecast",
        form=form,
        **{each: float(getattr(at, each)) for each in CONSTANTS},
        n_counts=table.n_counts,
        c_counts="flops_6nd",
        loss_unit=table.loss_unit,
        source="forecast",
        trust=trust,
    )


def _outside(value: float, ends: tuple[float, float]) -> float:
    return float(np.log(value / np.clip(value, *ends)))
