"""How forecasts of this very table have done: cut it below its largest compute, foretell the rest.

Only runs near the frontier are scored, within 15 % of the lowest loss in their quarter of a decade
of C = 6·N·D: nobody plans the others.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.fit.options import FitOptions
from analysis.fit.parametric import fit_parametric
from analysis.forecast.posterior import Posterior, posterior
from analysis.forecast.rows import rows_of
from analysis.law import Array, Constants, ForecastForm, deviations
from analysis.table.observations import Table, TableError

FACTORS = (2, 3, 5, 10)
_NEAR, _QUARTER = 1.15, 0.25
_RESAMPLES = 100


@dataclass(frozen=True, slots=True)
class Score:
    """How intervals of ln L did: in per cent of the loss, `coverage` as a share.

    Attributes:
        error_percent: mean distance of the losses from their forecasts.
        winkler: mean width of the interval plus 2/(1 - level) times the distance of a loss
            outside it (Gneiting and Raftery 2007, eq. 43).
    """

    coverage: float
    error_percent: float
    width_percent: float
    winkler: float


@dataclass(frozen=True, slots=True)
class Cut:
    """Runs from Cmax/`factor` on, `rows` of them near the frontier, foretold from those below.

    `approach_3` is None where its law has more constants than there are runs.
    """

    factor: int
    learnt: int
    rows: int
    forecast: Score
    approach_3: Score | None


def record(table: Table, form: ForecastForm, level: float) -> tuple[Cut, ...]:
    """The record at each factor that leaves enough runs below, and others than the one before."""
    used = table.used
    C = used["flops_6nd"].to_numpy()
    near = near_frontier(C, used["val_loss"].to_numpy())
    cuts, before = [], used.height
    for factor in FACTORS:
        below = C.max() / factor > C
        if below.sum() == before:
            # Between two budgets every factor cuts alike: the same forecasts count once.
            continue
        before = int(below.sum())
        learnt, foretold = used.filter(below), used.filter(~below & near)
        part = table.filter(pl.col("row").is_in(learnt["row"].to_list()))
        try:
            rows = rows_of(part)
        except TableError:
            # Too few runs are left below.
            continue
        cuts.append(_cut(factor, part, posterior(rows, form), foretold, level))
    return tuple(cuts)


def near_frontier(C: Array, loss: Array) -> NDArray[np.bool_]:
    """Whether each run lies within 15 % of the lowest loss in its quarter-decade of compute."""
    frame = pl.DataFrame({"loss": loss, "bin": np.floor(np.log10(C) / _QUARTER)})
    return frame.select(pl.col("loss") <= _NEAR * pl.col("loss").min().over("bin"))[
        "loss"
    ].to_numpy()


def score(loss: Array, mean: Array, sd: Array, level: float) -> Score:
    """Score normal forecasts of ln L against losses; (runs,) each."""
    away = np.abs(np.log(loss) - mean)
    half = deviations(level) * sd
    outside = np.maximum(away - half, 0)
    return Score(
        float((away <= half).mean()),
        float(100 * away.mean()),
        float(100 * (2 * half).mean()),
        float(100 * (2 * half + 2 / (1 - level) * outside).mean()),
    )


def _cut(factor: int, part: Table, below: Posterior, foretold: pl.DataFrame, level: float) -> Cut:
    learnt = part.used
    N, D, loss = (foretold[c].to_numpy() for c in ("n_params", "tokens", "val_loss"))
    forecast = below.predict_each(N, D)
    fit = fit_parametric(part, FitOptions(bootstrap=_RESAMPLES, level=level))
    approach_3 = None
    if fit.draws is not None:
        drawn = np.log(Constants.of_draws(fit.law).loss(N, D))
        left = np.log(learnt["val_loss"].to_numpy()) - np.log(
            fit.law.loss(learnt["n_params"].to_numpy(), learnt["tokens"].to_numpy())
        )
        sd = np.sqrt(drawn.var(axis=0) + (left**2).mean())
        approach_3 = score(loss, np.log(fit.law.loss(N, D)), sd, level)
    return Cut(
        factor,
        learnt.height,
        foretold.height,
        score(loss, forecast.mean, forecast.sd, level),
        approach_3,
    )
