"""The IsoFLOP figure: valleys with their minima, and the power law through them."""

from html import escape

import numpy as np
import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from analysis.fit.isoflop import IsoflopFit, fit_isoflop, parabola
from analysis.fit.power_law import PowerLaw
from analysis.style import INK, MARK, axis, colour_scale, ends, shorts, styled
from analysis.words import flops, short


def isoflop_data(observations: pl.DataFrame, fit: IsoflopFit | None = None) -> pl.DataFrame:
    """Runs, fitted parabolas and minima of every budget.

    Returns:
        kind (`run`, `parabola`, `minimum`), flops_budget, n_params, loss, and for minima the
        interval `low`, `high`; `label` names a run and says why a valley was refused.
    """
    fit = fit_isoflop(observations) if fit is None else fit
    rows: list[dict[str, object]] = []
    names = observations["name"] if "name" in observations.columns else observations["row"]
    by_row = {
        int(row): (float(N), float(loss), str(name))
        for row, N, loss, name in zip(
            observations["row"],
            observations["n_params"],
            observations["val_loss"],
            names,
            strict=True,
        )
        if loss is not None
    }
    for valley in fit.valleys:
        base = {"flops_budget": valley.flops, "low": None, "high": None}
        for row in valley.rows_all:
            N, loss, name = by_row[row]
            rows.append({**base, "kind": "run", "n_params": N, "loss": loss, "label": name})
        if valley.status != "ok" or valley.n_opt is None:
            continue
        near = [by_row[row] for row in valley.rows]
        x, y = parabola(np.array([n for n, _, _ in near]), np.array([loss for _, loss, _ in near]))
        for N, loss in zip(x.tolist(), y.tolist(), strict=True):
            rows.append({**base, "kind": "parabola", "n_params": N, "loss": loss, "label": ""})
        low, high = valley.n_interval or (None, None)
        rows.append(
            {**base, "kind": "minimum", "n_params": valley.n_opt, "loss": valley.loss,
             "label": "", "low": low, "high": high}
        )  # fmt: skip
    schema = {
        "kind": pl.String,
        "flops_budget": pl.Float64,
        "n_params": pl.Float64,
        "loss": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "label": pl.String,
    }
    return pl.DataFrame(rows, schema=schema)


def draw_isoflop(data: pl.DataFrame, fit: IsoflopFit | None = None) -> go.Figure:
    """Valleys of loss over N, one a budget, with their minima; beside them N*(C)."""
    figure = make_subplots(cols=2, column_widths=[0.62, 0.38], horizontal_spacing=0.1)
    colours = colour_scale(data["flops_budget"])
    for part in data.partition_by("flops_budget", maintain_order=True):
        C = part["flops_budget"][0]
        name = f"C = {flops(C)}"
        runs = part.filter(pl.col("kind") == "run")
        line = part.filter(pl.col("kind") == "parabola")
        colour, group = colours[C], str(C)
        figure.add_scatter(
            x=runs["n_params"], y=runs["loss"], mode="markers", name=name, legendgroup=group,
            marker={"color": colour, "size": 7}, 
            text=[f"{escape(label)}<br>N = {short(N)}"
                  for label, N in runs.select("label", "n_params").iter_rows()],
            hovertemplate="%{text}<br>loss %{y:.4f}<extra>" + name + "</extra>",
            row=1, col=1,
        )  # fmt: skip
        figure.add_scatter(
            x=line["n_params"], y=line["loss"], mode="lines", legendgroup=group, showlegend=False,
            line={"color": colour, "width": 1.5}, hoverinfo="skip", row=1, col=1,
        )  # fmt: skip
    minima = data.filter(pl.col("kind") == "minimum").sort("flops_budget")
    up = (minima["high"] - minima["n_params"]).fill_null(0)
    down = (minima["n_params"] - minima["low"]).fill_null(0)
    bars = {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "color": INK}
    mark = {"color": INK, "symbol": "diamond", "size": 9}
    for col, x, y, error in (
        (1, minima["n_params"], minima["loss"], "error_x"),
        (2, minima["flops_budget"], minima["n_params"], "error_y"),
    ):
        figure.add_scatter(
            x=x, y=y, mode="markers", marker=mark, name="minimum", legendgroup="minimum",
            showlegend=col == 1, row=1, col=col, **{error: bars}, text=shorts(minima["n_params"]),
            hovertemplate="N* = %{text}<extra></extra>",
        )  # fmt: skip
    title = "No budget shows a minimum inside its grid"
    if minima.height:
        title = f"{minima.height} of {data['flops_budget'].n_unique()} budgets show a minimum"
    if fit is not None and fit.N is not None:
        title = f"N* grows as C^{power(fit.N)}"
        C = np.geomspace(*ends(minima["flops_budget"]), 50)
        figure.add_scatter(
            x=C, y=fit.N.coef * C**fit.N.exponent, mode="lines", name="power law",
            line={"color": MARK}, row=1, col=2,
        )  # fmt: skip
    styled(figure, title, axis("N, parameters", log=True), axis("loss"))
    figure.update_xaxes(**axis("C, training FLOPs", log=True, flops=True), row=1, col=2)
    figure.update_yaxes(**axis("N*", log=True), nticks=6, row=1, col=2)
    if not minima.height:
        # Axes without a point would show a range that means nothing.
        figure.update_xaxes(visible=False, row=1, col=2)
        figure.update_yaxes(visible=False, row=1, col=2)
    return figure


def power(law: PowerLaw | None) -> str:
    """The exponent with its interval."""
    if law is None:
        return "?"
    interval = law.exponent_interval
    return f"{law.exponent:.2f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")
