"""Figures of mixtures. Each has a data function, which tests read, and a draw."""

import re
from collections.abc import Iterator

import numpy as np
import plotly.graph_objects as go
import polars as pl

from analysis.law import LossUnit
from analysis.mixtures.answer import Answer
from analysis.mixtures.text import factor_words, target_words
from analysis.published import llama_mixture
from analysis.style import (
    INK,
    MARK,
    SOFT,
    WARN,
    axis,
    diagonal,
    ends,
    error_bars,
    faded,
    legend_above,
    styled,
)
from analysis.words import with_unit

# Sources that parallel axes show side by side, and the part of mixtures that they colour.
_MOST_AXES, _COLOURED = 7, 0.1
# Pixels of a cell of the effects, which holds up to eight characters.
_CELL = 54
# Losses whose predictions are shown together; of more, a click in the legend shows each.
_MOST_LOSSES = 6


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


def draw_mixtures(data: pl.DataFrame, loss: str, unit: LossUnit) -> go.Figure:
    """Shares against the loss: a triangle of three sources, parallel axes of any other number."""
    sources = [name for name in data.columns if name not in ("kind", "loss")]
    if len(sources) == 3:
        return _triangle(data, sources, loss, unit)
    return _parallel(data.filter(pl.col("kind") == "tried"), loss, unit)


def contrasts(tried: pl.DataFrame) -> pl.DataFrame:
    """How the mixtures of least loss, a tenth of them, differ from all.

    Returns:
        source, low (its mean share there), every (in all); the largest difference first.
    """
    sources = [name for name in tried.columns if name not in ("kind", "loss")]
    low = tried.filter(pl.col("loss") <= _low_loss(tried))
    return pl.DataFrame(
        {
            "source": sources,
            "low": low.select(sources).mean().row(0),
            "every": tried.select(sources).mean().row(0),
        }
    ).sort((pl.col("low") - pl.col("every")).abs(), descending=True, maintain_order=True)


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


def draw_effects(data: pl.DataFrame, unit: LossUnit) -> go.Figure:
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
            x=losses, y=sources, z=values.tolist(), zmin=-most, zmax=most, text=text,
            texttemplate="%{text}", textfont={"size": 10},
            colorscale=[[0, MARK], [0.5, "#ffffff"], [1, WARN]],
            customdata=np.stack([low, high], axis=-1).tolist(),
            hovertemplate="%{y} on the loss of %{x}: %{z:+.3g}, interval %{customdata[0]:+.3g} to "
            "%{customdata[1]:+.3g}<extra></extra>",
            showscale=False,
        )
    )  # fmt: skip
    largest = data.row(int(data["value"].abs().arg_max() or 0), named=True)
    words = "" if unit == "unknown" else f" {unit.replace('_', ' ')}"
    figure.update_yaxes(autorange="reversed")
    return styled(
        figure,
        f"{factor_words(largest['factor']).capitalize()} {largest['source']} moves a loss most: "
        f"that of {largest['loss']} by {largest['value']:+.2g}{words} "
        "(? where an interval holds 0)",
        {"title": {"text": "loss of"}, "type": "category"},
        {"title": {"text": "share of"}, "type": "category"},
    )


def effects_width(answer: Answer) -> int:
    """Pixels in which the numbers of `draw_effects` do not touch, beside the sources' names."""
    longest = max(map(len, answer.table.sources))
    return 80 + 7 * longest + _CELL * len(answer.table.targets)


def predictions_data(answer: Answer) -> pl.DataFrame:
    """Losses of mixtures held out: loss (its name, or target), predicted, observed."""
    predicted, observed = np.exp(answer.score.log_losses), answer.table.losses
    parts = [
        pl.DataFrame({"loss": name, "predicted": predicted[:, j], "observed": observed[:, j]})
        for j, name in enumerate(answer.table.targets)
    ]
    target = {"predicted": predicted @ answer.weights, "observed": observed @ answer.weights}
    return pl.concat([*parts, pl.DataFrame({"loss": "target", **target})])


