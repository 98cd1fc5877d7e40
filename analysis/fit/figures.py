"""Figures of fits. Each has a data function, which tests read, and a draw.

Titles say what follows from the picture.
"""

from html import escape

import numpy as np
import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from analysis.fit.records import GroupFit
from analysis.law import Constants, LossUnit
from analysis.style import (
    INK,
    MARK,
    SOFT,
    WARN,
    axis,
    diagonal,
    ends,
    log_ticks,
    shorts,
    sizes,
    styled,
)
from analysis.table.observations import numbers_for_people
from analysis.words import bracket, counted, short, with_unit

# Resampled constants that differ by less of their size, as those on a bound, differ by rounding.
_ROUNDING = 1e-9


def fit_data(group: GroupFit) -> pl.DataFrame:
    """Every used row with its fitted loss: row, place, label, n_params, tokens, observed, fitted,
    residual_percent."""
    used = group.used
    word, numbers = numbers_for_people(used)
    places = pl.Series("place", [f"{word} {numbers[row]}" for row in used["row"]])
    return used.with_columns(places).select(
        "row",
        "place",
        pl.col("name" if "name" in used.columns else "place").cast(pl.String).alias("label"),
        pl.col("n_params").cast(pl.Float64),
        pl.col("tokens").cast(pl.Float64),
        pl.col("val_loss").alias("observed"),
        (pl.col("val_loss") / pl.col("residual").exp()).alias("fitted"),
        (100 * pl.col("residual").exp() - 100).alias("residual_percent"),
    )


def draw_fit(data: pl.DataFrame, unit: LossUnit = "unknown") -> go.Figure:
    """Fitted against observed loss, and the residuals against N and against D."""
    figure = make_subplots(cols=3, horizontal_spacing=0.1)
    text = [
        f"{place}: {escape(label)}<br>N = {short(N)}, D = {short(D)}"
        for place, label, N, D in data.select("place", "label", "n_params", "tokens").iter_rows()
    ]
    mark = {"color": MARK, "size": 6, "opacity": 0.75}
    for col, x, y in (
        (1, "fitted", "observed"),
        (2, "n_params", "residual_percent"),
        (3, "tokens", "residual_percent"),
    ):
        figure.add_scatter(
            x=data[x], y=data[y], mode="markers", marker=mark, text=text, showlegend=False,
            customdata=np.stack([data["observed"], data["residual_percent"]], axis=1),
            hovertemplate="%{text}<br>loss %{customdata[0]:.4f}, %{customdata[1]:+.2g} % off the "
            "law<extra></extra>", row=1, col=col,
        )  # fmt: skip
    both = pl.concat([data["fitted"], data["observed"]])
    figure.add_scatter(**diagonal(both), row=1, col=1)
    rms = float((data["residual_percent"] ** 2).mean() or 0.0) ** 0.5  # type: ignore[arg-type]
    typical = float(data["residual_percent"].abs().median() or 0.0)  # type: ignore[arg-type]
    styled(
        figure,
        f"The law meets half of the runs within {typical:.2g} % of their loss (rms {rms:.2g} %)",
        axis(with_unit("fitted loss", unit)),
        axis(with_unit("observed loss", unit)),
    )
    for col, title in ((2, "N, parameters"), (3, "D, tokens")):
        figure.update_xaxes(**axis(title, log=True), row=1, col=col)
        figure.update_yaxes(title="residual, %", zeroline=True, zerolinecolor=SOFT, row=1, col=col)
    return figure


def contour_data(group: GroupFit, points: int = 80) -> pl.DataFrame:
    """The law's loss on a grid around the rows: n_params, tokens, loss; and the frontier.

    Rows of kind `frontier` hold N*, D* and the loss from the smallest compute of the table to
    ten times the largest; there are none where N* is withheld.
    """
    law, used = group.fit.law, group.used
    (low_N, high_N), (low_D, high_D) = ends(used["n_params"]), ends(used["tokens"])
    N = np.geomspace(low_N / 2, high_N * 2, points)
    D = np.geomspace(low_D / 2, high_D * 2, points)
    grid_N, grid_D = (g.ravel() for g in np.meshgrid(N, D))
    grid = pl.DataFrame(
        {"kind": "grid", "n_params": grid_N, "tokens": grid_D, "loss": law.loss(grid_N, grid_D)}
    )
    if not group.optimal:
        return grid
    assert law.support is not None
    C = np.geomspace(law.support.flops[0], 10 * law.support.flops[1], 60)
    best_N, best_D = Constants.of(law).compute_optimal(C)
    frontier = pl.DataFrame(
        {"kind": "frontier", "n_params": best_N, "tokens": best_D, "loss": law.loss(best_N, best_D)}
    )
    return pl.concat([grid, frontier])


