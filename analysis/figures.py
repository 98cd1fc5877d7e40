"""Figures of fits. Each has a data function, which tests read, and a draw.

Titles say what follows from the picture.
"""

from html import escape
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
import polars as pl
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from analysis.isoflop import IsoflopFit, PowerLaw, fit_isoflop, parabola

if TYPE_CHECKING:
    from analysis.envelope import EnvelopeFit
    from analysis.fit import GroupFit

_INK = "#1c2430"
_SOFT = "#8a94a3"
_MARK = "#0b6e99"
_WARN = "#c2410c"
_STEP = 1.03  # factor in tokens between the points of a curve
_UNITS = {"nats_per_token": "nats per token", "bits_per_byte": "bits per byte"}


def loss_curves_data(curves: pl.DataFrame) -> pl.DataFrame:
    """Curves averaged to what can be seen: run_id, name, n_params, tokens, train_flops, loss.

    A point is the mean loss over 3 % more tokens than the point before, so that the noise of
    single batches does not hide the curve.

    Args:
        curves: with `train_loss`, or `val_loss` where there is none; rows without a loss go.
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
    colours = _colours(data["n_params"])
    for run in data.partition_by("run_id", maintain_order=True):
        N = run["n_params"][0]
        figure.add_scatter(
            x=run["train_flops"],
            y=run["loss"],
            mode="lines",
            line={"color": colours[N], "width": 1.5},
            name=f"N = {_si(N)}",
            legendgroup=str(N),
            showlegend=False,
            customdata=np.stack([run["tokens"]], axis=1),
            hovertemplate=f"{escape(str(run['name'][0]))}<br>N = {_si(N)}"
            "<br>C = %{x:.3s}<br>D = %{customdata[0]:.3s}<br>loss %{y:.4f}<extra></extra>",
        )
    runs, sizes = data["run_id"].n_unique(), data["n_params"].n_unique()
    _size_legend(figure, colours)
    return _finish(
        figure,
        f"{runs} curves of {sizes} sizes: more compute needs a larger model",
        "training FLOPs",
        "training loss",
        log_y=True,
    )


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
    colours = _colours(data["flops_budget"])
    for part in data.partition_by("flops_budget", maintain_order=True):
        C = part["flops_budget"][0]
        name = f"C = {C:.2g}"
        runs = part.filter(pl.col("kind") == "run")
        line = part.filter(pl.col("kind") == "parabola")
        colour, group = colours[C], str(C)
        figure.add_scatter(
            x=runs["n_params"], y=runs["loss"], mode="markers", name=name, legendgroup=group,
            marker={"color": colour, "size": 7}, text=[escape(t) for t in runs["label"]],
            hovertemplate="%{text}<br>N = %{x:.3s}<br>loss %{y:.4f}<extra>" + name + "</extra>",
            row=1, col=1,
        )  # fmt: skip
        figure.add_scatter(
            x=line["n_params"], y=line["loss"], mode="lines", legendgroup=group, showlegend=False,
            line={"color": colour, "width": 1.5}, hoverinfo="skip", row=1, col=1,
        )  # fmt: skip
    minima = data.filter(pl.col("kind") == "minimum").sort("flops_budget")
    up = (minima["high"] - minima["n_params"]).fill_null(0)
    down = (minima["n_params"] - minima["low"]).fill_null(0)
    bars = {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "color": _INK}
    mark = {"color": _INK, "symbol": "diamond", "size": 9}
    for col, x, y, error in (
        (1, minima["n_params"], minima["loss"], "error_x"),
        (2, minima["flops_budget"], minima["n_params"], "error_y"),
    ):
        figure.add_scatter(
            x=x, y=y, mode="markers", marker=mark, name="minimum", legendgroup="minimum",
            showlegend=col == 1, row=1, col=col, **{error: bars},
        )  # fmt: skip
    title = "No budget shows a minimum inside its grid"
    if minima.height:
        title = f"{minima.height} of {data['flops_budget'].n_unique()} budgets show a minimum"
    if fit is not None and fit.N is not None:
        title = f"N* grows as C^{_power(fit.N)}"
        C = np.geomspace(*_ends(minima["flops_budget"]), 50)
        figure.add_scatter(
            x=C, y=fit.N.coef * C**fit.N.exponent, mode="lines", name="power law",
            line={"color": _MARK}, row=1, col=2,
        )  # fmt: skip
    _finish(figure, title, "N, parameters", "loss")
    figure.update_xaxes(title="C, training FLOPs", type="log", exponentformat="power", row=1, col=2)
    figure.update_yaxes(title="N*", type="log", exponentformat="SI", nticks=6, row=1, col=2)
    if not minima.height:
        # Axes without a point would show a range that means nothing.
        figure.update_xaxes(visible=False, row=1, col=2)
        figure.update_yaxes(visible=False, row=1, col=2)
    return figure


def fit_data(group: "GroupFit") -> pl.DataFrame:
    """Every used row with its fitted loss: row, label, n_params, tokens, observed, fitted,
    residual_percent."""
    used = group.used
    name = pl.col("name") if "name" in used.columns else pl.col("row")
    return used.select(
        "row",
        name.cast(pl.String).alias("label"),
        pl.col("n_params").cast(pl.Float64),
        pl.col("tokens").cast(pl.Float64),
        pl.col("val_loss").alias("observed"),
        (pl.col("val_loss") / pl.col("residual").exp()).alias("fitted"),
        (100 * pl.col("residual").exp() - 100).alias("residual_percent"),
    )


def draw_fit(data: pl.DataFrame) -> go.Figure:
    """Fitted against observed loss, and the residuals against N and against D."""
    figure = make_subplots(
        rows=2, cols=2, specs=[[{"rowspan": 2}, {}], [None, {}]], horizontal_spacing=0.12,
        vertical_spacing=0.2,
    )  # fmt: skip
    text = [f"row {r}: {escape(t)}" for r, t in data.select("row", "label").iter_rows()]
    mark = {"color": _MARK, "size": 6, "opacity": 0.75}
    for row, col, x, y in (
        (1, 1, "fitted", "observed"),
        (1, 2, "n_params", "residual_percent"),
        (2, 2, "tokens", "residual_percent"),
    ):
        figure.add_scatter(
            x=data[x], y=data[y], mode="markers", marker=mark, text=text, showlegend=False,
            hovertemplate="%{text}<br>%{x:.4s}, %{y:.4g}<extra></extra>", row=row, col=col,
        )  # fmt: skip
    ends = [data.select(pl.min_horizontal("fitted", "observed").min()).item(),
            data.select(pl.max_horizontal("fitted", "observed").max()).item()]  # fmt: skip
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": _SOFT, "dash": "dot"}, showlegend=False,
        hoverinfo="skip", row=1, col=1,
    )  # fmt: skip
    rms = float((data["residual_percent"] ** 2).mean() or 0.0) ** 0.5  # type: ignore[arg-type]
    typical = float(data["residual_percent"].abs().median() or 0.0)  # type: ignore[arg-type]
    _finish(
        figure,
        f"The law meets half of the runs within {typical:.2g} % of their loss (rms {rms:.2g} %)",
        "fitted loss",
        "observed loss",
        log_x=False,
    )
    for row, title in ((1, "N, parameters"), (2, "D, tokens")):
        figure.update_xaxes(title=title, type="log", exponentformat="SI", row=row, col=2)
        figure.update_yaxes(title="residual, %", zeroline=True, zerolinecolor=_SOFT, row=row, col=2)
    return figure


def contour_data(group: "GroupFit", points: int = 80) -> pl.DataFrame:
    """The law's loss on a grid around the rows: n_params, tokens, loss; and the frontier.

    Rows of kind `frontier` hold N*, D* and the loss from the smallest compute of the table to
    ten times the largest.
    """
    law, used = group.fit.law, group.used
    (low_N, high_N), (low_D, high_D) = _ends(used["n_params"]), _ends(used["tokens"])
    N = np.geomspace(low_N / 2, high_N * 2, points)
    D = np.geomspace(low_D / 2, high_D * 2, points)
    grid_N, grid_D = (g.ravel() for g in np.meshgrid(N, D))
    grid = pl.DataFrame(
        {"kind": "grid", "n_params": grid_N, "tokens": grid_D, "loss": law.loss(grid_N, grid_D)}
    )
    assert law.support is not None
    C = np.geomspace(law.support.flops[0], 10 * law.support.flops[1], 60)
    log_G = np.log(law.alpha * law.A / (law.beta * law.B)) / (law.alpha + law.beta)
    best_N = np.exp(log_G + law.exponent_N * np.log(C / 6))
    best_D = C / 6 / best_N
    frontier = pl.DataFrame(
        {"kind": "frontier", "n_params": best_N, "tokens": best_D, "loss": law.loss(best_N, best_D)}
    )
    return pl.concat([grid, frontier])


def draw_contours(data: pl.DataFrame, group: "GroupFit") -> go.Figure:
    """Loss contours over N and D with the runs and the efficient frontier."""
    grid = data.filter(pl.col("kind") == "grid")
    side = grid["n_params"].n_unique()
    frontier, used, law = data.filter(pl.col("kind") == "frontier"), group.used, group.fit.law
    figure = go.Figure()
    figure.add_contour(
        x=grid["n_params"][:side], y=grid["tokens"].gather_every(side),
        z=grid["loss"].to_numpy().reshape(-1, side), ncontours=24, colorscale="Blues_r",
        contours={"coloring": "heatmap", "showlabels": True}, colorbar={"title": "loss"},
        opacity=0.7, hovertemplate="N = %{x:.3s}<br>D = %{y:.3s}<br>loss %{z:.4f}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=used["n_params"], y=used["tokens"], mode="markers", name="runs", showlegend=False,
        marker={"color": _INK, "size": 5}, customdata=np.stack([used["val_loss"]], axis=1),
        hovertemplate="N = %{x:.3s}<br>D = %{y:.3s}<br>observed %{customdata[0]:.4f}"
        "<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=frontier["n_params"], y=frontier["tokens"], mode="lines", name="efficient frontier",
        line={"color": _WARN, "width": 3}, showlegend=False,
        hovertemplate="N* = %{x:.3s}<br>D* = %{y:.3s}<extra>efficient frontier</extra>",
    )  # fmt: skip
    interval = group.fit.intervals.values.get("exponent_N")
    spread = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
    _finish(
        figure,
        f"Along the frontier N* grows as C^{law.exponent_N:.2f}{spread}",
        "N, parameters",
        "D, tokens",
        log_y=True,
    )
    figure.update_xaxes(range=np.log10(_ends(grid["n_params"])))
    figure.update_yaxes(range=np.log10(_ends(grid["tokens"])))
    return figure


def cloud_data(group: "GroupFit") -> pl.DataFrame:
    """Bootstrap draws of the two constants that shape the frontier, and of exponent_N.

    alpha and beta; where the form fixes beta, alpha and the constant it trades with. Empty
    without a bootstrap.
    """
    draws, form = group.fit.draws, group.fit.law.form
    second = {"kaplan": "gamma", "tied": "E"}.get(form, "beta")
    return pl.DataFrame({name: draws[name] for name in ("alpha", second, "exponent_N") if draws})


def draw_cloud(data: pl.DataFrame, group: "GroupFit") -> go.Figure:
    """The constants of the resampled tables, coloured by the exponent of N*."""
    first, second, _ = data.columns
    figure = go.Figure()
    figure.add_scatter(
        x=data[first], y=data[second], mode="markers", showlegend=False,
        marker={"color": data["exponent_N"], "colorscale": "Viridis", "size": 5, "opacity": 0.6,
                "colorbar": {"title": "exponent of N*"}},
        hovertemplate=f"{first} %{{x:.3f}}<br>{second} %{{y:.3f}}<br>exponent "
        "%{marker.color:.3f}<extra></extra>",
    )  # fmt: skip
    law = group.fit.law
    figure.add_scatter(
        x=[getattr(law, first)], y=[getattr(law, second)], mode="markers", name="all rows",
        showlegend=False, marker={"color": _WARN, "symbol": "x", "size": 12},
    )  # fmt: skip
    spread = [float(data[name].std() or 0.0) for name in (first, second)]  # type: ignore[arg-type]
    title = f"{data.height} resampled tables hardly move {first} and {second}"
    if min(spread) > 0:
        among = float(np.corrcoef(data[first], data[second])[0, 1])
        together = "vary apart"
        if abs(among) > 0.3:
            together = "rise and fall together" if among > 0 else "trade off"
        title = f"{first} and {second} {together} over {data.height} resampled tables"
    return _finish(figure, title, first, second, log_x=False)


def profile_data(group: "GroupFit") -> pl.DataFrame:
    """Profiles: quantity, value, rise over its threshold, and the interval's ends."""
    frames = [
        pl.DataFrame(
            {
                "quantity": name,
                "value": profile.values,
                "rise": profile.rise / profile.threshold,
                "low": profile.interval[0],
                "high": profile.interval[1],
            },
            schema_overrides={"low": pl.Float64, "high": pl.Float64},
        )
        for name, profile in group.profiles.items()
    ]
    return pl.concat(frames)


