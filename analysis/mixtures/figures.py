"""Figures of mixtures. Each has a data function, which tests read, and a draw."""

import re

import numpy as np
import plotly.graph_objects as go
import polars as pl

from analysis.mixtures.answer import Answer
from analysis.mixtures.text import target_words
from analysis.published import llama_mixture
from analysis.style import INK, MARK, SOFT, WARN, axis, faded, styled

# Cells of a map of effects, and sources of a parallel picture, that people can read.
_MOST_AXES = 12


def mixtures_data(answer: Answer) -> pl.DataFrame:
    """Every mixture tried, and the best one.

    Returns:
        kind (tried or best), one column for each source, loss (the target, measured; of the best
        foretold).
    """
    table = answer.table
    shares = np.vstack([table.shares, answer.best.shares])
    losses = [*(table.losses @ answer.weights).tolist(), answer.best.pooled.value]
    return pl.DataFrame(
        {
            "kind": ["tried"] * len(table) + ["best"],
            **dict(zip(table.sources, shares.T, strict=True)),
            "loss": losses,
        }
    )


def draw_mixtures(data: pl.DataFrame, loss: str) -> go.Figure:
    """Shares against the loss: a triangle of three sources, parallel axes of any other number."""
    sources = [name for name in data.columns if name not in ("kind", "loss")]
    if len(sources) == 3:
        return _triangle(data, sources, loss)
    spread = data.select(pl.col(sources).max()).row(0)
    order = sorted(range(len(sources)), key=lambda place: -spread[place])[:_MOST_AXES]
    best = data.filter(pl.col("kind") == "best")
    figure = go.Figure()
    axes = [
        {"label": name, "values": data[name], "range": [0, float(data[name].max() or 1)]}
        for name in (sources[place] for place in sorted(order))
    ]
    low, high = float(data["loss"].min()), float(data["loss"].max())  # type: ignore[arg-type]
    figure.add_parcoords(
        dimensions=[*axes, {"label": "loss", "values": data["loss"], "range": [low, high]}],
        line={"color": data["loss"], "colorscale": "Viridis", "showscale": True},
    )
    return styled(
        figure,
        f"A line is a mixture, dark where the {loss} is low; the best is foretold at "
        f"{best['loss'][0]:.4g}",
    ).update_layout(margin={"l": 70, "r": 30, "t": 90, "b": 30})


def effects_data(answer: Answer) -> pl.DataFrame:
    """What raising each source's share does to each loss.

    Returns:
        source, loss (its name), factor, value, lower, upper: differences in the table's unit.
    """
    return pl.DataFrame(
        [
            (effect.source, name, effect.factor, loss.value, loss.lower, loss.upper)
            for effect in answer.effects
            for name, loss in zip(answer.table.targets, effect.losses, strict=True)
        ],
        schema=["source", "loss", "factor", "value", "lower", "upper"],
        orient="row",
    )


def draw_effects(data: pl.DataFrame) -> go.Figure:
    """A cell for each source and loss; grey numbers' intervals hold zero."""
    sources = data["source"].unique(maintain_order=True).to_list()
    losses = data["loss"].unique(maintain_order=True).to_list()
    shape = (len(sources), len(losses))
    values, low, high = (
        data[name].to_numpy().reshape(shape) for name in ("value", "lower", "upper")
    )
    most = float(np.abs(values).max()) or 1.0
    sure = (low > 0) | (high < 0)
    text = [
        [f"{v:+.2g}" if s else f"<i>{v:+.1g}?</i>" for v, s in zip(row, marks, strict=True)]
        for row, marks in zip(values, sure, strict=True)
    ]
    figure = go.Figure(
        go.Heatmap(
            x=losses, y=sources, z=values, zmin=-most, zmax=most, text=text,
            texttemplate="%{text}", textfont={"size": 10},
            colorscale=[[0, MARK], [0.5, "#ffffff"], [1, WARN]],
            customdata=np.stack([low, high], axis=-1),
            hovertemplate="%{y} on the loss of %{x}: %{z:+.3g}, interval %{customdata[0]:+.3g} to "
            "%{customdata[1]:+.3g}<extra></extra>",
            showscale=False,
        )
    )  # fmt: skip
    factor = data["factor"][0]
    doing = "Doubling" if factor == 2 else f"{factor:g} times"
    figure.update_yaxes(autorange="reversed")
    return styled(
        figure,
        f"{doing} a source's share moves each loss by this much (? where the interval holds 0)",
        axis("loss of"),
        axis("share of"),
    )


def predictions_data(answer: Answer) -> pl.DataFrame:
    """Losses of mixtures held out: loss (its name, or target), predicted, observed."""
    predicted, observed = np.exp(answer.score.log_losses), answer.table.losses
    parts = [
        pl.DataFrame({"loss": name, "predicted": predicted[:, j], "observed": observed[:, j]})
        for j, name in enumerate(answer.table.targets)
    ]
    target = {"predicted": predicted @ answer.weights, "observed": observed @ answer.weights}
    return pl.concat([*parts, pl.DataFrame({"loss": "target", **target})])


