"""The whole answer on a table: laws, intervals, verdicts and doubts, group by group.

`isoflop fit` prints it.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from analysis.fit.conventions import conventions
from analysis.fit.doubts import doubts
from analysis.fit.identifiability import judge
from analysis.fit.isoflop import fit_isoflop, parabola_bias
from analysis.fit.options import DEFAULT, FitOptions
from analysis.fit.parametric import clusters_of, finish, pose
from analysis.fit.records import GroupFit, Influence, OptimalPoint
from analysis.law import Array, Constants, LawFit
from analysis.repeated_data import predict
from analysis.solver.kernels import predict_log
from analysis.solver.problem import Problem
from analysis.solver.profile import Profile, profile
from analysis.solver.search import Optimum, find_optimum
from analysis.solver.uncertainty import influence, leave_one_out, percentile_intervals
from analysis.table.observations import Table, TableError
from analysis.table.runs import duplicates, pooled_groups

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
    target_flops: float | None = None,
    source: str = "",
) -> list[GroupFit]:
    """Fit one law to a table, or one to each value of column `by`.

    Args:
        where: polars SQL; rows for which it is not true are left out with that reason.
        pool: fit several experiments together.
        target_flops: budget of the profiles of N* and D*; ten times the table's largest.

    Raises:
        TableError: bad values, an unknown column, several groups without `by` or `pool`,
            fewer rows than free constants.
    """
    if where is not None:
        table = _restrict(table, where)
    parts: list[tuple[Any, Table]] = [(None, table)]
    if by is not None:
        parts = _split(table, by)
    elif not pool:
        _refuse_several_experiments(table)
    groups = []
    for value, part in parts:
        try:
            groups.append(_fit_group(value, part, options, target_flops, source))
        except TableError as error:
            if by is None:
                raise
            raise TableError(f"group {by} = {value}: {error}") from error
    return groups


def _fit_group(
    value: Any, table: Table, options: FitOptions, target_flops: float | None, source: str
) -> GroupFit:
    problem, table = pose(table, options)
    problem, optimum = find_optimum(problem)
    name = "fit" if value is None else str(value)
    fit = finish(problem, optimum, table, options, name=name, source=source)
    assert fit.law.support is not None
    used, level = table.used, options.level
    profiles = _profiles(
        problem, optimum, used, target_flops or 10 * fit.law.support.flops[1], level
    )
    isoflop = fit_isoflop(used, level=level)
    without = leave_one_out(problem, optimum.x)
    group = GroupFit(
        group=value,
        fit=fit,
        isoflop=isoflop,
        parabola_bias=parabola_bias(isoflop, used, fit.law),
        optimal=tuple(_optimal(fit, flops, level) for flops in _budgets(fit, target_flops)),
        verdicts=judge(problem, optimum, used, profiles, fit.intervals),
        profiles=profiles,
        influence=_influence(problem, optimum, used, without),
        conventions=tuple(conventions(table, options)),
        duplicates=tuple(duplicates(used)),
        doubts=(),
        leave_one_out_percent=_prediction_error_percent(problem, without),
        used=used.with_columns(residual=pl.Series(_log_residuals(fit, used))),
    )
    return replace(group, doubts=tuple(doubts(problem, optimum, group, table)))


def _restrict(table: Table, where: str) -> Table:
    """The table with the filter as the reason of all rows outside it."""
    frame = table.frame
    try:
        kept = frame.select(pl.sql_expr(where).alias("kept"))["kept"]
    except pl.exceptions.PolarsError as error:
        raise TableError(
            f"--where {where!r} does not work: {str(error).splitlines()[0]}"
        ) from error
    if kept.dtype != pl.Boolean or len(kept) != frame.height:
        raise TableError(f"--where {where!r} is not true or false for each row.")
    reason = pl.when(kept.fill_null(False)).then(None).otherwise(pl.lit(f"not where {where}"))
    reasons = pl.coalesce(pl.col("excluded_reason"), reason).alias("excluded_reason")
    return replace(table, frame=frame.with_columns(reasons))


def _refuse_several_experiments(table: Table) -> None:
    groups = pooled_groups(table.used)
    if groups:
        name, values = groups[0]
        raise TableError(
            f"column {name!r} holds {len(values)} groups ({', '.join(map(str, values[:6]))}"
            f"{', …' if len(values) > 6 else ''}) that would be pooled into one law. Fit them "
            f"apart with --by {name}, pick one with --where \"{name} = '{values[0]}'\", or say "
            "--pool if they are one experiment."
        )


def _split(table: Table, by: str) -> list[tuple[Any, Table]]:
    frame, used = table.frame, table.used
    if by not in frame.columns:
        raise TableError(
            f"there is no column {by!r} to fit by; the table has {', '.join(frame.columns)}."
        )
    if not used.height:
        raise TableError("no row is left after --where.")
    missing = used.filter(pl.col(by).is_null())
    if missing.height:
        raise TableError(f"column {by!r} is empty in some rows.", missing["row"])
    values = used[by].unique(maintain_order=True).to_list()
    return [(value, table.filter(pl.col(by) == value)) for value in values]


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
    whole = problem.constants(optimum.x[None]).exponent_N[0]
    alone = problem.constants(without).exponent_N - whole
    averaged = influence(problem, optimum.x)
    order = np.argsort(-np.abs(averaged), kind="stable")[:_INFLUENTIAL]
    return tuple(Influence(int(rows[k]), float(averaged[k]), float(alone[k])) for k in order)


def _log_residuals(fit: LawFit, used: pl.DataFrame) -> Array:
    """Log observation minus log prediction; repetition counts where the law has it."""
    N, D, loss = (used[c].to_numpy().astype(float) for c in ("n_params", "tokens", "val_loss"))
    if fit.law.repetition is None:
        return np.asarray(np.log(loss / fit.law.loss(N, D)))
    return np.asarray(np.log(loss / predict(fit.law, N, D, used["unique_tokens"].to_numpy())))


def _prediction_error_percent(problem: Problem, without: Array) -> float:
    """Root mean square error of predicting each row by the optimum without it."""
    predictions = predict_log(problem.rows, problem.chart.to_theta(without))
    errors = np.diag(predictions) - np.log(problem.rows.loss)
    return float(100 * np.sqrt((errors**2).mean()))
