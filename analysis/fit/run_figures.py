"""Figures of runs: IsoFLOP valleys with the power law through their minima, curves, envelope."""

from html import escape

import numpy as np
import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from analysis.fit.envelope import EnvelopeFit
from analysis.fit.isoflop import IsoflopFit, parabola
from analysis.fit.power_law import PowerLaw
from analysis.law import LossUnit
from analysis.style import (
    GRID,
    INK,
    MARK,
    axis,
    colour_scale,
    ends,
    error_bars,
    log_ticks,
    shorts,
    size_legend,
    styled,
)
from analysis.words import bracket, counted, flops, short, with_unit

_STEP = 1.03  # factor in tokens between the points of a curve
# A curve that ends this far above its own lowest point has diverged; noise of batches does not.
_RISE = 1.1
MOST_CURVES = 100  # in one figure; a browser takes seconds over thousands


def isoflop_data(observations: pl.DataFrame, fit: IsoflopFit) -> pl.DataFrame:
    """Runs, fitted parabolas and minima of every budget.

    Returns:
        kind (`run`, `parabola`, `minimum`), flops_budget, n_params, loss, and for minima the
        interval `low`, `high`; `label` names a run and says why a valley was refused.
    """
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


def draw_isoflop(data: pl.DataFrame, fit: IsoflopFit, unit: LossUnit = "unknown") -> go.Figure:
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
    bars = error_bars(INK, *minima.select("n_params", "low", "high"))
    # Without an interval a minimum is the least certain: it must not look like the surest.
    bounded = minima["low"].is_not_null() & minima["high"].is_not_null()
    symbols = ["diamond" if closed else "diamond-open" for closed in bounded]
    mark = {"color": INK, "symbol": symbols, "size": 9}
    notes = [
        f"N* = {N}" if closed else f"N* = {N}, its interval is not bounded"
        for N, closed in zip(shorts(minima["n_params"]), bounded, strict=True)
    ]
    name = "minimum" if bounded.all() else "minimum (open: interval not bounded)"
    for col, x, y, error in (
        (1, minima["n_params"], minima["loss"], "error_x"),
        (2, minima["flops_budget"], minima["n_params"], "error_y"),
    ):
        figure.add_scatter(
            x=x, y=y, mode="markers", marker=mark, name=name, legendgroup="minimum",
            showlegend=col == 1, row=1, col=col, **{error: bars}, text=notes,
            hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    title = "No budget shows a minimum inside its grid"
    if minima.height:
        tried = counted(data["flops_budget"].n_unique(), "budget")
        title = f"A minimum at {minima.height} of {tried}"
    if fit.N is not None:
        title = f"N* grows as C^{power(fit.N)}"
        if fit.N.exponent_interval is not None and fit.N.exponent_interval[0] <= 0:
            title = f"N* is not shown to grow with C: C^{power(fit.N)}"
        C = np.geomspace(*ends(minima["flops_budget"]), 50)
        figure.add_scatter(
            x=C, y=fit.N.coef * C**fit.N.exponent, mode="lines", name="power law",
            line={"color": MARK}, row=1, col=2,
        )  # fmt: skip
    styled(figure, title, axis("N, parameters", log=True), axis(with_unit("loss", unit)))
    budgets = axis("C, training FLOPs", log=True, flops=True)
    if minima.height and np.ptp(np.log10(ends(minima["flops_budget"]))) < 1:
        budgets |= log_ticks(*ends(minima["flops_budget"]), flops)
    figure.update_xaxes(**budgets, row=1, col=2)
    figure.update_yaxes(**axis("N*, parameters", log=True), nticks=6, row=1, col=2)
    if not minima.height:
        # Axes without a point would show a range that means nothing.
        figure.update_xaxes(visible=False, row=1, col=2)
        figure.update_yaxes(visible=False, row=1, col=2)
    return figure


def power(law: PowerLaw | None) -> str:
    """The exponent with its interval."""
    if law is None:
        return "?"
    return f"{law.exponent:.2f}{bracket(law.exponent_interval, '{:.2f}'.format)}"


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


def thinned_curves(data: pl.DataFrame, most: int = MOST_CURVES) -> pl.DataFrame:
    """At most about `most` of the curves of `loss_curves_data`, which a browser can draw.

    Kept are, for each size, the curves with the lowest and the highest end; of the diverged runs,
    which end above their own lowest point, those that end highest; and curves evenly spaced in
    order of size, the first and the last among them. Every kept curve keeps all its points.
    """
    finite = pl.col("loss").filter(pl.col("loss").is_finite())
    curves = data.group_by("run_id", maintain_order=True).agg(
        pl.col("n_params").first(),
        # A loss that is not a number ends above all others.
        pl.col("loss").last().fill_nan(float("inf")).alias("end"),
        finite.min().alias("least"),
    )
    if curves.height <= most:
        return data
    curves = curves.sort("n_params", maintain_order=True).with_row_index("place")
    lowest, highest = (
        curves.sort("end", descending=highest, maintain_order=True).unique("n_params", keep="first")
        for highest in (False, True)
    )
    rise = (pl.col("end") / pl.col("least")).fill_null(float("inf"))
    risen = curves.filter(rise > _RISE).sort(rise, descending=True).head(most // 4)
    ends = lowest.height + highest.height + risen.height
    even = np.linspace(0, curves.height - 1, max(most - ends, 2)).round().astype(int).tolist()
    kept = {*even, *lowest["place"], *highest["place"], *risen["place"]}
    names = curves.filter(pl.col("place").is_in(sorted(kept)))["run_id"]
    return data.filter(pl.col("run_id").is_in(names.implode()))


def draw_loss_curves(data: pl.DataFrame) -> go.Figure:
    """Loss against compute, one line a run, coloured by size."""
    colours = colour_scale(data["n_params"])
    lines = []
    for run in data.partition_by("run_id", maintain_order=True):
        N = run["n_params"][0]
        lines.append({
            "x": run["train_flops"], "y": run["loss"], "mode": "lines",
            "line": {"color": colours[N], "width": 1.5}, "name": f"N = {short(N)}",
            "legendgroup": str(N), "showlegend": False, "text": shorts(run["tokens"]),
            "hovertemplate": f"{escape(str(run['name'][0]))}<br>N = {short(N)}"
            "<br>C = %{x:.2e}<br>D = %{text}<br>loss %{y:.4f}<extra></extra>",
        })  # fmt: skip
    # Given as dicts and at once: Plotly checks and copies a trace that is added alone twice.
    figure = go.Figure(lines)
    runs, sizes = data["run_id"].n_unique(), data["n_params"].n_unique()
    size_legend(figure, colours)
    title = f"{runs} curves of {sizes} sizes{_lowest(data)}"
    if sizes == 1:
        title = f"{runs} curves of one size" if runs > 1 else "The loss curve of one run"
    losses, top = axis("training loss, nats per token", log=True), _top(data)
    beyond = data.filter(~(pl.col("loss") <= top))["run_id"].n_unique()
    if beyond and np.isfinite(top):
        # A run that diverges would flatten all others.
        low = np.nanmin(data["loss"].to_numpy())
        losses |= {"range": np.log10([0.95 * low, top]).tolist()}
        title += f"; {beyond} beyond the top of the figure"
    return styled(figure, title, axis("training FLOPs", log=True, flops=True), losses)


def _top(data: pl.DataFrame) -> float:
    """Three times the largest loss with which a run begins."""
    first = data.group_by("run_id", maintain_order=True).first()["loss"]
    return 3 * float(np.nanmax(first.to_numpy(), initial=0.0)) or float("inf")


def _lowest(data: pl.DataFrame) -> str:
    """Which size is lowest at the least and at the largest compute that two sizes share."""
    best = (
        data.filter(pl.col("loss").is_finite())
        .with_columns(pl.col("train_flops").log(base=2).floor().alias("octave"))
        .filter(pl.col("n_params").n_unique().over("octave") > 1)
        .sort("loss")
        .group_by("octave")
        .first()
        .sort("octave")
    )
    if best.height < 2:
        return ""
    first, last = (best.row(place, named=True) for place in (0, -1))
    # One size may be the lowest at either end.
    then = " and" if first["n_params"] == last["n_params"] else f", {short(last['n_params'])}"
    return (
        f": {short(first['n_params'])} is lowest at {flops(first['train_flops'])} FLOPs{then} "
        f"at {flops(last['train_flops'])}"
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
    return styled(
        figure,
        title,
        axis("training FLOPs", log=True, flops=True),
        axis("loss, nats per token", log=True),
    )