def draw_contours(data: pl.DataFrame, group: GroupFit) -> go.Figure:
    """Loss contours over N and D with the runs and the efficient frontier."""
    grid = data.filter(pl.col("kind") == "grid")
    side = grid["n_params"].n_unique()
    frontier, used, law = data.filter(pl.col("kind") == "frontier"), group.used, group.fit.law
    loss = with_unit("loss", law.loss_unit).replace(" ", "<br>")
    figure = go.Figure()
    figure.add_contour(
        x=grid["n_params"][:side], y=grid["tokens"].gather_every(side),
        z=grid["loss"].to_numpy().reshape(-1, side), ncontours=24, colorscale="Blues_r",
        contours={"coloring": "heatmap", "showlabels": True}, colorbar={"title": loss},
        opacity=0.7, text=np.reshape(sizes(grid), (-1, side)),
        hovertemplate="%{text}<br>loss %{z:.4f}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=used["n_params"], y=used["tokens"], mode="markers", name="runs", showlegend=False,
        marker={"color": INK, "size": 5}, customdata=np.stack([used["val_loss"]], axis=1),
        text=sizes(used), hovertemplate="%{text}<br>observed %{customdata[0]:.4f}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=frontier["n_params"], y=frontier["tokens"], mode="lines", name="efficient frontier",
        line={"color": WARN, "width": 3}, showlegend=False,
        text=sizes(frontier), hovertemplate="%{text}<extra>efficient frontier</extra>",
    )  # fmt: skip
    spread = bracket(group.fit.intervals.values.get("exponent_N"), "{:.2f}".format)
    title = f"Along the frontier N* grows as C^{law.exponent_N:.2f}{spread}"
    styled(
        figure,
        title if frontier.height else "The law's loss around the runs",
        axis("N, parameters", log=True),
        axis("D, tokens", log=True),
    )
    figure.update_xaxes(range=np.log10(ends(grid["n_params"])))
    figure.update_yaxes(range=np.log10(ends(grid["tokens"])))
    return figure


def cloud_data(group: GroupFit) -> pl.DataFrame:
    """Bootstrap draws of the two constants that shape the frontier, and of exponent_N.

    alpha and beta; where the form fixes beta, alpha and the constant it trades with. Empty
    without a bootstrap.
    """
    draws, form = group.fit.draws, group.fit.law.form
    second = {"kaplan": "gamma", "tied": "E"}.get(form, "beta")
    names = ("alpha", second, "exponent_N") if draws else ()
    return pl.DataFrame({name: getattr(draws, name) for name in names})


def draw_cloud(data: pl.DataFrame, group: GroupFit) -> go.Figure:
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
        showlegend=False, marker={"color": WARN, "symbol": "x", "size": 12},
    )  # fmt: skip
    spans = [ends(data[name]) for name in (first, second)]
    title = f"{data.height} resampled tables hardly move {first} and {second}"
    if all(high - low > _ROUNDING * abs(high) for low, high in spans):
        among = float(np.corrcoef(data[first], data[second])[0, 1])
        together = "vary apart"
        if abs(among) > 0.3:
            together = "rise and fall together" if among > 0 else "trade off"
        title = f"{first} and {second} {together} over {data.height} resampled tables"
    return styled(figure, title, axis(first), axis(second))


def profile_data(group: GroupFit) -> pl.DataFrame:
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
    """Each profile with the level it must pass; if it never does, the quantity is unbounded."""
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
            x=part["value"], y=part["rise"], mode="lines", line={"color": MARK}, showlegend=False,
            text=shorts(part["value"]),
            hovertemplate="%{text}<br>%{y:.2f} of the threshold<extra></extra>", row=1, col=col,
        )  # fmt: skip
        figure.add_hline(y=1.0, line={"color": WARN, "dash": "dot"}, row=1, col=col)
        figure.update_yaxes(range=[0, 4], row=1, col=col)
        log = name != "exponent_N"
        ticks = log_ticks(*ends(part["value"])) if log else {"nticks": 4}
        figure.update_xaxes(**axis(names[name], log=log), **ticks, tickangle=0, row=1, col=col)
    figure.update_yaxes(title="rise / threshold")
    return styled(figure, f"Closed on both sides: {closed} of {counted(len(parts), 'profile')}")
