"""Approach 3 of Hoffmann et al. 2022: fit a parametric loss law to every run at once."""

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis import observations as table
from analysis.law import (
    Array,
    CCounts,
    Constants,
    Excluded,
    FitStatus,
    Form,
    IntervalMethod,
    Intervals,
    LawFit,
    LossLaw,
    NCounts,
    ObjectiveReport,
    Repetition,
    Support,
)
from analysis.observations import TableError
from analysis.solver.objective import Objective, ObjectiveName, Rows
from analysis.solver.problem import FREE, Problem, make_problem
from analysis.solver.search import Optimum, find_optimum
from analysis.solver.uncertainty import bootstrap as bootstrap_draws
from analysis.solver.uncertainty import covariances, delta_intervals, percentile_intervals

_COUNTS_LABEL: dict[str, NCounts] = {
    "n_params_total": "n_params_total",
    "n_params_non_embedding": "n_params_non_embedding",
    "n_params_no_input_embedding": "n_params",
}


def fit_parametric(
    observations: pl.DataFrame,
    *,
    form: Form = "chinchilla",
    objective: ObjectiveName = "huber_log",
    delta: float = 1e-3,
    bootstrap: int = 1000,
    seed: int = 0,
    level: float = 0.9,
    n_column: str = "n_params",
    name: str = "fit",
    source: str = "",
) -> LawFit:
    """Fit one law to the used rows of an observations table.

    The default is the procedure of Hoffmann et al. 2022, eq. 3: Huber's penalty, delta 1e-3,
    of log-loss, summed. Several checkpoints of one run are resampled together.

    Args:
        observations: any frame `observations.check` accepts; a column `weight` weighs rows.
        bootstrap: number of resamples; 0 for none.
        n_column: which parameter count is N.

    Raises:
        TableError: bad values, or fewer rows than free constants.
    """
    problem, used, excluded = pose(
        observations, form=form, objective=objective, delta=delta, n_column=n_column
    )
    problem, optimum = find_optimum(problem)
    return finish(
        problem,
        optimum,
        used,
        excluded,
        form=form,
        resamples=bootstrap,
        seed=seed,
        level=level,
        n_column=n_column,
        name=name,
        source=source,
    )


def pose(
    observations: pl.DataFrame,
    *,
    form: Form,
    objective: ObjectiveName,
    delta: float,
    n_column: str = "n_params",
) -> tuple[Problem, pl.DataFrame, tuple[Excluded, ...]]:
    """The problem a table poses, the rows it uses and those it leaves out.

    Raises:
        TableError: see `fit_parametric`.
        ValueError: delta is not positive.
    """
    if not delta > 0:
        raise ValueError(f"delta={delta} must be positive: it is where Huber's penalty turns.")
    frame = table.check(observations)
    used = frame.filter(pl.col("excluded_reason").is_null())
    left_out = frame.filter(pl.col("excluded_reason").is_not_null())
    excluded = tuple(
        Excluded(int(row), str(reason))
        for row, reason in left_out.select("row", "excluded_reason").iter_rows()
    )
    needed = len(FREE[form])
    if not used.height:
        raise TableError("no row is left to fit: all are excluded, by --where or by their reason.")
    if used.height < needed:
        raise TableError(
            f"form {form} has {needed} free constants {', '.join(FREE[form])} but the table has "
            f"only {used.height} to fit. Add runs, or choose a form with fewer constants.",
            used["row"].to_list(),
        )
    unique = _unique_tokens(used) if form == "data_constrained" else None
    N, D, loss = (used[c].to_numpy().astype(float) for c in (n_column, "tokens", "val_loss"))
    weights = used["weight"].to_numpy() if "weight" in used.columns else np.ones(len(N))
    rows = Rows.of(N, D, loss, unique)
    problem = make_problem(form, Objective(objective, delta), rows, weights)
    return problem, used, excluded


def _unique_tokens(used: pl.DataFrame) -> Array:
    """Unique tokens behind each row; some row must repeat them.

    Raises:
        TableError: no such column, or no row with tokens above it.
    """
    if "unique_tokens" not in used.columns:
        raise TableError(
            "form data_constrained needs the number of unique tokens behind each run: a column "
            "unique_tokens, or --map unique_tokens=COLUMN."
        )
    if not (used["tokens"] > used["unique_tokens"]).any():
        raise TableError(
            "no row has tokens above unique_tokens, so nothing tells what repeating costs. Fit "
            "form chinchilla instead."
        )
    return used["unique_tokens"].to_numpy().astype(float)


