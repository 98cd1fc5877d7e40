"""The same rows fitted under every count of N and C that a table has.

At small sizes the choice decides the answer: the embeddings are a large part of N there, and
6·N·D is a poor estimate of the FLOPs. So the counts are shown side by side.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from analysis.fit.options import FitOptions
from analysis.fit.parametric import weights_of
from analysis.law import Array, CCounts, Constants, Form, NCounts
from analysis.solver.objective import Rows
from analysis.solver.problem import Problem, make_problem
from analysis.solver.search import Optimum, find_optimum
from analysis.table.observations import COUNTS, Table

_SAME = 1e-3  # counts that agree to this are one count
FAR_FROM_6ND = 0.05


@dataclass(frozen=True, slots=True)
class Convention:
    """Approach 3's answer under one count of N and of C.

    Attributes:
        column: of the observations table.
        c_counts: `train_flops` only where the table's FLOPs differ from 6·N·D.
        n_opt, tokens_per_param: at `flops`; None where N* is withheld.
    """

    column: str
    n_counts: NCounts
    c_counts: CCounts
    exponent_N: float
    exponent_D: float
    n_opt: float | None
    tokens_per_param: float | None
    flops: float


def conventions(
    table: Table, options: FitOptions, fitted: tuple[Problem, Optimum] | None = None
) -> Iterator[Convention]:
    """Approach 3 under each count; N* at the largest compute of the table.

    Args:
        fitted: the optimum under `n_params`, where it has been searched.
    """
    used = table.used
    form: Form = "chinchilla" if options.form == "data_constrained" else options.form
    counted = used["train_flops"] if "train_flops" in used.columns else used["flops_6nd"]
    flops = float(counted.drop_nulls().max() or used["flops_6nd"].max())  # type: ignore[arg-type]
    D, loss = (used[c].to_numpy().astype(float) for c in ("tokens", "val_loss"))
    for column in count_columns(used):
        N = used[column].to_numpy().astype(float)
        rows = Rows.of(N, D, loss)
        if fitted and column == "n_params" and form == options.form:
            problem, optimum = fitted
        else:
            posed = make_problem(form, options.objective, rows, weights_of(used))
            problem, optimum = find_optimum(posed)
        constants = problem.constants(optimum.x[None])
        n_opt, d_opt = (float(value[0]) for value in constants.compute_optimal(flops))
        share = float(constants.exponent_N[0])
        plain = Convention(
            column=column,
            n_counts=table.n_counts if column == "n_params" else COUNTS[column],
            c_counts="flops_6nd",
            exponent_N=share,
            exponent_D=1 - share,
            n_opt=n_opt,
            tokens_per_param=d_opt / n_opt,
            flops=flops,
        )
        yield plain
        if "train_flops" in used.columns and not used["train_flops"].null_count():
            C = used["train_flops"].to_numpy().astype(float)
            if np.abs(C / (6 * N * D) - 1).max() > _SAME:
                yield _counted(plain, constants, N, C / (N * D))


def counted_as(table: Table, n_column: str, c_counts: CCounts) -> Table:
    """The table with another count of N, and C as counted or as 6·N·D with that N.

    Under 6·N·D the planned budgets, which are counted, group no rows.

    Args:
        n_column: one of `count_columns`.
    """
    frame = table.frame
    if n_column != "n_params":
        frame = frame.with_columns(pl.col(n_column).alias("n_params"))
    six = 6.0 * pl.col("n_params") * pl.col("tokens")
    frame = frame.with_columns(six.alias("flops_6nd"))
    if c_counts == "flops_6nd":
        frame = frame.drop("train_flops", "flops_budget", strict=False)
    counts = table.n_counts if n_column == "n_params" else COUNTS[n_column]
    return replace(table, frame=frame, n_counts=counts, c_counts=c_counts)


def count_columns(used: pl.DataFrame) -> list[str]:
    """Columns of the table that count N, each different count once."""
    columns: list[str] = []
    for column in COUNTS:
        if column not in used.columns or used[column].null_count():
            continue
        N = used[column].to_numpy().astype(float)
        if (N > 0).all() and not any(
            np.abs(used[other].to_numpy() / N - 1).max() < _SAME for other in columns
        ):
            columns.append(column)
    return columns


def flops_ratio(used: pl.DataFrame) -> tuple[float, float] | None:
    """Smallest and largest counted FLOPs over 6·N·D; None where none are counted."""
    if "train_flops" not in used.columns:
        return None
    counted = used.drop_nulls("train_flops")
    if not counted.height:
        return None
    six = 6.0 * counted["n_params"].to_numpy().astype(float) * counted["tokens"].to_numpy()
    ratio = counted["train_flops"].to_numpy() / six
    return float(ratio.min()), float(ratio.max())


def _counted(plain: Convention, law: Constants, N: Array, per_token: Array) -> Convention:
    """The convention under counted FLOPs, taken as C = k·N^(1 + s)·D with k and s from the table.

    Then N* grows as C to the beta/((1 + s)·beta + alpha).

    Args:
        per_token: counted FLOPs a parameter and token, C/(N·D).
    """
    design = np.stack([np.ones_like(N), np.log(N)], axis=1)
    log_k, s = map(float, np.linalg.lstsq(design, np.log(per_token), rcond=None)[0])
    alpha, beta = float(law.alpha[0]), float(law.beta[0])
    grid = np.linspace(np.log(N).min() - 8, np.log(N).max() + 12, 20001)
    log_D = np.log(plain.flops) - log_k - (1 + s) * grid
    inner = law.A * np.exp(-alpha * grid) + law.B * np.exp(-beta * log_D)
    best = int(np.argmin(inner))
    return replace(
        plain,
        c_counts="train_flops",
        exponent_N=beta / ((1 + s) * beta + alpha),
        exponent_D=alpha / ((1 + s) * beta + alpha),
        n_opt=float(np.exp(grid[best])),
        tokens_per_param=float(np.exp(log_D[best] - grid[best])),
    )
