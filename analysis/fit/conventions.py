"""The same rows under every count of N and C a table offers.

At small sizes the choice decides the answer: the embeddings are a large part of N there, and
6·N·D is a poor estimate of the FLOPs. So the counts stand side by side.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from analysis.law import Array, Constants, Form
from analysis.observations import COUNTS
from analysis.solver.objective import Objective, ObjectiveName, Rows
from analysis.solver.problem import make_problem
from analysis.solver.search import find_optimum

_SAME = 1e-3  # counts that agree to this are one count
FAR_FROM_6ND = 0.05
_WORDS = {
    "n_params_total": "total",
    "n_params_no_input_embedding": "without the input embedding",
    "n_params_non_embedding": "non-embedding",
}


@dataclass(frozen=True, slots=True)
class Convention:
    """One count of N and of C, and what approach 3 makes of the rows under it.

    Attributes:
        column: of the observations table.
        n_counts: in words.
        c_counts: `6ND`, or `counted` when the table's FLOPs differ from 6·N·D.
        n_opt, tokens_per_param: at `flops`.
    """

    column: str
    n_counts: str
    c_counts: str
    exponent_N: float
    exponent_D: float
    n_opt: float
    tokens_per_param: float
    flops: float


def conventions(
    used: pl.DataFrame,
    *,
    form: Form = "chinchilla",
    objective: ObjectiveName = "huber_log",
    delta: float = 1e-3,
) -> list[Convention]:
    """Approach 3 under each count; N* at the largest compute of the table."""
    form = "chinchilla" if form == "data_constrained" else form
    counted = used["train_flops"] if "train_flops" in used.columns else used["flops_6nd"]
    flops = float(counted.drop_nulls().max() or used["flops_6nd"].max())  # type: ignore[arg-type]
    D, loss = (used[c].to_numpy().astype(float) for c in ("tokens", "val_loss"))
    weights = used["weight"].to_numpy() if "weight" in used.columns else np.ones(len(D))
    table = []
    for column, words in columns_of(used).items():
        N = used[column].to_numpy().astype(float)
        problem = make_problem(form, Objective(objective, delta), Rows.of(N, D, loss), weights)
        problem, optimum = find_optimum(problem)
        constants = problem.constants(optimum.x[None])
        n_opt, d_opt = (float(value[0]) for value in constants.compute_optimal(flops))
        share = float(constants.exponent_N[0])
        table.append(
            Convention(column, words, "6ND", share, 1 - share, n_opt, d_opt / n_opt, flops)
        )
        if "train_flops" in used.columns and not used["train_flops"].null_count():
            C = used["train_flops"].to_numpy().astype(float)
            if np.abs(C / (6 * N * D) - 1).max() > _SAME:
                table.append(_counted(column, words, constants, N, D, C, flops))
    return table


def columns_of(used: pl.DataFrame) -> dict[str, str]:
    """Columns of the table that count N, each different count once, with its name in words."""
    found: dict[str, str] = {}
    known = str(used["n_counts"][0])
    for column in COUNTS:
        if column not in used.columns or used[column].null_count():
            continue
        values = used[column].to_numpy().astype(float)
        if not (values > 0).all():
            continue
        same = [c for c in found if np.abs(used[c].to_numpy() / values - 1).max() < _SAME]
        words = _WORDS.get(column, "")
        if column == "n_params":
            words = {"n_params": "without the input embedding", "unknown": "as given"}.get(
                known, _WORDS.get(known, "as given")
            )
        if not same:
            found[column] = words
    return found


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


def _counted(
    column: str, words: str, law: Constants, N: Array, D: Array, C: Array, flops: float
) -> Convention:
    """The optimum under counted FLOPs, taken as C = k·N^(1 + s)·D with k and s from the table.

    Then N* grows as C to the beta/((1 + s)·beta + alpha).
    """
    design = np.stack([np.ones_like(N), np.log(N)], axis=1)
    fitted = np.linalg.lstsq(design, np.log(C / (N * D)), rcond=None)[0]
    log_k, s = float(fitted[0]), float(fitted[1])
    alpha, beta = float(law.alpha[0]), float(law.beta[0])
    grid = np.linspace(np.log(N).min() - 8, np.log(N).max() + 12, 20001)
    log_D = np.log(flops) - log_k - (1 + s) * grid
    inner = law.A * np.exp(-alpha * grid) + law.B * np.exp(-beta * log_D)
    best = int(np.argmin(inner))
    exponent = beta / ((1 + s) * beta + alpha)
    return Convention(
        column,
        words,
        "counted",
        exponent,
        alpha / ((1 + s) * beta + alpha),
        float(np.exp(grid[best])),
        float(np.exp(log_D[best] - grid[best])),
        flops,
    )
