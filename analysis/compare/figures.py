"""Figures of a comparison: best size by budget, and runs pair by pair."""

import numpy as np
import plotly.graph_objects as go
import polars as pl

from analysis.compare.answer import Comparison, common_budgets, optimum_band
from analysis.style import INK

_FIRST = "#0b6e99"
_SECOND = "#c2410c"
_BANDS = {_FIRST: "rgba(11,110,153,0.15)", _SECOND: "rgba(194,65,12,0.15)"}
_BUDGETS = 40


def best_size_data(found: Comparison) -> pl.DataFrame:
    """N* of both laws over the budgets that either table covers: sweep, flops, n_opt, low, high.

    `common` says whether both tables cover the budget.
    """
    first, second = (law.fit for law in found.laws if law is not None)
    assert first.law.support is not None
    assert second.law.support is not None
    edges = [*first.law.support.flops, *second.law.support.flops]
    flops = np.geomspace(min(edges), max(edges), _BUDGETS)
    shared = common_budgets(first, second)
    common = pl.col("flops").is_between(shared[0] * (1 - 1e-9), shared[-1] * (1 + 1e-9))
    return pl.concat(
        optimum_band(fit, flops, found.level).select(
            pl.lit(name).alias("sweep"), pl.all(), common.alias("common")
        )
        for name, fit in zip(found.names, (first, second), strict=True)
    )


def draw_best_size(data: pl.DataFrame, found: Comparison) -> go.Figure:
    """N*(C) of both laws with their bands."""
    figure = go.Figure()
    for name, colour in zip(found.names, (_FIRST, _SECOND), strict=True):
        part = data.filter(pl.col("sweep") == name)
        figure.add_scatter(
            x=[*part["flops"], *reversed(part["flops"])],
            y=[*part["high"], *reversed(part["low"])],
            fill="toself", fillcolor=_BANDS[colour], line={"width": 0},
            hoverinfo="skip", showlegend=False,
        )  # fmt: skip
        figure.add_scatter(
            x=part["flops"], y=part["n_opt"], mode="lines", name=name, line={"color": colour},
            hovertemplate="C %{x:.3g}<br>N* %{y:.3g}<extra></extra>",
        )  # fmt: skip
    exponents = [c for c in found.contrasts if c.name == "exponent_N"]
    moved = exponents[0].shown if exponents else None
    title = {
        True: "The best size grows differently",
        False: "The tables do not tell the growth of the best size apart",
        None: "The best size at a budget under both laws",
    }[moved]
    figure.update_layout(
        title=f"{title}; bands are {found.level:.0%} intervals",
        xaxis={"type": "log", "title": "training FLOPs, C = 6ND", "exponentformat": "power"},
        yaxis={"type": "log", "title": "best size N*, parameters", "exponentformat": "power"},
        template="plotly_white",
        font={"color": INK},
        legend={"orientation": "h", "y": 1.08},
    )
    return figure


def draw_pairs(pairs: pl.DataFrame, found: Comparison) -> go.Figure:
    """Second less first at every matched N and D, over tokens, one line a size."""
    figure = go.Figure()
    for part in pairs.partition_by("n_params", maintain_order=True):
        ordered = part.sort("tokens")
        figure.add_scatter(
            x=ordered["tokens"], y=ordered["difference"], mode="lines+markers",
            name=f"N = {part['n_params'][0]:,}",
            hovertemplate="D %{x:,}<br>%{y:+.4f}<extra></extra>",
        )  # fmt: skip
    figure.add_hline(y=0, line={"color": INK, "width": 1})
    first, second = found.names
    below = int((pairs["difference"] < 0).sum())
    figure.update_layout(
        title=f"{second} is lower at {below} of {pairs.height} matched points",
        xaxis={"type": "log", "title": "training tokens D", "exponentformat": "power"},
        yaxis={"title": f"loss of {second} − {first}, nats per token", "tickformat": "+.3f"},
        template="plotly_white",
        font={"color": INK},
    )
    return figure
