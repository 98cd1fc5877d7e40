"""The whole answer on a table: laws, intervals, verdicts and doubts, group by group.

`isoflop fit` prints it.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from analysis.fit.conventions import conventions
from analysis.fit.design import Judgement
from analysis.fit.doubts import doubts
from analysis.fit.identifiability import doubted, judge, trust
from analysis.fit.isoflop import fit_isoflop, parabola_bias
from analysis.fit.options import DEFAULT, FitOptions
from analysis.fit.parametric import finish, pose
from analysis.fit.records import FAR, GroupFit, Influence, OptimalPoint
from analysis.law import Array, Constants, LawFit
from analysis.repeated_data import predict
from analysis.repetition.answer import fit_repeated
from analysis.solver.kernels import predict_own_log
from analysis.solver.problem import Problem
from analysis.solver.profile import Profile, profile
from analysis.solver.search import Optimum, find_optimum
from analysis.solver.uncertainty import (
    EXACT_ROWS,
    influence,
    leave_one_out,
    percentile_intervals,
    refit_without,
)
from analysis.table.observations import Table
from analysis.table.runs import clusters_of, duplicates
from analysis.table.selection import of_group, one_law, split
from analysis.words import short

log = logging.getLogger(__name__)
_INFLUENTIAL = 10
# N* outside these bounds is not a plausible model, and gets no profile.
_BELIEVABLE = (1.0, 1e30)


def fit_table(
    table: Table,
    options: FitOptions = DEFAULT,
    *,
    by: str | None = None,
    where: str | None = None,
    pool: bool = False,
    best_of: Sequence[str] = (),
    source: str = "",
) -> list[GroupFit]:
    """Fit one law to a table, or one to each value of column `by`.

    Args:
        where: polars SQL; rows for which it is not true are left out with that reason.
        pool: fit several experiments, and several settings of one N and D, together.
        best_of: settings of which only the best is used for each N and D.

    Raises:
        TableError: bad values, an unknown column, several groups without `by` or `pool`, several
            settings without `best_of` or `pool`, fewer rows than free constants.
    """
    groups = []
    for value, part in split(table, where=where, by=by):
        with of_group(by, value):
            repeats = options.form == "data_constrained"
            part = one_law(part, best_of=best_of, pool=pool, named=by is None, repeats=repeats)
            groups.append(_fit_group(value, part, options, source))
    return groups


def _fit_group(value: Any, table: Table, options: FitOptions, source: str) -> GroupFit:
    repeated = fit_repeated(
        table, bootstrap=options.bootstrap, seed=options.seed, level=options.level, source=source
    )
    problem, table = pose(table, options)
    rows = f"{len(problem.rows.loss):,} rows" + ("" if value is None else f" of {value}")
    log.info("searching the law of %s", rows)
    problem, optimum = find_optimum(problem)
    name = "fit" if value is None else str(value)
    fit = finish(problem, optimum, table, options, name=name, source=source)
    assert fit.law.support is not None
    largest = fit.law.support.flops[1]
    used, level = table.used, options.level
    log.info("profiling the exponent, N* and D* of %s", rows)
    target = options.target_flops or 10 * largest
    profiles = _profiles(problem, optimum, used, target, level)
    verdicts = judge(problem, optimum, used, profiles, fit.intervals)
    trusted = trust(fit, verdicts, table.doubts, target_flops=target)
    law_of_repeats = None if repeated is None else repeated.law
    known = {"trust": trusted, "repeated": law_of_repeats}
    fit = replace(fit, law=fit.law.model_copy(update=known))
    verdicts = _doubted_first(verdicts, table, target / largest)
    isoflop = fit_isoflop(used, level=level)
    log.info("leaving out each of %s, and counting N otherwise", rows)
    without = leave_one_out(problem, optimum.x)
    group = GroupFit(
        group=value,
        fit=fit,
        isoflop=isoflop,
        parabola_bias=parabola_bias(isoflop, used, fit.law),
        optimal=tuple(_optimal(fit, flops, level) for flops in _budgets(fit, options.target_flops)),
        verdicts=verdicts,
        profiles=profiles,
        influence=_influence(problem, optimum, used, without),
        conventions=tuple(conventions(table, options, (problem, optimum))),
        duplicates=tuple(duplicates(used)),
        doubts=(),
        leave_one_out_percent=_prediction_error_percent(problem, without),
        used=used.with_columns(residual=pl.Series(_log_residuals(fit, used))),
        read=table.read,
        repeated=repeated,
    )
    log.info("looking for doubts about the law of %s", rows)
    group = replace(group, doubts=tuple(doubts(problem, optimum, group, table)))
    return group if options.anyway else group.withheld()


def _doubted_first(
    verdicts: dict[str, Judgement], table: Table, times: float
) -> dict[str, Judgement]:
    """The verdicts without any that the first lines doubt; `times` the table's largest compute."""
    if any(doubt.bars_optimum for doubt in table.doubts):
        verdicts = doubted(verdicts, verdicts, "the first lines doubt the table itself.")
    if times > FAR:
        far = f"the target is {short(times)} times the table's largest compute."
        verdicts = doubted(verdicts, ("n_opt", "d_opt"), far)
    return verdicts