def draw_predictions(data: pl.DataFrame, rank: float) -> go.Figure:
    """Predicted against observed, mixtures held out; the target before the single losses."""
    figure = go.Figure()
    ends = [float(f(data["observed"])) for f in (min, max)]
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": SOFT, "dash": "dot"}, showlegend=False,
        hoverinfo="skip",
    )  # fmt: skip
    names = data["loss"].unique(maintain_order=True).to_list()
    for name in ("target", *names[:-1]):
        rows = data.filter(pl.col("loss") == name)
        target = name == "target"
        figure.add_scatter(
            x=rows["observed"], y=rows["predicted"], mode="markers", name=name,
            marker={"size": 6 if target else 4, "opacity": 0.7},
            visible=True if target or len(names) < 6 else "legendonly",
        )  # fmt: skip
    return styled(
        figure,
        f"Mixtures held out: the target is foretold with rank correlation {rank:.3f}",
        axis("loss measured"),
        axis("loss predicted"),
    )


def recommended_data(answer: Answer) -> pl.DataFrame:
    """The best mixture beside others.

    Returns:
        source, best, lower, upper, average (of the mixtures tried), natural (in proportion to the
        stocks; null without them), llama (of LLaMA's source of that name; null for others).
    """
    table, stock = answer.table, answer.question.stock
    whole = sum(stock.values()) if set(stock) == set(table.sources) else None
    llama = {
        alias: share
        for aliases, share in llama_mixture().select("aliases", "share").iter_rows()
        for alias in aliases.split()
    }
    return pl.DataFrame(
        {
            "source": table.sources,
            "best": answer.best.shares,
            "lower": answer.intervals[:, 0],
            "upper": answer.intervals[:, 1],
            "average": answer.mean,
            "natural": [None if whole is None else stock[name] / whole for name in table.sources],
            "llama": [llama.get(re.sub(r"[\W_]", "", name.lower())) for name in table.sources],
        },
        schema_overrides={"natural": pl.Float64, "llama": pl.Float64},
    )


def draw_recommended(data: pl.DataFrame, title: str) -> go.Figure:
    """Shares of the best mixture with intervals, and marks for the others."""
    rows = data.sort("best")
    figure = go.Figure()
    figure.add_bar(
        y=rows["source"], x=rows["best"], orientation="h", name="best", marker={"color": MARK},
        error_x={
            "type": "data", "symmetric": False, "color": INK, "thickness": 1,
            "array": (rows["upper"] - rows["best"]).to_list(),
            "arrayminus": (rows["best"] - rows["lower"]).to_list(),
        },
        hovertemplate="%{y}: %{x:.3f}<extra>best</extra>",
    )  # fmt: skip
    for name, words, symbol in (
        ("average", "average of those tried", "circle-open"),
        ("natural", "natural: as the stocks", "diamond-open"),
        ("llama", "LLaMA's", "star"),
    ):
        if rows[name].null_count() < rows.height:
            figure.add_scatter(
                y=rows["source"], x=rows[name], mode="markers", name=words,
                marker={"symbol": symbol, "size": 9, "color": SOFT if name != "llama" else WARN},
                hovertemplate="%{y}: %{x:.3f}<extra>%{fullData.name}</extra>",
            )  # fmt: skip
    return styled(figure, title, axis("share"), {"title": {"text": ""}})


def draw_all(answer: Answer) -> list[tuple[str, go.Figure, int]]:
    """Every figure with its name and height, in the order of the page."""
    sources, losses = len(answer.table.sources), len(answer.table.targets)
    figures = [
        (
            "best-mixture",
            draw_recommended(
                recommended_data(answer), f"The mixture of least {target_words(answer)}"
            ),
            220 + 26 * sources,
        ),
        ("mixtures", draw_mixtures(mixtures_data(answer), target_words(answer)), 480),
    ]
    if answer.effects:
        figures.append(("effects", draw_effects(effects_data(answer)), 220 + 26 * sources))
    data = predictions_data(answer)
    height = 460 + 10 * losses
    figures.append(("predictions", draw_predictions(data, answer.score.pooled_rank), height))
    return figures


def _triangle(data: pl.DataFrame, sources: list[str], loss: str) -> go.Figure:
    figure = go.Figure()
    for kind, marker in (
        ("tried", {"size": 9, "colorscale": "Viridis", "showscale": True}),
        ("best", {"size": 16, "symbol": "star", "color": WARN}),
    ):
        rows = data.filter(pl.col("kind") == kind)
        if kind == "tried":
            marker |= {"color": rows["loss"].to_list()}
        a, b, c = (rows[name] for name in sources)
        figure.add_scatterternary(
            a=a, b=b, c=c, mode="markers", marker=marker, name=kind, text=rows["loss"].round(4),
            hovertemplate="%{a:.3f}, %{b:.3f}, %{c:.3f}: %{text}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    first, second, third = sources
    figure.update_layout(
        ternary={
            "sum": 1,
            "aaxis": {"title": {"text": first}, "gridcolor": faded(INK)},
            "baxis": {"title": {"text": second}, "gridcolor": faded(INK)},
            "caxis": {"title": {"text": third}, "gridcolor": faded(INK)},
        }
    )
    return styled(figure, f"A point is a mixture, dark where the {loss} is low")
