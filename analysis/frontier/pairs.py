"""Pairs of sizes that a law predicts to end at the same loss: the test of its frontier.

A frontier moves along iso-loss contours. Two trainings on one contour test it; the miss is a
loss, and the tokens that would make up for it.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from analysis.frontier.allocation import compute_optimal
from analysis.frontier.overtraining import tokens_multiple
from analysis.law import Constants, Law

# Largest relative difference between the predicted losses of a pair of runs.
_ALIKE = 5e-3


@dataclass(frozen=True)
class Pair:
    """A compute-optimal model and a smaller one of the same predicted loss."""

    N_large: float
    D_large: float
    N_small: float
    D_small: float
    loss: float


def equal_loss_pair(law: Law, C: float) -> Pair:
    """The pair to train: compute-optimal for C, and half its size.

    Raises:
        TooSmall: no amount of data brings the smaller one to the loss.
    """
    N0, D0 = (float(value) for value in compute_optimal(law, C))
    D = D0 * float(tokens_multiple(law, 0.5))
    return Pair(N0, D0, 0.5 * N0, D, float(Constants.of(law).loss(N0, D0)))


def observed_pairs(
    law: Law, observations: pl.DataFrame, *, least_ratio: float = 1.8
) -> pl.DataFrame:
    """Runs of different size that the law predicts to end alike, the widest pair first.

    The law was fitted on these runs, so this is a milder test than a pair trained for it.

    Args:
        observations: columns n_params, tokens, val_loss; rows without a loss are skipped.
        least_ratio: of the larger size to the smaller.

    Returns:
        N_large, D_large, loss_large, the same for small; miss_loss, the small model's observed
        loss above the one that the law and the large model imply; miss_tokens, the extra
        tokens as a fraction that would make up for it; surprising, whether the miss is more
        than twice what two runs' scatter around the law explains.
    """
    frame = observations.filter(pl.col("val_loss").is_finite())
    N, D, loss = (
        frame[name].cast(pl.Float64).to_numpy() for name in ("n_params", "tokens", "val_loss")
    )
    constants = Constants.of(law)
    predicted = constants.loss(N, D)
    wide = N[:, np.newaxis] >= least_ratio * N
    close = np.abs(predicted[:, np.newaxis] / predicted - 1) < _ALIKE
    large, small = np.nonzero(wide & close)
    miss = (loss[small] - predicted[small]) - (loss[large] - predicted[large])
    # Loss against log D, by a step of 1 % either way.
    slope = (constants.loss(N, 0.99 * D) - constants.loss(N, 1.01 * D)) / np.log(1.01 / 0.99)
    scatter = np.sqrt(2) * np.std(loss - predicted)
    pairs = pl.DataFrame(
        {
            "N_large": N[large],
            "D_large": D[large],
            "loss_large": loss[large],
            "N_small": N[small],
            "D_small": D[small],
            "loss_small": loss[small],
            "miss_loss": miss,
            "miss_tokens": np.expm1(miss / slope[small]),
            "surprising": np.abs(miss) > 2 * scatter,
        }
    )
    return pairs.sort(pl.col("N_large") / pl.col("N_small"), descending=True)
