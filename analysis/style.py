"""How every figure looks: colours, fonts, titles, axes and legend."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
from numpy.typing import ArrayLike
from plotly.colors import sample_colorscale

from analysis.words import short

INK = "#1c2430"
SOFT = "#5b6675"
GRID = "#e6eaef"
MARK = "#0b6e99"
WARN = "#c2410c"
# Kinds without an order, readable side by side without colour vision.
CATEGORIES = (MARK, WARN, "#3f7d20", "#7a4fa0", "#946c00", "#8a8f98", "#b23a48")
# More entries of a legend take the figure's room, most of all on a phone.
_MOST_ENTRIES = 8
_BAR = {"colorbar": {"outlinewidth": 0, "ticks": ""}}
_AXIS = {"ticks": "", "title": {"standoff": 15}, "zerolinewidth": 2}
_CORNER = {"ticks": "", "linecolor": "#A2B1C6"}
# What our figures need of plotly_white. Plotly checks and copies a template with every figure, and
# the whole one, for forty kinds of trace, takes longer than to draw the figure.
_TEMPLATE = {
    "layout": {
        "autotypenumbers": "strict",
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "ternary": {"bgcolor": "white", "aaxis": _CORNER, "baxis": _CORNER, "caxis": _CORNER},
    },
    "data": {
        "bar": [{"marker": {"line": {"color": "white", "width": 0.5}}}],
        "contour": [_BAR],
        "heatmap": [_BAR],
        "parcoords": [{"line": _BAR}],
        "scatterternary": [{"marker": _BAR}],
    },
}
_EVERY_AXIS = {"gridcolor": GRID, "zeroline": False, "automargin": True}
_LAYOUT = {
    "template": _TEMPLATE,
    "colorway": CATEGORIES,
    "font": {"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "color": SOFT},
    "margin": {"l": 60, "r": 20, "t": 60, "b": 50},
    "legend": {"orientation": "h", "y": -0.18, "x": 0},
    "hoverlabel": {"align": "left", "bgcolor": "white"},
}
# Light to dark along an ordered quantity.
_SHADES = ("#7a8794", "#4fa3c7", MARK, "#0a3d62", "#3b1f4a")


def styled(
    figure: go.Figure,
    title: str,
    x: dict[str, object] | None = None,
    y: dict[str, object] | None = None,
) -> go.Figure:
    """Style a figure: a title on the left that says what follows, a quiet grid, the legend below.

    Args:
        x, y: settings of the first pair of axes, as `axis` makes them.
    """
    # Merged here and set at once: each of Plotly's own updates checks and copies the layout.
    layout = figure.layout.to_plotly_json()
    axes = {name for name in layout if name.startswith(("xaxis", "yaxis"))}
    for name in {"xaxis", "yaxis"} | axes:
        given = {"xaxis": x, "yaxis": y}.get(name) or {}
        layout[name] = _merged(_merged(layout.get(name, {}), given), _EVERY_AXIS)
    # Ours replaces Plotly's own.
    layout.pop("template", None)
    words = {"text": title, "x": 0, "xref": "paper", "font": {"size": 16, "color": INK}}
    figure.layout = _merged(layout, _LAYOUT | {"title": words})
    return figure


def _merged(old: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others in their place or, of nested ones, within them."""
    return old | {
        name: _merged(old[name], value)
        if isinstance(value, dict) and isinstance(old.get(name), dict)
        else value
        for name, value in new.items()
    }


def legend_above(figure: go.Figure) -> go.Figure:
    """For a low figure, in which a legend below would lie on the axis's title."""
    return figure.update_layout(legend={"y": 1.02, "yanchor": "bottom"})


def axis(title: str, *, log: bool = False, flops: bool = False) -> dict[str, object]:
    """Settings of an axis: counts read 1k, 1M and 1B as in `words.short`, FLOPs powers of ten."""
    return {
        "title": {"text": title},
        "type": "log" if log else "linear",
        "exponentformat": "power" if flops else "B",
    }


def log_ticks(low: float, high: float, write: Callable[[float], str] = short) -> dict[str, object]:
    """Three ticks on a log axis, a third of its length apart, so that a narrow one has room.

    Plotly's own crowd where the axis spans less than a decade: 100B beside 120B.
    """
    digits = 1 if high > 100 * low else 3
    ticks = {float(f"{value:.{digits}g}") for value in np.geomspace(low, high, 7)[1::2]}
    return {"tickvals": sorted(ticks), "ticktext": [write(tick) for tick in sorted(ticks)]}


