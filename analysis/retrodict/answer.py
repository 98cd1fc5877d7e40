"""The inference bill behind published models: the demand for which each was the best choice.

The price-free form is eps_N/eps_D - 1, the inference bill over the training bill that makes a
model the cheapest of its loss. Tokens, dollars and break-even follow from it. That a choice
reflects a demand is an interpretation: a stock of data or a deadline can force the same one.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from analysis import published
from analysis.frontier.allocation import FLOPS_RATIO
from analysis.frontier.decision import extrapolated, quantiles
from analysis.frontier.overtraining import (
    break_even_tokens,
    implied_spend_ratio,
    same_loss_optimum,
    training_overhead,
)
from analysis.law import Array, Constants, Law, LossLaw

# What a law says of a model, with an interval where it has draws.
QUANTITIES = ("spend_ratio", "implied_inference_tokens", "break_even_tokens", "training_overhead")
SCHEMA = {
    "model": pl.String,
    "family": pl.String,
    "n_params": pl.Float64,
    "tokens": pl.Float64,
    "law": pl.String,
    "compute_optimal_N": pl.Float64,
    "compute_optimal_D": pl.Float64,
    "spend_ratio": pl.Float64,
    "implied_inference_tokens": pl.Float64,
    "break_even_tokens": pl.Float64,
    "training_overhead": pl.Float64,
    "extrapolated": pl.Boolean,
    "draws": pl.Int64,
} | {f"{name}_{end}": pl.Float64 for name in QUANTITIES for end in ("low", "high")}


def retrodict(
    laws: Sequence[LossLaw],
    models: pl.DataFrame | None = None,
    *,
    level: float = 0.9,
) -> pl.DataFrame:
    """One row for each model and law, with the law's bootstrap interval where it has draws.

    Null: `implied_inference_tokens` where no demand explains the model (its spend ratio is below
    zero), `break_even_tokens` where it never pays (it is not smaller than the compute-optimal
    model of its loss). An interval end is null by the same rule.

    Args:
        models: columns model, family, n_params, tokens; the published ones when left out.
    """
    models = published.models() if models is None else models
    N = models["n_params"].cast(pl.Float64).to_numpy()
    D = models["tokens"].cast(pl.Float64).to_numpy()
    sizes = models.select("model", "family", pl.col("n_params", "tokens").cast(pl.Float64))
    frames = []
    for law in laws:
        N0, D0 = same_loss_optimum(law, N, D)
        columns = {"compute_optimal_N": N0, "compute_optimal_D": D0}
        columns |= _with_tokens(_quantities(law, N, D), D)
        outside = extrapolated(law, N, D)
        if outside is not None:
            columns["extrapolated"] = outside.astype(float)
        if law.draws:
            draws = Constants.of_draws(law)
            columns["draws"] = np.full(N.shape, float(draws.E.size))
            ends = {
                name: quantiles(drawn, level) for name, drawn in _quantities(draws, N, D).items()
            }
            for index, end in enumerate(("low", "high")):
                side = _with_tokens({name: pair[index] for name, pair in ends.items()}, D)
                columns |= {f"{name}_{end}": values for name, values in side.items()}
        frames.append(sizes.with_columns(pl.lit(law.name).alias("law"), **_series(columns)))
    return pl.concat([pl.DataFrame(schema=SCHEMA), *frames], how="diagonal")


def range_over_laws(rows: pl.DataFrame) -> pl.DataFrame:
    """Least and most over the laws for each model; null where any law gives none."""
    return rows.group_by("model", maintain_order=True).agg(
        expression
        for name in QUANTITIES
        for expression in (
            pl.when(pl.col(name).null_count() == 0).then(pl.col(name).min()).alias(f"{name}_least"),
            pl.col(name).max().alias(f"{name}_most"),
            pl.col(name).null_count().alias(f"{name}_none"),
        )
    )


def _quantities(law: Law, N: Array, D: Array) -> dict[str, Array]:
    """Quantities of models under a law, or under each draw, that do not depend on a demand."""
    return {
        "spend_ratio": implied_spend_ratio(law, N, D),
        "break_even_tokens": break_even_tokens(law, N, D),
        "training_overhead": training_overhead(law, N, D),
    }


def _with_tokens(quantities: dict[str, Array], D: Array) -> dict[str, Array]:
    """Add the served tokens that make the spend ratio; NaN where no demand makes or repays it."""
    ratio, even = quantities["spend_ratio"], quantities["break_even_tokens"]
    return quantities | {
        "implied_inference_tokens": np.where(ratio >= 0, ratio * D / FLOPS_RATIO, np.nan),
        "break_even_tokens": np.where(np.isfinite(even), even, np.nan),
    }


def _series(columns: dict[str, Array]) -> dict[str, pl.Series]:
    """Polars series with null for NaN, which numpy uses for a missing value."""
    return {
        name: pl.Series(name, values, nan_to_null=True).cast(SCHEMA[name])
        for name, values in columns.items()
    }
