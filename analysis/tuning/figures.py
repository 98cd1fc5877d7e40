"""Figures of tuned learning rates and batches. Each has a data function, and a draw."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from analysis.style import CATEGORIES, INK, WARN, axis, error_bars, shorts, styled
from analysis.tuning.answer import SAME_BUDGET, LrFit
from analysis.tuning.law import TunedPoint
from analysis.words import sentence, short

_GRID = 41
_NEAR = 0.1  # nats per token above the minimum that the colours of a surface span
_WORDS = {
    "lr": "peak learning rate",
    "batch_tokens": "batch, tokens",
    "warmup_fraction": "warm-up, share of the shortest budget",
    "beta2_gap": "1 − beta2",
    "weight_decay": "weight decay",
}


def surface_data(point: TunedPoint) -> pl.DataFrame:
    """Loss above the minimum over learning rate and batch, companions at their best.

    Returns:
        lr, batch_tokens, excess (nats per token). With a batch that was not searched, one line.
    """
    surface = point.surface
    axes = surface.axes[:2]
    if len(axes) < 2 or axes[1].name != "batch_tokens":
        axes = surface.axes[:1]
    lines = [np.linspace(np.log(axis.low), np.log(axis.high), _GRID) for axis in axes]
    mesh = np.stack([part.ravel() for part in np.meshgrid(*lines, indexing="ij")], axis=1)
    logs = np.repeat(surface.minimum[None], len(mesh), axis=0)
    logs[:, : len(axes)] = mesh
    columns = {axis.name: np.exp(mesh[:, k]) for k, axis in enumerate(axes)}
    return pl.DataFrame({**columns, "excess": surface.at(logs) - surface.loss})


def trials_at(point: TunedPoint, table: pl.DataFrame) -> pl.DataFrame:
    """The trials of a size and budget.

    Args:
        table: the rows of the fit.
    """
    at_budget = (pl.col("budget") - point.D).abs() < 1
    return table.filter((pl.col("n_params") == point.N) & at_budget)


def draw_surface(point: TunedPoint, trials: pl.DataFrame) -> go.Figure:
    """Contours of the surface with its trials, its minimum and the minimum's interval.

    Args:
        trials: this size's and budget's rows: lr, batch_tokens, val_loss.
    """
    data, surface = surface_data(point), point.surface
    lr = surface.optima["lr"]
    batch = surface.optima.get("batch_tokens")
    figure = go.Figure()
    if batch is None:
        figure.add_scatter(
            x=data["lr"], y=data["excess"] + surface.loss, mode="lines", name="surface"
        )
        figure.add_scatter(x=trials["lr"], y=trials["val_loss"], mode="markers", name="trials")
        rate, loss = axis(_WORDS["lr"], log=True), axis("loss, nats per token")
        return styled(figure, _surface_title(point), rate, loss)
    z = data["excess"].to_numpy().reshape(_GRID, _GRID).T
    batches = data["batch_tokens"].unique(maintain_order=True)
    highest = _NEAR
    if np.quantile(z, 0.1) > _NEAR:
        # A few steep trials: near the minimum there would be one colour.
        highest = float(f"{np.median(z):.1g}")
    figure.add_contour(
        x=data["lr"].unique(maintain_order=True), y=batches, z=z,
        contours={"start": 0, "end": highest, "size": highest / 10},
        colorscale="Viridis", reversescale=True,
        colorbar={"title": {"text": "above the<br>minimum,<br>nats/token"}},
        text=[[batch] * _GRID for batch in shorts(batches)],
        hovertemplate="lr %{x:.2e}<br>batch %{text}<br>+%{z:.4f}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=trials["lr"], y=trials["batch_tokens"], mode="markers", name="trials",
        marker={"color": "white", "size": 8, "line": {"color": INK, "width": 1}},
        text=[f"batch {short(batch)}<br>loss {loss:.4f}"
              for batch, loss in trials.select("batch_tokens", "val_loss").iter_rows()],
        hovertemplate="lr %{x:.2e}<br>%{text}<extra></extra>",
    )  # fmt: skip
    axes = {axis.name: axis for axis in surface.axes}
    bounded = None not in (*lr.interval, *batch.interval)
    bars = {}
    for letter, name, optimum in (("x", "lr", lr), ("y", "batch_tokens", batch)):
        low, high = optimum.interval
        low = axes[name].low if low is None else low
        high = axes[name].high if high is None else high
        bars["error_" + letter] = error_bars(WARN, [optimum.value], [low], [high])
    figure.add_scatter(
        x=[lr.value], y=[batch.value], mode="markers",
        name=f"minimum, {surface.level:.0%} interval{'' if bounded else ' (open: not bounded)'}",
        marker={"color": WARN, "symbol": "diamond" if bounded else "diamond-open", "size": 11},
        **bars,
    )  # fmt: skip
    x, y = (axis(_WORDS[name], log=True) for name in ("lr", "batch_tokens"))
    return styled(figure, _surface_title(point), x, y)


def law_data(fit: LrFit) -> pl.DataFrame:
    """Minima, and the law with its interval: quantity, kind, N, D, value, low, high.

    Kind `minimum` has a row a surface, `law` a line over N for each budget.
    """
    rows: list[dict[str, object]] = []
    sizes = sorted({point.N for point in fit.points})
    budgets = sorted({point.D for point in fit.points})
    line = np.geomspace(sizes[0] / 2, sizes[-1] * 8, 40)
    for quantity, law in (("lr", fit.recipe_lr), ("batch_tokens", fit.recipe_batch)):
        for point in fit.points:
            optimum = point.surface.optima.get(quantity)
            if optimum is not None:
                low, high = optimum.interval
                rows.append(
                    {"quantity": quantity, "kind": "minimum", "N": point.N, "D": point.D,
                     "value": optimum.value, "low": low, "high": high}
                )  # fmt: skip
        for D in budgets if law.coef is not None else ():
            for N in line:
                low, high = law.interval_at(N, D, fit.level) or (None, None)
                rows.append(
                    {"quantity": quantity, "kind": "law", "N": N, "D": D,
                     "value": law.at(N, D), "low": low, "high": high}
                )  # fmt: skip
    schema = {"quantity": pl.String, "kind": pl.String} | dict.fromkeys(
        ("N", "D", "value", "low", "high"), pl.Float64
    )
    return pl.DataFrame(rows, schema=schema)


def draw_law(data: pl.DataFrame) -> go.Figure:
    """The best learning rate and the best batch over sizes, one line a budget."""
    figure = make_subplots(cols=2, horizontal_spacing=0.12)
    budgets = _same_but_rounded(data["D"].unique().sort().to_list())
    for col, quantity in ((1, "lr"), (2, "batch_tokens")):
        part = data.filter(pl.col("quantity") == quantity)
        shown: set[int] = set()
        for D in data["D"].unique().sort():
            budget, colour = budgets[D], CATEGORIES[budgets[D] % len(CATEGORIES)]
            rows = part.filter(pl.col("D") == D)
            law = rows.filter(pl.col("kind") == "law")
            minima = rows.filter(pl.col("kind") == "minimum")
            if law.height and budget not in shown:
                figure.add_scatter(
                    x=law["N"], y=law["value"], mode="lines", line={"color": colour},
                    showlegend=False, row=1, col=col,
                )  # fmt: skip
            figure.add_scatter(
                x=minima["N"], y=minima["value"], mode="markers",
                # Without an interval a minimum is the least certain, and looks so.
                marker={"color": colour, "size": 9, "symbol": [
                    "circle-open" if low is None or high is None else "circle"
                    for low, high in minima.select("low", "high").iter_rows()
                ]},
                name=f"D = {short(D)}", legendgroup=str(budget),
                showlegend=col == 1 and budget not in shown and bool(minima.height),
                error_y=error_bars(colour, *minima.select("value", "low", "high")),
                row=1, col=col,
            )  # fmt: skip
            shown.add(budget)
        figure.update_xaxes(**axis("N, parameters", log=True), row=1, col=col)
        figure.update_yaxes(**axis(_WORDS[quantity], log=True), row=1, col=col)
    return styled(figure, _law_title(data, several=len(set(budgets.values())) > 1))


def draw_importances(importances: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """Optuna's own importances, a bar a parameter and size."""
    figure = go.Figure()
    names = sorted({name for shares in importances.values() for name in shares})
    for size, shares in importances.items():
        figure.add_bar(
            y=[_WORDS.get(name, name) for name in names],
            x=[shares.get(name, 0.0) for name in names], orientation="h", name=size,
        )  # fmt: skip
    best = max(
        names, key=lambda name: sum(shares.get(name, 0.0) for shares in importances.values())
    )
    figure.update_layout(barmode="group")
    title = f"What mattered most to the search: {_WORDS.get(best, best).partition(',')[0]}"
    return styled(figure, title, axis("share of importance (PED-ANOVA)"))


