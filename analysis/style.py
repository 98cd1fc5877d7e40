"""How every figure looks: colours, fonts, titles and axes."""

import numpy as np
import plotly.graph_objects as go
import polars as pl
from plotly.colors import sample_colorscale

from analysis.words import short

MARK = "#0b6e99"
WARN = "#c2410c"


def colour_scale(values: pl.Series) -> dict[float, str]:
    """One colour a value, in order."""
    unique = values.unique().sort().to_list()
    places = np.linspace(0.0, 0.9, max(len(unique), 2))[: len(unique)]
    return dict(zip(unique, sample_colorscale("Viridis", places.tolist()), strict=True))


def size_legend(figure: go.Figure, colours: dict[float, str]) -> None:
    for N, colour in colours.items():
        figure.add_scatter(
            x=[None], y=[None], mode="lines", line={"color": colour}, name=f"N = {short(N)}"
        )


def ends(values: pl.Series) -> tuple[float, float]:
    numbers = values.to_numpy()
    return float(numbers.min()), float(numbers.max())


def finish(
    figure: go.Figure, title: str, x: str, y: str, *, log_x: bool = True, log_y: bool = False
) -> go.Figure:
    """Label the first (or only) pair of axes and dress the figure."""
    figure.layout.xaxis.update(
        title=x,
        type="log" if log_x else "linear",
        exponentformat="power" if "FLOP" in x else "SI",
    )
    figure.layout.yaxis.update(title=y, type="log" if log_y else "linear", exponentformat="SI")
    return dress(figure, title)


def dress(figure: go.Figure, title: str) -> go.Figure:
    return figure.update_layout(
        title={"text": title, "x": 0.01, "font": {"size": 17, "color": INK}},
        template="plotly_white",
        font={"family": "system-ui, sans-serif", "color": INK},
        margin={"l": 70, "r": 20, "t": 60, "b": 60},
        hoverlabel={"bgcolor": "white"},
    )


INK = "#1c2430"
SOFT = "#5b6675"
GRID = "#e6eaef"
# Light to dark with demand, readable without colour vision.
SHADES = ("#7a8794", "#4fa3c7", "#0b6e99", "#0a3d62", "#3b1f4a")


def styled(figure: go.Figure, title: str) -> go.Figure:
    """The house look: title on the left says what follows, quiet grid, legend below."""
    figure.update_layout(
        title={"text": title, "x": 0, "xref": "paper", "font": {"size": 16, "color": INK}},
        font={"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "color": SOFT},
        paper_bgcolor="white",
        plot_bgcolor="white",
        margin={"l": 60, "r": 20, "t": 60, "b": 50},
        legend={"orientation": "h", "y": -0.18, "x": 0},
        hoverlabel={"align": "left"},
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, automargin=True)
    return figure


def shades(count: int) -> list[str]:
    return [SHADES[min(i, len(SHADES) - 1)] for i in range(count)]


def faded(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.13)"