def _profiles(
    problem: Problem, optimum: Optimum, used: pl.DataFrame, target: float, level: float
) -> dict[str, Profile]:
    clusters, profiles = clusters_of(used), dict[str, Profile]()
    if problem.form == "data_constrained":
        return profiles
    if problem.form != "tied":
        profiles["exponent_N"] = profile(
            problem, optimum.x, "exponent_N", level=level, clusters=clusters
        )
    size = problem.constants(optimum.x[None]).compute_optimal(target)[0][0]
    if not _BELIEVABLE[0] < size < _BELIEVABLE[1]:
        return profiles
    for name in ("n_opt", "d_opt"):
        profiles[name] = profile(
            problem, optimum.x, name, flops=target, level=level, clusters=clusters
        )
    return profiles


def _budgets(fit: LawFit, target: float | None) -> list[float]:
    """The table's middle and largest compute, and the target or ten times the largest."""
    assert fit.law.support is not None
    low, high = fit.law.support.flops
    return [float(np.sqrt(low * high)), high, target or 10 * high]


def _optimal(fit: LawFit, flops: float, level: float) -> OptimalPoint:
    best = _best(Constants.of(fit.law), flops)
    intervals = percentile_intervals(_best(fit.draws, flops), level) if fit.draws else {}
    largest = fit.law.support.flops[1] if fit.law.support else flops
    n_opt, d_opt, loss = (float(best[name]) for name in ("n_opt", "d_opt", "loss"))
    return OptimalPoint(flops, n_opt, d_opt, loss, intervals, flops / largest)


def _best(constants: Constants, flops: float) -> dict[str, Array]:
    """The optimum at a budget and its loss, by name."""
    N, D = constants.compute_optimal(flops)
    # Draws of vanishing exponents have no finite optimum; their infinities count in quantiles.
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        loss = constants.loss(N, D)
    return {"n_opt": N, "d_opt": D, "tokens_per_param": D / N, "loss": loss}


def _influence(
    problem: Problem, optimum: Optimum, used: pl.DataFrame, without: Array
) -> tuple[Influence, ...]:
    """The rows that move the exponent of N* most; `without` are the optima without each row."""
    rows = used["row"].to_numpy()
    averaged = influence(problem, optimum.x)
    order = np.argsort(-np.abs(averaged), kind="stable")[:_INFLUENTIAL]
    exact = len(rows) <= EXACT_ROWS
    ends = without[order] if exact else refit_without(problem, optimum.x, order)
    whole = problem.constants(optimum.x[None]).exponent_N[0]
    alone = problem.constants(ends).exponent_N - whole
    return tuple(
        Influence(int(rows[k]), float(averaged[k]), float(effect))
        for k, effect in zip(order, alone, strict=True)
    )


def _log_residuals(fit: LawFit, used: pl.DataFrame) -> Array:
    """Log observation minus log prediction; repetition counts where the law has it."""
    N, D, loss = (used[c].to_numpy().astype(float) for c in ("n_params", "tokens", "val_loss"))
    if fit.law.repetition is None:
        return np.asarray(np.log(loss / fit.law.loss(N, D)))
    return np.asarray(np.log(loss / predict(fit.law, N, D, used["unique_tokens"].to_numpy())))


def _prediction_error_percent(problem: Problem, without: Array) -> float | None:
    """Root mean square error of predicting each row by the optimum without it.

    None where no more places of N and D than constants leave the law between them undetermined.
    """
    if problem.rows.places <= len(problem.free):
        return None
    predictions = predict_own_log(problem.rows, problem.chart.to_theta(without))
    errors = predictions - np.log(problem.rows.loss)
    return float(100 * np.sqrt((errors**2).mean()))