def shorts(values: Iterable[float | None]) -> list[str]:
    """Counts as text for a hover label; Plotly's own letters write 1G where people read 1B."""
    return [short(value) for value in values]


def sizes(rows: pl.DataFrame) -> list[str]:
    """N and D of each row, for a hover label."""
    pairs = zip(shorts(rows["n_params"]), shorts(rows["tokens"]), strict=True)
    return [f"N = {N}<br>D = {D}" for N, D in pairs]


def error_bars(
    colour: str,
    values: Iterable[float],
    lows: Iterable[float | None],
    highs: Iterable[float | None],
) -> dict[str, Any]:
    """Settings of bars from `lows` to `highs`; there is none towards an end that is None."""
    ends = list(zip(values, lows, highs, strict=True))
    return {
        "type": "data", "symmetric": False, "color": colour,
        "array": [0.0 if high is None else max(high - value, 0.0) for value, _, high in ends],
        "arrayminus": [0.0 if low is None else max(value - low, 0.0) for value, low, _ in ends],
    }  # fmt: skip


def band(
    x: ArrayLike, low: ArrayLike, high: ArrayLike, colour: str, name: str = ""
) -> dict[str, Any]:
    """A trace that fills the area between two lines; the legend shows it if it has a name."""
    x, low, high = (np.asarray(values) for values in (x, low, high))
    return {
        "x": np.append(x, x[::-1]), "y": np.append(high, low[::-1]), "mode": "lines",
        "fill": "toself", "fillcolor": faded(colour), "line": {"width": 0}, "hoverinfo": "skip",
        "name": name, "showlegend": bool(name),
    }  # fmt: skip


def diagonal(values: pl.Series) -> dict[str, Any]:
    """A trace of the line on which two axes have the same value."""
    reach = ends(values)
    return {
        "x": reach, "y": reach, "mode": "lines", "line": {"color": SOFT, "dash": "dot"},
        "hoverinfo": "skip", "showlegend": False,
    }  # fmt: skip


def colour_scale(values: pl.Series) -> dict[float, str]:
    """One colour a value, in order."""
    unique = values.unique().sort().to_list()
    # The yellow end of the scale is as pale on white as its inverse is on black.
    places = np.linspace(0.0, 0.78, max(len(unique), 2))[: len(unique)]
    return dict(zip(unique, sample_colorscale("Viridis", places.tolist()), strict=True))


def size_legend(figure: go.Figure, colours: dict[float, str]) -> None:
    """The colours of model sizes, for lines that have no legend of their own.

    A legend entry each, whose click hides the lines of the legend group str(N); of more than fit
    into two lines, a bar with some of the sizes.
    """
    if len(colours) > _MOST_ENTRIES:
        _size_bar(figure, colours)
        return
    for N, colour in colours.items():
        figure.add_scatter(
            x=[None], y=[None], mode="lines", line={"color": colour}, name=f"N = {short(N)}",
            legendgroup=str(N),
        )  # fmt: skip


def _size_bar(figure: go.Figure, colours: dict[float, str]) -> None:
    """A bar of the colours below the figure; sizes at its ends and evenly spaced between."""
    sizes, last = list(colours), len(colours) - 1
    scale = [[place / last, colour] for place, colour in enumerate(colours.values())]
    ticks = np.unique(np.linspace(0, last, 5).round().astype(int)).tolist()
    figure.add_scatter(
        x=[None], y=[None], mode="markers", showlegend=False,
        marker={
            "color": [0], "cmin": 0, "cmax": last, "colorscale": scale, "showscale": True,
            "colorbar": {
                "orientation": "h", "thickness": 12, "y": -0.2, "yanchor": "top",
                "outlinewidth": 0, "title": {"text": "N", "side": "top"},
                "tickvals": ticks, "ticktext": shorts(sizes[tick] for tick in ticks),
            },
        },
    )  # fmt: skip


def shades(count: int) -> list[str]:
    """Colours of `count` ordered lines."""
    return [_SHADES[min(i, len(_SHADES) - 1)] for i in range(count)]


def faded(colour: str) -> str:
    """A palette colour for the band around a line."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.13)"


def ends(values: pl.Series) -> tuple[float, float]:
    """Least and largest value."""
    numbers = values.to_numpy()
    return float(numbers.min()), float(numbers.max())