def finish(
    problem: Problem,
    optimum: Optimum,
    used: pl.DataFrame,
    excluded: tuple[Excluded, ...],
    *,
    form: Form,
    resamples: int,
    seed: int,
    level: float,
    n_column: str = "n_params",
    name: str = "fit",
    source: str = "",
) -> LawFit:
    """Intervals and provenance around an optimum already found."""
    point = problem.constants(optimum.x[None])
    clusters = clusters_of(used)
    draws: Constants | None = None
    intervals = Intervals(level, "none", {}, {})
    rows, free = len(problem.rows.loss), len(problem.free)
    if resamples and rows > free:
        basins = [optimum.x] + ([optimum.second_best[1]] if optimum.second_best else [])
        points = bootstrap_draws(
            problem, np.stack(basins), draws=resamples, seed=seed, clusters=clusters
        )
        draws = problem.constants(points)
        named = draws.named()
        method: IntervalMethod = "bootstrap_rows" if clusters is None else "bootstrap_runs"
        intervals = Intervals(
            level,
            method,
            percentile_intervals(named, level),
            {key: float(column.std()) for key, column in named.items()},
            {
                key: delta_intervals(problem, optimum.x, covariance, Constants.named, level)
                for key, covariance in covariances(problem, optimum.x, clusters).items()
            },
        )
    repetition = None
    if point.R_D is not None and point.R_N is not None:
        repetition = Repetition(R_D=float(point.R_D[0]), R_N=float(point.R_N[0]))
    law = LossLaw(
        name=name,
        form=form,
        **{key: float(getattr(point, key)[0]) for key in ("E", "A", "B", "alpha", "beta", "gamma")},
        repetition=repetition,
        n_counts=_counts(used, n_column),
        c_counts=_flops_counted(used),
        loss_unit=_unit(used),
        source=source,
        support=_support(used, n_column),
        draws=_drawn(draws, form),
    )
    # Values are kept under weights of mean 1; the report is under the table's own.
    scale = float(used["weight"].to_numpy().mean()) if "weight" in used.columns else 1.0
    second = optimum.second_best
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
        rows_excluded=excluded,
        intervals=intervals,
        draws=draws,
    )


def clusters_of(used: pl.DataFrame) -> NDArray[np.intp] | None:
    """For each row the number of the training it comes from; None when all are different."""
    names = [name for name in ("parent_run_id", "run_id") if name in used.columns]
    if not names:
        return None
    runs = used.select(pl.coalesce(names).alias("run"))["run"]
    if runs.null_count() or runs.n_unique() == used.height or runs.n_unique() < 2:
        return None
    return runs.rank("dense").to_numpy().astype(np.intp) - 1


def _status(optimum: Optimum) -> FitStatus:
    if not optimum.converged:
        return "not_converged"
    return "at_bound" if optimum.at_bound else "converged"


def _drawn(draws: Constants | None, form: Form) -> dict[str, tuple[float, ...]]:
    """The draws that a law carries, by name."""
    if draws is None:
        return {}
    names = ("E", "A", "B", "alpha", "beta", *(("gamma",) if form in ("gamma", "kaplan") else ()))
    return {name: tuple(map(float, getattr(draws, name))) for name in names}


def _exponent(problem: Problem, x: Array) -> float:
    return float(problem.constants(x[None]).exponent_N[0])


def _counts(used: pl.DataFrame, n_column: str) -> NCounts:
    if n_column in _COUNTS_LABEL:
        return _COUNTS_LABEL[n_column]
    told = str(used["n_counts"][0])
    return told if told in ("n_params", "n_params_total", "n_params_non_embedding") else "unknown"  # type: ignore[return-value]


def _flops_counted(used: pl.DataFrame) -> CCounts:
    """The law's own arithmetic is C = 6·N·D; counted FLOPs enter only through the table."""
    return "train_flops" if used["c_counts"][0] == "train_flops" else "flops_6nd"


def _unit(used: pl.DataFrame) -> Literal["nats_per_token", "bits_per_byte", "unknown"]:
    unit = str(used["loss_unit"][0] or "unknown").lower().replace(" ", "_").replace("/", "_per_")
    if unit in ("nats", "nats_per_token", "nat_per_token"):
        return "nats_per_token"
    return "bits_per_byte" if unit in ("bits_per_byte", "bpb") else "unknown"


def _support(used: pl.DataFrame, n_column: str) -> Support:
    flops = used["train_flops"] if "train_flops" in used.columns else used["flops_6nd"]
    flops = flops.drop_nulls() if flops.null_count() < len(flops) else used["flops_6nd"]
    ratio = used["tokens"] / used[n_column]
    return Support(
        flops=(float(flops.min()), float(flops.max())),  # type: ignore[arg-type]
        tokens_per_param=(float(ratio.min()), float(ratio.max())),  # type: ignore[arg-type]
    )
