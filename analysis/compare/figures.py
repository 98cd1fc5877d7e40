"""Figures of a comparison: best size by budget, and runs pair by pair."""

import numpy as np
import plotly.graph_objects as go
import polars as pl

from analysis.compare.answer import Comparison, common_budgets, optimum_band
from analysis.style import INK, MARK, WARN, axis, band, colour_scale, shorts, styled
from analysis.words import short

_BUDGETS = 40


def best_size_data(comparison: Comparison) -> pl.DataFrame:
    """N* of both laws over the budgets that either table covers: sweep, flops, n_opt, low, high.

    `common` says whether both tables cover the budget.
    """
    first, second = (law.fit for law in comparison.laws if law is not None)
    assert first.law.support is not None
    assert second.law.support is not None
    edges = [*first.law.support.flops, *second.law.support.flops]
    flops = np.geomspace(min(edges), max(edges), _BUDGETS)
    shared = common_budgets(first, second)
    common = pl.col("flops").is_between(shared[0] * (1 - 1e-9), shared[-1] * (1 + 1e-9))
    return pl.concat(
        optimum_band(fit, flops, comparison.level).select(
            pl.lit(name).alias("sweep"), pl.all(), common.alias("common")
        )
        for name, fit in zip(comparison.names, (first, second), strict=True)
    )


def draw_best_size(data: pl.DataFrame, comparison: Comparison) -> go.Figure:
    """N*(C) of both laws with their bands."""
    figure = go.Figure()
    # One of two equal lines would hide the other.
    for name, colour, dash in zip(comparison.names, (MARK, WARN), ("solid", "dash"), strict=True):
        part = data.filter(pl.col("sweep") == name)
        figure.add_scatter(**band(part["flops"], part["low"], part["high"], colour))
        figure.add_scatter(
            x=part["flops"], y=part["n_opt"], mode="lines", name=name,
            line={"color": colour, "dash": dash},
            text=shorts(part["n_opt"]), hovertemplate="C = %{x:.2e}<br>N* = %{text}<extra></extra>",
        )  # fmt: skip
    exponents = [c for c in comparison.contrasts if c.name == "exponent_N"]
    moved = exponents[0].shown if exponents else None
    title = {
        True: "The best size grows differently",
        False: "The tables show no difference in the growth of the best size",
        None: "The best size at a budget under both laws",
    }[moved]
    return styled(
        figure,
        f"{title}; bands are {comparison.level:.0%} intervals",
        axis("training FLOPs, C = 6·N·D", log=True, flops=True),
        axis("best size N*, parameters", log=True),
    )


def draw_pairs(pairs: pl.DataFrame, comparison: Comparison, unit: str) -> go.Figure:
    """Second minus first at every matched N and D, over tokens, one line a size."""
    figure, colours = go.Figure(), colour_scale(pairs["n_params"])
    for part in pairs.partition_by("n_params", maintain_order=True):
        ordered = part.sort("tokens")
        figure.add_scatter(
            x=ordered["tokens"], y=ordered["difference"], mode="lines+markers",
            line={"color": colours[part["n_params"][0]]},
            name=f"N = {short(part['n_params'][0])}", text=shorts(ordered["tokens"]),
            hovertemplate="D = %{text}<br>%{y:+.4f}<extra></extra>",
        )  # fmt: skip
    figure.add_hline(y=0, line={"color": INK, "width": 1})
    first, second = comparison.names
    below = int((pairs["difference"] < 0).sum())
    figure.update_yaxes(tickformat="+.3f")
    return styled(
        figure,
        f"{second} is lower than {first} at {below} of {pairs.height} matched points",
        axis("training tokens D", log=True),
        axis(f"difference in {unit}"),
    )
