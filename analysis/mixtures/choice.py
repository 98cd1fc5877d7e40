"""Which law a table of mixtures follows, by its errors on mixtures held out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from analysis.law import Array
from analysis.mixtures.forms import EXPONENTIAL, MIXED_SIZES, POWER
from analysis.mixtures.kernel import KernelLaw
from analysis.mixtures.ridge import RidgeLaw
from analysis.mixtures.rows import Mixtures
from analysis.mixtures.surface import Fitted, Law
from analysis.table.observations import TableError
from analysis.words import counted

# From few constants to many: of laws that do equally well the first one is chosen.
LAWS: tuple[Law, ...] = (EXPONENTIAL, POWER, MIXED_SIZES, RidgeLaw(), KernelLaw())
FOLDS = 5
# Fewer different mixtures than this leave a held-out fold without any.
LEAST_MIXTURES = 8


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """A law's predictions for mixtures that it was not fitted to.

    Attributes:
        law: its kind.
        fitted: the law fitted to all rows.
        log_losses: held-out ln L (rows, t).
        spread: its standard deviation there, up to a factor (rows, t).
        rank, r2: of predicted and observed losses by source (t,); nan of one that never varies.
        pooled_rank, pooled_r2: of the target.
        error: mean squared error of ln L by row, in variances of each source (rows,).
    """

    law: Law
    fitted: Fitted
    log_losses: Array
    spread: Array
    rank: Array
    r2: Array
    pooled_rank: float
    pooled_r2: float
    error: Array

    @property
    def varying(self) -> int:
        """How many losses differ between rows."""
        return int(np.isfinite(self.r2).sum())

    @property
    def mean_rank(self) -> float:
        """Over the losses that have a rank correlation; nan without any."""
        return _mean(self.rank)

    @property
    def mean_r2(self) -> float:
        """Over the losses that vary."""
        return _mean(self.r2)


def cross_validate(mixtures: Mixtures, weights: Array) -> list[CrossValidation]:
    """Every law that the table has rows enough for, on the same folds of mixtures.

    Args:
        weights: of the losses in the target (t,).

    Raises:
        TableError: there are too few different mixtures.
    """
    groups = mixtures.mixture
    count = int(groups.max()) + 1
    if count < LEAST_MIXTURES:
        raise TableError(
            f"a law and its held-out error need {LEAST_MIXTURES} different mixtures or more; the "
            f"table has {count} in {counted(len(mixtures), 'row')}. Train more."
        )
    # Rows of one mixture are held out together: the law must not know the others' losses.
    folds = np.random.default_rng(0).permutation(np.arange(count) % FOLDS)[groups]
    keep = [folds != fold for fold in range(FOLDS)]
    k, s = mixtures.shares.shape[1], mixtures.sizes.shape[1]
    least = min(int(mask.sum()) for mask in keep)
    y = np.log(mixtures.losses)
    scores = []
    for law in LAWS:
        if least < law.least_rows(k, s) or (law == MIXED_SIZES and s == 0):
            continue
        *held_out, fitted = law.fits(mixtures.inputs, k, y, [*keep, np.ones(len(y), bool)])
        logs, spread = np.empty_like(y), np.empty_like(y)
        for mask, part in zip(keep, held_out, strict=True):
            logs[~mask] = part.log_losses(mixtures.inputs[~mask])
            spread[~mask] = part.spread(mixtures.inputs[~mask])
        scores.append(_score(law, fitted, logs, spread, y, weights))
    return scores


def chosen(scores: Sequence[CrossValidation]) -> CrossValidation:
    """The law of least held-out error, or a simpler one that is within a standard error of it."""
    best = min(scores, key=lambda score: float(score.error.mean()))
    for score in scores:
        worse = score.error - best.error
        if worse.mean() <= worse.std() / np.sqrt(len(worse)):
            return score
    return best


def rank_correlation(first: Array, second: Array) -> float:
    """Spearman's; nan where one of the two is constant."""
    a, b = (pl.Series(values).rank().to_numpy() for values in (first, second))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _score(
    law: Law, fitted: Fitted, logs: Array, spread: Array, y: Array, weights: Array
) -> CrossValidation:
    predicted, observed = np.exp(logs), np.exp(y)
    places = range(y.shape[1])
    # A loss that never varies says nothing of the shares, and any law fits it but for rounding.
    variance = np.where(np.ptp(y, axis=0) > 0, y.var(axis=0), np.inf)
    return CrossValidation(
        law,
        fitted,
        logs,
        spread,
        np.array([rank_correlation(predicted[:, j], observed[:, j]) for j in places]),
        np.array([_r2(predicted[:, j], observed[:, j]) for j in places]),
        rank_correlation(predicted @ weights, observed @ weights),
        _r2(predicted @ weights, observed @ weights),
        ((logs - y) ** 2 / variance).mean(axis=1),
    )


def _r2(predicted: Array, observed: Array) -> float:
    if np.ptp(observed) == 0:
        return float("nan")
    total = float(((observed - observed.mean()) ** 2).sum())
    return 1 - float(((predicted - observed) ** 2).sum()) / total


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
