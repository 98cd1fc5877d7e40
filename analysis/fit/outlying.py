"""Rows far from the law of the others, in sentences with the filter that leaves them out."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl

from analysis.fit.options import DEFAULT
from analysis.fit.parametric import pose
from analysis.solver.kernels import predict_log
from analysis.solver.objective import Objective
from analysis.solver.outliers import MULTIPLE, find_outliers
from analysis.solver.problem import Problem
from analysis.solver.search import Optimum, find_optimum
from analysis.table.observations import Table, name_rows, where_without
from analysis.words import short

_NO_SCATTER = 1e-9  # of a table without noise


def outliers_of(table: Table) -> Iterator[str]:
    """The outliers that a fit of the table names, for answers that show no fit.

    Raises:
        TableError: see `fit_parametric`.
    """
    problem, table = pose(table, DEFAULT)
    problem, optimum = find_optimum(problem)
    predicted = predict_log(problem.rows, problem.chart.to_theta(optimum.x[None]))[0]
    residual = pl.Series(np.log(problem.rows.loss) - predicted)
    yield from outliers(problem, optimum, table.used.with_columns(residual=residual))


def outliers(problem: Problem, optimum: Optimum, used: pl.DataFrame) -> Iterator[str]:
    """Rows that the law does not explain, and rows that pull it towards themselves.

    Args:
        used: the rows with their `residual`, ln of the loss over the law's.
    """
    residual = used["residual"].to_numpy()
    scatter = float(np.median(np.abs(residual)))
    if scatter < _NO_SCATTER:
        return
    x, chart = optimum.x, problem.chart
    # Residuals are of logs, whatever the objective's are.
    slope = replace(problem, objective=Objective("mse_log")).slope(x)
    plain, hidden = find_outliers(residual, slope[:, (x > chart.lower) & (x < chart.upper)])
    distance = f"more than {MULTIPLE:.0f} times the median deviation of {100 * scatter:.2g} %"
    if plain.any():
        rows = used.filter(pl.Series(plain))
        farthest = 100 * np.abs(np.expm1(residual[plain])).max()
        off = f"{short(farthest)} % off the law"
        off = f"lies {off}" if len(rows) == 1 else f"lie up to {off}"
        yield f"{name_rows(rows)} {off}, {distance}.{_way_out(rows)}"
    if hidden.any():
        verb, other = ("pulls", "it") if hidden.sum() == 1 else ("pull", "each of them")
        yield (
            f"{name_rows(used.filter(pl.Series(hidden)))} {verb} the law near: {distance} from "
            f"the law fitted without {other}."
        )


def _way_out(rows: pl.DataFrame) -> str:
    where = where_without(rows)
    if not where:
        return ""
    runs, them = ("that run", "it") if len(rows) == 1 else ("those runs", "them")
    return f" If {runs} went wrong, leave {them} out: {where}."
