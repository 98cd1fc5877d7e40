"""The whole of a fit on a table: laws, intervals, verdicts and doubts, group by group.

This is what `isoflop fit` prints.
"""

from typing import Any

import numpy as np
import polars as pl

from analysis import observations as table
from analysis.fit.conventions import conventions
from analysis.fit.doubts import doubts
from analysis.fit.identifiability import judge
from analysis.fit.isoflop import fit_isoflop, parabola_bias
from analysis.fit.parametric import clusters_of, finish, pose
from analysis.fit.records import GroupFit, Influence, OptimalPoint
from analysis.law import Array, Constants, Form, LawFit
from analysis.observations import TableError
from analysis.solver.objective import ObjectiveName
from analysis.solver.problem import Problem
from analysis.solver.profile import Profile, profile
from analysis.solver.search import Optimum, find_optimum
from analysis.solver.uncertainty import influence, leave_one_out, percentile_intervals

_INFLUENTIAL = 10
# Parameters of an optimum worth a profile.
_BELIEVABLE = (1.0, 1e30)


def fit_table(
    frame: pl.DataFrame,
    *,
    by: str | None = None,
    where: str | None = None,
    pool: bool = False,
    form: Form = "chinchilla",
    objective: ObjectiveName = "huber_log",
    delta: float = 1e-3,
    bootstrap: int = 1000,
    seed: int = 0,
    level: float = 0.9,
    target_flops: float | None = None,
    source: str = "",
) -> list[GroupFit]:
    """Fit one law to a table, or one to each value of column `by`.

    Args:
        frame: what `observations.read_table` returns, or the tracker's table.
        where: polars SQL; rows for which it is not true are left out with that reason.
        pool: fit together what looks like several experiments.
        target_flops: budget of the profiles of N* and D*; ten times the table's largest.

    Raises:
        TableError: bad values, an unknown column, several groups without `by` or `pool`,
            fewer rows than free constants.
    """
    if "n_counts" not in frame.columns:
        frame = table.normalise(frame)
    frame = _restrict(frame, where)
    groups: list[tuple[Any, pl.DataFrame]] = [(None, frame)]
    if by is not None:
        groups = _split(frame, by)
    elif not pool:
        for name, values in table.pooled_groups(frame):
            raise TableError(
                f"column {name!r} holds {len(values)} groups ({', '.join(map(str, values[:6]))}"
                f"{', …' if len(values) > 6 else ''}) that would be pooled into one law. Fit them "
                f"apart with --by {name}, pick one with --where \"{name} = '{values[0]}'\", or say "
                "--pool if they are one experiment."
            )
    fits = []
    for value, part in groups:
        try:
            fits.append(
                _fit_group(
                    value,
                    part,
                    form=form,
                    objective=objective,
                    delta=delta,
                    bootstrap=bootstrap,
                    seed=seed,
                    level=level,
                    target_flops=target_flops,
                    source=source,
                )
            )
        except TableError as error:
            if by is None:
                raise
            raise TableError(f"group {by} = {value}: {error}") from error
    return fits


def _fit_group(
    value: Any,
    frame: pl.DataFrame,
    *,
    form: Form,
    objective: ObjectiveName,
    delta: float,
    bootstrap: int,
    seed: int,
    level: float,
    target_flops: float | None,
    source: str,
) -> GroupFit:
    problem, used, excluded = pose(frame, form=form, objective=objective, delta=delta)
    problem, optimum = find_optimum(problem)
    fit = finish(
        problem,
        optimum,
        used,
        excluded,
        form=form,
        resamples=bootstrap,
        seed=seed,
        level=level,
        name="fit" if value is None else str(value),
        source=source,
    )
    assert fit.law.support is not None
    largest = fit.law.support.flops[1]
    target = target_flops or 10 * largest
    profiles = _profiles(problem, optimum, used, form, target, level)
    verdicts = judge(problem, optimum, used, profiles, fit.intervals, form=form)
    isoflop = fit_isoflop(used, level=level)
    bias = parabola_bias(isoflop, used, fit.law)
    counts = tuple(conventions(used, form=form, objective=objective, delta=delta))
    repeated = tuple(table.duplicates(used))
    rows = _influence(problem, optimum, used)
    used = used.with_columns(residual=pl.Series(_log_residuals(fit, used)))
    return GroupFit(
        group=value,
        fit=fit,
        isoflop=isoflop,
        parabola_bias=bias,
        optimal=tuple(_optimal(fit, flops, level) for flops in _budgets(fit, target_flops)),
        verdicts=verdicts,
        profiles=profiles,
        influence=rows,
        conventions=counts,
        duplicates=repeated,
        doubts=tuple(doubts(problem, optimum, fit, isoflop, bias, used, rows, counts, repeated)),
        leave_one_out_percent=_leave_one_out_percent(problem, optimum),
        used=used,
    )


