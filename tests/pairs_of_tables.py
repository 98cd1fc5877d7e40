"""Tables of a baseline and a variant whose multiplier is known."""

import numpy as np
import polars as pl

from analysis.table.observations import Table
from analysis.table.runs import own_table

E, A, B, ALPHA, BETA = 1.8, 300.0, 2000.0, 0.45, 0.45
SLOPE = ALPHA * BETA / (ALPHA + BETA)  # of the frontier: L - E ~ C^-SLOPE
SIZES = tuple(np.geomspace(1e6, 32e6, 5).tolist())
BUDGETS = tuple(np.geomspace(1e15, 1e17, 4).tolist())


def loss(N, C, multiplier=1.0):
    """The baseline's loss at `multiplier` times the compute along its frontier."""
    return E + (A / N**ALPHA + B / (C / (6 * N)) ** BETA) * multiplier**-SLOPE


def pair(
    rng: np.random.Generator,
    multiplier: float = 1.0,
    *,
    sizes: tuple[float, ...] = SIZES,
    budgets: tuple[float, ...] = BUDGETS,
    noise: float = 2e-3,
    shared: float = 0.5,
    of_training: float = 0.0,
) -> tuple[Table, Table]:
    """A baseline and a variant, every size at every budget.

    Args:
        multiplier: how many times less compute the variant needs, at every budget.
        noise: of log loss.
        shared: share of the noise's variance that both have, as of one seed and data order.
        of_training: share of it that all horizons of a training have; above 0 the rows of one
            size are horizons of one training.
    """
    N, C = (grid.ravel() for grid in np.meshgrid(sizes, budgets, indexing="ij"))
    training = np.repeat(np.arange(len(sizes)), len(budgets))

    def drawn():
        own, common = rng.standard_normal(len(N)), rng.standard_normal(len(sizes))[training]
        return np.sqrt(1 - of_training) * own + np.sqrt(of_training) * common

    both = drawn()
    tables = []
    for side, factor in enumerate((1.0, multiplier)):
        apart = noise * (np.sqrt(shared) * both + np.sqrt(1 - shared) * drawn())
        frame = pl.DataFrame(
            {
                "n_params": np.round(N),
                "tokens": np.round(C / (6 * N)),
                "train_flops": C,
                "flops_6nd": C,
                "flops_budget": C,
                "val_loss": loss(N, C, factor) * np.exp(apart),
                "seed": 0,
                "status": "finished",
            }
        )
        if of_training:
            frame = frame.with_columns(
                run_id=pl.format("{} {}", pl.lit(side), pl.int_range(pl.len())),
                parent_run_id=pl.format("{} {}", pl.lit(side), pl.Series(training)),
            )
        tables.append(own_table(frame))
    return tables[0], tables[1]