def draw_profiles(data: pl.DataFrame) -> go.Figure:
    """Each profile with the level it must pass; where it does not, the table cannot tell."""
    names = {
        "exponent_N": "exponent of N*",
        "n_opt": "N* at the target",
        "d_opt": "D* at the target",
    }
    parts = data.partition_by("quantity", maintain_order=True)
    figure = make_subplots(cols=len(parts), horizontal_spacing=0.08)
    closed = 0
    for col, part in enumerate(parts, start=1):
        name = part["quantity"][0]
        closed += part["low"][0] is not None and part["high"][0] is not None
        figure.add_scatter(
            x=part["value"], y=part["rise"], mode="lines", line={"color": _MARK}, showlegend=False,
            hovertemplate="%{x:.4s}<br>%{y:.2f} of the threshold<extra></extra>", row=1, col=col,
        )  # fmt: skip
        figure.add_hline(y=1.0, line={"color": _WARN, "dash": "dot"}, row=1, col=col)
        figure.update_yaxes(range=[0, 4], row=1, col=col)
        figure.update_xaxes(
            title=names[name], type="linear" if name == "exponent_N" else "log",
            exponentformat="SI", tickangle=0, nticks=4, row=1, col=col,
        )  # fmt: skip
    figure.update_yaxes(title="rise / threshold", row=1, col=1)
    _dress(figure, f"{closed} of {len(parts)} profiles close on both sides")
    return figure