def _restrict(frame: pl.DataFrame, where: str | None) -> pl.DataFrame:
    """Rows outside the filter get it as their reason."""
    if "excluded_reason" not in frame.columns:
        frame = frame.with_columns(pl.lit(None, pl.String).alias("excluded_reason"))
    if where is None:
        return frame
    try:
        kept = frame.select(pl.sql_expr(where).alias("kept"))["kept"]
    except pl.exceptions.PolarsError as error:
        raise TableError(
            f"--where {where!r} does not work: {str(error).splitlines()[0]}"
        ) from error
    if kept.dtype != pl.Boolean or len(kept) != frame.height:
        raise TableError(f"--where {where!r} is not true or false for each row.")
    reason = pl.when(kept.fill_null(False)).then(None).otherwise(pl.lit(f"not where {where}"))
    return frame.with_columns(
        pl.coalesce(pl.col("excluded_reason"), reason).alias("excluded_reason")
    )


def _split(frame: pl.DataFrame, by: str) -> list[tuple[Any, pl.DataFrame]]:
    if by not in frame.columns:
        raise TableError(
            f"there is no column {by!r} to fit by; the table has {', '.join(frame.columns)}."
        )
    kept = frame.filter(pl.col("excluded_reason").is_null())
    if not kept.height:
        raise TableError("no row is left after --where.")
    missing = kept.filter(pl.col(by).is_null())
    if missing.height:
        raise TableError(f"column {by!r} is empty in some rows.", missing["row"])
    values = kept[by].unique(maintain_order=True).to_list()
    return [(value, frame.filter(pl.col(by) == value)) for value in values]


def _profiles(
    problem: Problem, optimum: Optimum, used: pl.DataFrame, form: Form, target: float, level: float
) -> dict[str, Profile]:
    clusters, found = clusters_of(used), dict[str, Profile]()
    if form == "data_constrained":
        return found
    if form != "tied":
        found["exponent_N"] = profile(
            problem, optimum.x, "exponent_N", level=level, clusters=clusters
        )
    size = problem.constants(optimum.x[None]).compute_optimal(target)[0][0]
    if not _BELIEVABLE[0] < size < _BELIEVABLE[1]:
        return found
    for name in ("n_opt", "d_opt"):
        found[name] = profile(
            problem, optimum.x, name, flops=target, level=level, clusters=clusters
        )
    return found


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


def _influence(problem: Problem, optimum: Optimum, used: pl.DataFrame) -> tuple[Influence, ...]:
    rows = used["row"].to_numpy()
    whole = problem.constants(optimum.x[None]).exponent_N[0]
    without = problem.constants(leave_one_out(problem, optimum.x)).exponent_N
    averaged = influence(problem, optimum.x)
    order = np.argsort(-np.abs(averaged), kind="stable")[:_INFLUENTIAL]
    return tuple(
        Influence(int(rows[k]), float(averaged[k]), float(without[k] - whole)) for k in order
    )


def _log_residuals(fit: LawFit, used: pl.DataFrame) -> np.ndarray[Any, Any]:
    """Log observation minus log prediction; repetition counts where the law has it."""
    N, D, loss = (used[c].to_numpy().astype(float) for c in ("n_params", "tokens", "val_loss"))
    if fit.law.repetition is None:
        return np.asarray(np.log(loss / fit.law.loss(N, D)))
    from analysis.repeated_data import predict

    return np.asarray(np.log(loss / predict(fit.law, N, D, used["unique_tokens"].to_numpy())))


def _leave_one_out_percent(problem: Problem, optimum: Optimum) -> float:
    from analysis.solver.kernels import predict_log

    theta = problem.chart.to_theta(leave_one_out(problem, optimum.x))
    miss = np.diag(predict_log(problem.rows, theta)) - np.log(problem.rows.loss)
    return float(100 * np.sqrt((miss**2).mean()))