def draw_predictions(data: pl.DataFrame, rank: float, unit: LossUnit) -> go.Figure:
    """Predicted against observed, mixtures held out; the target before the single losses."""
    figure = go.Figure()
    names = data["loss"].unique(maintain_order=True).to_list()
    for name in ("target", *names[:-1]):
        rows = data.filter(pl.col("loss") == name)
        target = name == "target"
        shown = True if target or len(names) <= _MOST_LOSSES else "legendonly"
        # Each loss has a diagonal of its own, so that a hidden one stretches no axis.
        figure.add_scatter(**diagonal(rows["observed"]), legendgroup=name, visible=shown)
        figure.add_scatter(
            x=rows["observed"], y=rows["predicted"], mode="markers", name=name,
            marker={"size": 6 if target else 4, "opacity": 0.7},
            legendgroup=name, visible=shown,
        )  # fmt: skip
    return styled(
        figure,
        f"Mixtures held out: the target is foretold with rank correlation {rank:.3f}",
        axis(with_unit("loss measured", unit)),
        axis(with_unit("loss predicted", unit)),
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


def draw_recommended(data: pl.DataFrame, loss: str) -> go.Figure:
    """Shares of the best mixture with intervals, and marks for the others."""
    rows = data.sort("best")
    largest = ", ".join(
        f"{share:.2f} {name}" for name, share in rows[["source", "best"]].reverse().head(3).rows()
    )
    figure = go.Figure()
    figure.add_bar(
        y=rows["source"], x=rows["best"], orientation="h", name="best",
        marker={"color": MARK, "opacity": 0.6},
        error_x=error_bars(INK, *rows.select("best", "lower", "upper")) | {"thickness": 1},
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
                marker={"symbol": symbol, "size": 9, "color": INK if name != "llama" else WARN},
                hovertemplate="%{y}: %{x:.3f}<extra>%{fullData.name}</extra>",
            )  # fmt: skip
    title = f"The least {loss} is foretold at {largest}{' …' if rows.height > 3 else ''}"
    return legend_above(styled(figure, title, axis("share"), {"title": {"text": ""}}))


def draw_all(answer: Answer) -> Iterator[tuple[str, go.Figure, int, pl.DataFrame]]:
    """Every figure with its name, height and data, in the order of the page."""
    sources, loss = len(answer.table.sources), target_words(answer)
    unit = answer.table.loss_unit
    best, tried = recommended_data(answer), mixtures_data(answer)
    yield "best-mixture", draw_recommended(best, loss), 220 + 26 * sources, best
    yield "mixtures", draw_mixtures(tried, loss, unit), 480, tried
    if answer.effects:
        effects = effects_data(answer)
        yield "effects", draw_effects(effects, unit), 220 + 26 * len(answer.effects), effects
    predictions = predictions_data(answer)
    drawn = draw_predictions(predictions, answer.score.pooled_rank, unit)
    yield "predictions", drawn, 460 + 10 * len(answer.table.targets), predictions


def _low_loss(tried: pl.DataFrame) -> float:
    """The loss that a tenth of the mixtures stays below."""
    return float(np.quantile(tried["loss"], _COLOURED))


def _parallel(tried: pl.DataFrame, loss: str, unit: LossUnit) -> go.Figure:
    contrast = contrasts(tried)
    shown = contrast["source"].head(_MOST_AXES).to_list()
    low, high = ends(tried["loss"])
    axes = [
        {"label": name, "values": tried[name].to_list(), "range": [0, _round_up(tried[name])]}
        for name in shown
    ]
    figure = go.Figure()
    figure.add_parcoords(
        dimensions=[
            *axes,
            {
                "label": with_unit("loss", unit),
                "values": tried["loss"].to_list(),
                "range": [low, high],
                "constraintrange": [low, _low_loss(tried)],
            },
        ],
        line={"color": MARK},
        unselected={"line": {"color": SOFT, "opacity": 0.06}},
        labelangle=-20,
        rangefont={"color": "rgba(0,0,0,0)"},
    )
    left_out = contrast.height - len(shown)
    rest = f"; {left_out} sources that differ less are only in the table above" if left_out else ""
    source, few, every = contrast.row(0)
    return styled(
        figure,
        f"The tenth of mixtures of least {loss}, in colour, has {few:.2f} of {source} on average, "
        f"all have {every:.2f}{rest}",
    ).update_layout(margin={"l": 70, "r": 50, "t": 140, "b": 30})


def _round_up(shares: pl.Series) -> float:
    """The end of an axis of shares, with one digit."""
    largest = float(shares.to_numpy().max()) or 1.0
    digit = 10 ** np.floor(np.log10(largest))
    return float(min(np.ceil(largest / digit) * digit, 1.0))


def _triangle(data: pl.DataFrame, sources: list[str], loss: str, unit: LossUnit) -> go.Figure:
    figure = go.Figure()
    bar = {"title": {"text": with_unit("loss", unit).replace(" ", "<br>")}}
    for kind, marker in (
        ("tried", {"size": 9, "colorscale": "Viridis", "showscale": True, "colorbar": bar}),
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
    tried, best = (data.filter(pl.col("kind") == kind)["loss"] for kind in ("tried", "best"))
    low, high = ends(tried)
    return styled(
        figure,
        f"Mixtures tried have a {loss} of {low:.4g} (dark) to {high:.4g}; the best, a star, is "
        f"foretold at {best[0]:.4g}",
    ).update_layout(margin={"t": 110, "b": 40})