def envelope_data(curves: pl.DataFrame, fit: "EnvelopeFit") -> pl.DataFrame:
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


def draw_envelope(data: pl.DataFrame, fit: "EnvelopeFit") -> go.Figure:
    """All curves in grey, and the hull coloured by the model that holds it."""
    figure = go.Figure()
    for run in data.filter(pl.col("kind") == "curve").partition_by("run_id"):
        figure.add_scatter(
            x=run["train_flops"], y=run["loss"], mode="lines", hoverinfo="skip", showlegend=False,
            line={"color": "#d5dae1", "width": 1},
        )  # fmt: skip
    hull = data.filter(pl.col("kind") == "hull")
    figure.add_scatter(
        x=hull["train_flops"], y=hull["loss"], mode="lines+markers", showlegend=False,
        line={"color": _INK, "width": 1},
        marker={"color": np.log10(hull["n_params"].to_numpy()), "colorscale": "Viridis", "size": 8,
                "colorbar": {"title": "log10 N"}},
        customdata=np.stack([hull["n_params"]], axis=1),
        hovertemplate="C = %{x:.3s}<br>N = %{customdata[0]:.3s}<br>loss %{y:.4f}<extra></extra>",
    )  # fmt: skip
    title = fit.reason or f"Along the envelope N* grows as C^{_power(fit.N)}"
    return _finish(figure, title, "training FLOPs", "loss", log_y=True)