def _law_title(data: pl.DataFrame, *, several: bool) -> str:
    """How the learning rate goes with N at one budget, and of several the batch with D."""
    laws = data.filter(pl.col("kind") == "law")
    lr = laws.filter((pl.col("quantity") == "lr") & (pl.col("D") == pl.col("D").min()))
    batch = laws.filter((pl.col("quantity") == "batch_tokens") & (pl.col("N") == pl.col("N").min()))
    growths = []
    if lr.height:
        growths.append(f"ten times the parameters take {_tenfold(lr, 'N'):.2g} × the learning rate")
    if batch.height and several:
        growths.append(f"ten times the tokens take {_tenfold(batch, 'D'):.2g} × the batch")
    return sentence(", ".join(growths) or "no law: no minimum lies inside the searched ranges")


def _tenfold(rows: pl.DataFrame, name: str) -> float:
    """By what a power law changes over ten times the column `name`."""
    first, last = (rows.sort(name).row(place, named=True) for place in (0, -1))
    slope = np.log(last["value"] / first["value"]) / np.log(last[name] / first[name])
    return float(10**slope)


def _surface_title(point: TunedPoint) -> str:
    optima = point.surface.optima
    words = ", ".join(
        f"{_WORDS[name].partition(',')[0]} {short(optimum.value)}"
        + (f" ({optimum.edge} end)" if optimum.edge else "")
        for name, optimum in optima.items()
    )
    inside = not any(optimum.edge for optimum in optima.values())
    doubt = "" if inside else "no minimum inside the searched ranges, "
    return f"N = {short(point.N)}, D = {short(point.D)}: {doubt}least at {words}"


def _same_but_rounded(budgets: list[float]) -> dict[float, int]:
    """A number for each budget; budgets that differ by rounding only share one."""
    numbers: dict[float, int] = {}
    number, last = -1, 0.0
    for D in budgets:
        number += last * SAME_BUDGET < D
        numbers[D], last = number, D
    return numbers
