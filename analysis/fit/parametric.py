"""Approach 3 of Hoffmann et al. 2022: fit a parametric loss law to every run at once."""

import logging

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.fit.options import DEFAULT, FitOptions
from analysis.law import (
    CONSTANTS,
    Array,
    Constants,
    Excluded,
    FitStatus,
    Form,
    Intervals,
    LawFit,
    LossLaw,
    ObjectiveReport,
    Repetition,
    Support,
    constants_of,
)
from analysis.solver.objective import Rows
from analysis.solver.problem import FREE, Problem, make_problem
from analysis.solver.search import Optimum, find_optimum
from analysis.solver.uncertainty import (
    bootstrap,
    covariances,
    delta_intervals,
    percentile_intervals,
)
from analysis.table.observations import LINE, Table, TableError, check
from analysis.table.runs import clusters_of
from analysis.table.states import nothing_left

log = logging.getLogger(__name__)


def fit_parametric(table: Table, options: FitOptions = DEFAULT) -> LawFit:
    """Fit one law to the used rows of a table; a column `row_weight` weighs them.

    The default is the procedure of Hoffmann et al. 2022, eq. 3: Huber's penalty, delta 1e-3,
    of log-loss, summed. Several checkpoints of one run are resampled together.

    Raises:
        TableError: bad values, or fewer rows than free constants.
    """
    problem, table = pose(table, options)
    problem, optimum = find_optimum(problem)
    return finish(problem, optimum, table, options, name="fit", source="")


def pose(table: Table, options: FitOptions) -> tuple[Problem, Table]:
    """The problem of fitting a table, and the table checked.

    Raises:
        TableError: see `fit_parametric`.
    """
    form = options.form
    table = check(table, ("unique_tokens",) if form == "data_constrained" else ())
    used = table.used
    if not used.height:
        raise TableError(nothing_left(table.frame))
    if used.height < len(FREE[form]):
        raise TableError(
            f"form {form} has {len(FREE[form])} free constants {', '.join(FREE[form])} but the "
            f"table has only {used.height} to fit. Add runs, or choose a form with fewer "
            "constants.",
            used,
        )
    unique = _unique_tokens(used) if form == "data_constrained" else None
    N, D, loss = (used[c].to_numpy().astype(float) for c in ("n_params", "tokens", "val_loss"))
    rows = Rows.of(N, D, loss, unique)
    return make_problem(form, options.objective, rows, weights_of(used)), table


def weights_of(used: pl.DataFrame) -> Array:
    """The rows' weights; 1 for each where the table has none."""
    return used["row_weight"].to_numpy() if "row_weight" in used.columns else np.ones(used.height)


def _unique_tokens(used: pl.DataFrame) -> Array:
    """The unique tokens of each row; some row must repeat them.

    Raises:
        TableError: no such column, or no row with tokens above it.
    """
    if "unique_tokens" not in used.columns:
        raise TableError(
            "form data_constrained needs the number of unique tokens of each run: a column "
            "unique_tokens, or --map unique_tokens=COLUMN."
        )
    if not (used["tokens"] > used["unique_tokens"]).any():
        raise TableError(
            "no row has tokens above unique_tokens, so the cost of repeating cannot be fitted. "
            "Use --form chinchilla."
        )
    return used["unique_tokens"].to_numpy().astype(float)


def finish(
    problem: Problem, optimum: Optimum, table: Table, options: FitOptions, *, name: str, source: str
) -> LawFit:
    """The law at an optimum of a checked table, with its intervals and provenance."""
    point = problem.constants(optimum.x[None])
    used, form = table.used, problem.form
    intervals, draws = _intervals(problem, optimum, clusters_of(used), options)
    repetition = None
    if point.R_D is not None and point.R_N is not None:
        repetition = Repetition(R_D=float(point.R_D[0]), R_N=float(point.R_N[0]))
    law = LossLaw(
        name=name,
        form=form,
        **{key: float(getattr(point, key)[0]) for key in CONSTANTS},
        repetition=repetition,
        n_counts=table.n_counts,
        c_counts=table.c_counts,
        loss_unit=table.loss_unit,
        source=source,
        support=_support(used),
        draws=_drawn(draws, form),
    )
    # Values are kept under weights of mean 1; the report is under the table's own.
    scale = float(weights_of(used).mean())
    second = optimum.second_best
    excluded = table.frame.filter(pl.col("excluded_reason").is_not_null())
    return LawFit(
        law=law,
        status=_status(optimum),
        objective=ObjectiveReport(
            name=problem.objective.name,
            delta=problem.objective.delta if problem.objective.name == "huber_log" else None,
            reduction="sum",
            value=optimum.value * scale,
            gradient_norm=optimum.gradient_norm * scale,
            starts=optimum.starts,
            starts_agree=optimum.agree,
            second_best=second[0] * scale if second else None,
            second_best_exponent_N=_exponent(problem, second[1]) if second else None,
            at_start=optimum.unmoved,
        ),
        at_bound=optimum.at_bound,
        rows_used=tuple(used["row"].to_list()),
        rows_excluded=tuple(
            Excluded(row["row"], row["excluded_reason"], row.get(LINE))
            for row in excluded.iter_rows(named=True)
        ),
        intervals=intervals,
        draws=draws,
    )


def _intervals(
    problem: Problem, optimum: Optimum, clusters: NDArray[np.intp] | None, options: FitOptions
) -> tuple[Intervals, Constants | None]:
    """Intervals and bootstrap draws of the constants; empty and None without a bootstrap."""
    level = options.level
    if not options.bootstrap or len(problem.rows.loss) <= len(problem.free):
        return Intervals(level, "none", {}, {}), None
    log.info("fitting %s resampled tables", f"{options.bootstrap:,}")
    basins = [optimum.x] + ([optimum.second_best[1]] if optimum.second_best else [])
    points = bootstrap(
        problem, np.stack(basins), draws=options.bootstrap, seed=options.seed, clusters=clusters
    )
    draws = problem.constants(points)
    named = draws.named()
    intervals = Intervals(
        level,
        "bootstrap_rows" if clusters is None else "bootstrap_runs",
        percentile_intervals(named, level),
        {key: float(column.std()) for key, column in named.items()},
        {
            key: delta_intervals(problem, optimum.x, covariance, Constants.named, level)
            for key, covariance in covariances(problem, optimum.x, clusters).items()
        },
    )
    return intervals, draws


def _status(optimum: Optimum) -> FitStatus:
    if not optimum.converged:
        return "not_converged"
    return "at_bound" if optimum.at_bound else "converged"


def _drawn(draws: Constants | None, form: Form) -> dict[str, tuple[float, ...]]:
    """The draws that a law keeps, by name."""
    if draws is None:
        return {}
    repetition = ("R_D", "R_N") if form == "data_constrained" else ()
    names = (*constants_of(form), *repetition)
    return {name: tuple(map(float, getattr(draws, name))) for name in names}


def _exponent(problem: Problem, x: Array) -> float:
    return float(problem.constants(x[None]).exponent_N[0])


def _support(used: pl.DataFrame) -> Support:
    flops = used["train_flops"] if "train_flops" in used.columns else used["flops_6nd"]
    flops = flops.drop_nulls() if flops.null_count() < len(flops) else used["flops_6nd"]
    ratio = used["tokens"] / used["n_params"]
    return Support(
        flops=(float(flops.min()), float(flops.max())),  # type: ignore[arg-type]
        tokens_per_param=(float(ratio.min()), float(ratio.max())),  # type: ignore[arg-type]
    )