def _power(law: PowerLaw | None) -> str:
    if law is None:
        return "?"
    interval = law.exponent_interval
    return f"{law.exponent:.2f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")


def _colours(values: pl.Series) -> dict[float, str]:
    """One colour a value, in order."""
    unique = values.unique().sort().to_list()
    places = np.linspace(0.0, 0.9, max(len(unique), 2))[: len(unique)]
    return dict(zip(unique, sample_colorscale("Viridis", places.tolist()), strict=True))


def _size_legend(figure: go.Figure, colours: dict[float, str]) -> None:
    for N, colour in colours.items():
        figure.add_scatter(
            x=[None], y=[None], mode="lines", line={"color": colour}, name=f"N = {_si(N)}"
        )


def _ends(values: pl.Series) -> tuple[float, float]:
    numbers = values.to_numpy()
    return float(numbers.min()), float(numbers.max())


def _si(value: float) -> str:
    """Three digits with an SI letter up to 10^15, a power of ten beyond."""
    for scale, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if 1e15 > value >= scale:
            return f"{value / scale:.3g}{letter}"
    return f"{value:.3g}"


def _finish(
    figure: go.Figure, title: str, x: str, y: str, *, log_x: bool = True, log_y: bool = False
) -> go.Figure:
    """Label the first (or only) pair of axes and dress the figure."""
    figure.layout.xaxis.update(
        title=x,
        type="log" if log_x else "linear",
        exponentformat="power" if "FLOP" in x else "SI",
    )
    figure.layout.yaxis.update(title=y, type="log" if log_y else "linear", exponentformat="SI")
    return _dress(figure, title)


def _dress(figure: go.Figure, title: str) -> go.Figure:
    return figure.update_layout(
        title={"text": title, "x": 0.01, "font": {"size": 17, "color": _INK}},
        template="plotly_white",
        font={"family": "system-ui, sans-serif", "color": _INK},
        margin={"l": 70, "r": 20, "t": 60, "b": 60},
        hoverlabel={"bgcolor": "white"},
    )
