"""Figures of loss curves and of their envelope (approach 1)."""

from html import escape

import numpy as np
import plotly.graph_objects as go
import polars as pl

from analysis.fit.envelope import EnvelopeFit
from analysis.fit.isoflop_figures import power
from analysis.style import GRID, INK, axis, colour_scale, shorts, size_legend, styled
from analysis.words import short

_STEP = 1.03  # factor in tokens between the points of a curve


def loss_curves_data(curves: pl.DataFrame) -> pl.DataFrame:
    """Curves averaged to a figure's resolution: run_id, name, n_params, tokens, train_flops, loss.

    A point is the mean loss over 3 % more tokens than the point before, so that the noise of
    single batches does not hide the curve.

    Args:
        curves: with `train_loss`, else with `val_loss`; rows without a loss are dropped.
    """
    loss = "train_loss" if "train_loss" in curves.columns else "val_loss"
    name = pl.col("name") if "name" in curves.columns else pl.col("run_id")
    return (
        curves.filter(pl.col(loss).is_not_null())
        .with_columns((pl.col("tokens").log() / np.log(_STEP)).floor().alias("bin"))
        .sort("run_id", "tokens")
        .group_by("run_id", "bin", maintain_order=True)
        .agg(
            name.cast(pl.String).first().alias("name"),
            pl.col("n_params").first(),
            pl.col("tokens", "train_flops").last(),
            pl.col(loss).mean().alias("loss"),
        )
        .drop("bin")
    )


def draw_loss_curves(data: pl.DataFrame) -> go.Figure:
    """Loss against compute, one line a run, coloured by size."""
    figure = go.Figure()
    colours = colour_scale(data["n_params"])
    for run in data.partition_by("run_id", maintain_order=True):
        N = run["n_params"][0]
        figure.add_scatter(
            x=run["train_flops"], y=run["loss"], mode="lines",
            line={"color": colours[N], "width": 1.5}, name=f"N = {short(N)}", legendgroup=str(N),
            showlegend=False, text=shorts(run["tokens"]),
            hovertemplate=f"{escape(str(run['name'][0]))}<br>N = {short(N)}"
            "<br>C = %{x:.2e}<br>D = %{text}<br>loss %{y:.4f}<extra></extra>",
        )  # fmt: skip
    runs, sizes = data["run_id"].n_unique(), data["n_params"].n_unique()
    size_legend(figure, colours)
    return styled(
        figure,
        f"{runs} curves of {sizes} sizes: more compute needs a larger model",
        axis("training FLOPs", log=True, flops=True),
        axis("training loss", log=True),
    )


def envelope_data(curves: pl.DataFrame, fit: EnvelopeFit) -> pl.DataFrame:
    """The thinned curves with the hull's vertices: kind `curve` or `hull`."""
    lines = loss_curves_data(curves).with_columns(pl.lit("curve").alias("kind"))
    hull = fit.hull.select(
        "run_id", pl.col("run_id").cast(pl.String).alias("name"),
        pl.col("n_params").cast(lines.schema["n_params"]),
        pl.col("tokens").cast(lines.schema["tokens"]),
        pl.col("train_flops").cast(lines.schema["train_flops"]),
        "loss", pl.lit("hull").alias("kind"),
    )  # fmt: skip
    return pl.concat([lines, hull])


def draw_envelope(data: pl.DataFrame, fit: EnvelopeFit) -> go.Figure:
    """All curves in grey, and the hull coloured by the model that holds it."""
    figure = go.Figure()
    for run in data.filter(pl.col("kind") == "curve").partition_by("run_id"):
        figure.add_scatter(
            x=run["train_flops"], y=run["loss"], mode="lines", hoverinfo="skip", showlegend=False,
            line={"color": GRID, "width": 1},
        )  # fmt: skip
    hull = data.filter(pl.col("kind") == "hull")
    figure.add_scatter(
        x=hull["train_flops"], y=hull["loss"], mode="lines+markers", showlegend=False,
        line={"color": INK, "width": 1},
        marker={"color": np.log10(hull["n_params"].to_numpy()), "colorscale": "Viridis", "size": 8,
                "colorbar": {"title": "log10 N"}},
        text=shorts(hull["n_params"]),
        hovertemplate="C = %{x:.2e}<br>N = %{text}<br>loss %{y:.4f}<extra></extra>",
    )  # fmt: skip
    title = fit.reason or f"Along the envelope N* grows as C^{power(fit.N)}"
    flops, loss = axis("training FLOPs", log=True, flops=True), axis("loss", log=True)
    return styled(figure, title, flops, loss)
