"""One curvature of ln loss by ln learning rate and ln batch, through tables of trainings."""

from collections.abc import Iterable

import numpy as np
import polars as pl
from numpy.typing import NDArray

# Trainings within this share of the lowest loss of their size and budget are near enough.
WITHIN = 0.03
# Own constants of a size and budget: height, and slope by rate and by batch.
_OWN = 3


def near(rows: pl.DataFrame) -> pl.DataFrame:
    """The trainings near the lowest loss of one size and budget."""
    return rows.filter(pl.col("val_loss") <= pl.col("val_loss").min() * (1 + WITHIN))


def pooled(tables: Iterable[pl.DataFrame]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Second derivatives (lr, batch, both) and their standard errors, by least squares.

    Every size and budget of a table has a minimum of its own; all share the curvature.
    """
    groups = [
        near(rows)
        for table in tables
        for _, rows in table.group_by(["n_params", "tokens"], maintain_order=True)
    ]
    groups = [rows for rows in groups if len(rows) > _OWN]
    blocks, losses = [], []
    for number, rows in enumerate(groups):
        lr, batch = (
            np.log(rows[name].to_numpy()) - np.log(rows[name].to_numpy()).mean()
            for name in ("lr", "batch_tokens")
        )
        own = np.zeros((len(rows), _OWN * len(groups)))
        own[:, _OWN * number : _OWN * (number + 1)] = np.column_stack(
            [np.ones(len(rows)), lr, batch]
        )
        blocks.append(np.column_stack([lr**2 / 2, batch**2 / 2, lr * batch, own]))
        losses.append(np.log(rows["val_loss"].to_numpy()))
    design, y = np.vstack(blocks), np.concatenate(losses)
    coef, *_ = np.linalg.lstsq(design, y, rcond=None)
    free = len(y) - np.linalg.matrix_rank(design)
    variance = np.sum((y - design @ coef) ** 2) / free
    covariance = variance * np.linalg.pinv(design.T @ design)
    return coef[:3], np.sqrt(np.diag(covariance)[:3])
