"""Figures of the frontier. Each has a data function, which tests read, and a draw."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
from numpy.typing import NDArray

from analysis.frontier.allocation import (
    FLOPS_RATIO,
    compute_optimal,
    contour_above_E,
    inference_optimal,
)
from analysis.frontier.contour import Contour
from analysis.frontier.decision import extrapolated, quantiles
from analysis.law import Array, Constants, LossLaw
from analysis.style import CATEGORIES, MARK, WARN, axis, band, shades, shorts, styled
from analysis.words import short

# Demands of the frontier figure: tokens served over compute-optimal training tokens.
DEMANDS = (0.0, 1.0, 3.0, 10.0)


def frontier_data(law: LossLaw, demands: Sequence[float] = DEMANDS) -> pl.DataFrame:
    """The best size for every quality and several demands, with 90 % intervals.

    A quality is named by the least training budget that reaches it, from half a decade below the
    support to one and a half above; a demand by served tokens over the training tokens of that
    compute-optimal model, so that one choice of demands fits toy models and large ones.

    Returns:
        One row for each of `demands` and budget; N_low and N_high are null without draws, and
        extrapolated without a support: demand_ratio, budget_flops, loss, N, D,
        tokens_per_param, train_flops, inference_tokens, saving, N_low, N_high, extrapolated.
    """
    low, high = law.support.flops if law.support else (1e19, 1e23)
    C = np.geomspace(low / 10**0.5, high * 10**1.5, 61)
    N0, D0 = compute_optimal(law, C)
    loss = law.loss(N0, D0)
    demand = np.multiply.outer(demands, D0)
    best = inference_optimal(law, loss=loss, inference_tokens=demand)
    start = inference_optimal(law, loss=loss, inference_tokens=0.0)
    N_low = N_high = None
    if law.draws:
        N_low, N_high = quantiles(_drawn_sizes(law, C, demand), 0.9)
    columns = {
        "demand_ratio": np.asarray(demands, float)[:, np.newaxis],
        "budget_flops": C,
        "loss": loss,
        "N": best.N,
        "D": best.D,
        "tokens_per_param": best.tokens_per_param,
        "train_flops": best.train_flops,
        "inference_tokens": demand,
        "saving": 1 - best.total / start.serving(demand).total,
        "N_low": N_low,
        "N_high": N_high,
        "extrapolated": extrapolated(law, best.N, best.D),
    }
    return pl.DataFrame(
        {
            name: None if column is None else np.broadcast_to(column, demand.shape).ravel()
            for name, column in columns.items()
        },
        schema_overrides={"N_low": pl.Float64, "N_high": pl.Float64, "extrapolated": pl.Boolean},
    )


def _drawn_sizes(law: LossLaw, C: Array, demand: Array) -> Array:
    """The best N under each draw of a law, (draws, demands, budgets)."""
    draws = Constants.of_draws(law)
    parts = []
    # As many as a core keeps near it: three times as fast as all at once.
    for rows in np.array_split(np.arange(len(draws.E)), 10):
        some = draws.rows(rows)
        contour = Contour.through(some, *compute_optimal(some, C))
        sizes = [contour.N(contour.rho(FLOPS_RATIO * each)) for each in demand]
        parts.append(np.stack(sizes, axis=1))
    return np.concatenate(parts)


def demand_ratios(law: LossLaw, flops: float, tokens: float) -> tuple[float, ...]:
    """For `frontier_data`: no serving, and tokens served after a compute-optimal budget."""
    _, D = compute_optimal(law, flops)
    return (0.0, tokens / float(D)) if tokens else (0.0,)


def draw_frontier(data: pl.DataFrame) -> go.Figure:
    """Size against training FLOPs, a line for each demand; dotted beyond the law's data."""
    traces: list[dict[str, Any]] = []
    lines = data.partition_by("demand_ratio", maintain_order=True)
    for line, shade in zip(lines, shades(len(lines)), strict=True):
        ratio = line["demand_ratio"][0]
        x, y = line["train_flops"].to_numpy(), line["N"].to_numpy()
        if line["N_low"].null_count() == 0:
            traces.append(band(x, line["N_low"], line["N_high"], shade))
        width = 3 if ratio == 0 else 2
        inside = line.filter(~pl.col("extrapolated").fill_null(False))
        both = {
            "type": "scatter", "mode": "lines", "legendgroup": f"{ratio:g}",
            "name": "training alone" if ratio == 0 else f"serve {ratio:.3g} × D₀",
        }  # fmt: skip
        # Plotly gives a line without points no entry in the legend.
        dotted = {"color": shade, "width": width, "dash": "dot"}
        traces.append(
            {**both, "x": x, "y": y, "line": dotted, "hoverinfo": "skip",
             "showlegend": inside.is_empty()}
        )  # fmt: skip
        traces.append(
            {
                **both, "x": inside["train_flops"].to_numpy(), "y": inside["N"].to_numpy(),
                "line": {"color": shade, "width": width}, "text": _sizes(inside),
                "customdata": inside.select("loss", "tokens_per_param", "saving").to_numpy(),
                "hovertemplate": (
                    "%{text} tokens (%{customdata[1]:.3g} per parameter)"
                    "<br>training %{x:.2e} FLOPs, loss %{customdata[0]:.4f}"
                    "<br>saves %{customdata[2]:.1%} of the lifetime bill"
                    "<extra>%{fullData.name}</extra>"
                ),
            }
        )  # fmt: skip
    flops, sizes = axis("training FLOPs", log=True, flops=True), axis("N, parameters", log=True)
    decades = {"dtick": 1}
    # As dicts: Plotly checks and copies a trace of its own once more.
    return styled(go.Figure(traces), _frontier_title(data), flops | decades, sizes | decades)


def _sizes(rows: pl.DataFrame) -> list[str]:
    """N and D of each row, for a hover label."""
    return [f"N {N} on {D}" for N, D in zip(shorts(rows["N"]), shorts(rows["D"]), strict=True)]


def _frontier_title(data: pl.DataFrame) -> str:
    """What the largest demand does to the size, at the middle of the budgets."""
    budgets = data["budget_flops"].unique().sort()
    middle = data.filter(pl.col("budget_flops") == budgets[len(budgets) // 2]).sort("demand_ratio")
    plain, served = middle.row(0, named=True), middle.row(-1, named=True)
    if served["demand_ratio"] == 0:
        return "Without serving the compute-optimal size is the best"
    size, tokens = served["N"] / plain["N"], served["D"] / plain["D"]
    return (
        f"To serve {served['demand_ratio']:.3g} × the training tokens, "
        f"train {size:.2g} × the size on {tokens:.2g} × the tokens"
    )


def life_data(law: LossLaw, loss: float, inference_tokens: float) -> pl.DataFrame:
    """The lifetime bill of every size that reaches a loss, for one demand.

    Returns:
        N, D, train_flops, inference_flops, total along the contour.
    """
    contour = contour_above_E(law, loss)
    sizes = np.geomspace(float(contour.N_min) * 1.05, float(contour.N(0.0)) * 2.5, 200)
    # Under a law of a vanishing beta tokens and FLOPs are beyond any number: such sizes drop out.
    with np.errstate(over="ignore"):
        tokens = contour.tokens(sizes)
        training = 6 * sizes * tokens
    serving = 6 * FLOPS_RATIO * sizes * inference_tokens
    frame = pl.DataFrame(
        {
            "N": sizes,
            "D": tokens,
            "train_flops": training,
            "inference_flops": serving,
            "total": training + serving,
        }
    )
    # Close to N_min training grows without bound and would flatten the rest.
    return frame.filter(pl.col("total") < 4 * pl.col("total").min())


def draw_life(data: pl.DataFrame) -> go.Figure:
    """Training and serving stacked against size; the valley is the choice."""
    sizes = _sizes(data)
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter", "x": data["N"].to_numpy(), "y": data[column].to_numpy(),
            "name": words, "stackgroup": "bill", "line": {"width": 0.5, "color": colour},
            "text": sizes, "hovertemplate": "%{text} tokens<br>%{y:.2e} FLOPs",
        }
        for column, words, colour in (
            ("train_flops", "training", MARK), ("inference_flops", "serving", CATEGORIES[4])
        )
    ]  # fmt: skip
    best = data.row(data["total"].arg_min(), named=True)
    traces.append(
        {
            "type": "scatter", "x": [best["N"]], "y": [best["total"]], "mode": "markers",
            "name": "cheapest", "marker": {"color": WARN, "size": 12, "symbol": "diamond"},
            "text": [f"N {short(best['N'])} on {short(best['D'])}"],
            "hovertemplate": "%{text} tokens<br>%{y:.2e} FLOPs",
        }
    )  # fmt: skip
    share = best["inference_flops"] / best["total"]
    return styled(
        go.Figure(traces),
        f"At the cheapest size serving is {share:.0%} of the lifetime bill",
        axis("N, parameters", log=True),
        axis("lifetime FLOPs", flops=True) | {"rangemode": "tozero"},
    )


def regret_data(demands: Sequence[float], extra: NDArray[np.float64]) -> pl.DataFrame:
    """A regret table, rows true and columns planned, as one row a cell."""
    return pl.DataFrame(
        [
            {"true": true, "planned": planned, "extra": float(extra[i, j])}
            for i, true in enumerate(demands)
            for j, planned in enumerate(demands)
        ]
    )


def draw_regret(data: pl.DataFrame) -> go.Figure:
    """Planned against true demand, coloured by the extra bill."""
    labels = shorts(data["true"].unique(maintain_order=True))
    size = len(labels)
    table = data["extra"].to_numpy().reshape(size, size)
    figure = go.Figure(
        {
            "type": "heatmap",
            "x": labels,
            "y": labels,
            "z": np.minimum(table, 1.0),
            "text": [[_extra_words(cell) for cell in row] for row in table],
            "texttemplate": "%{text}",
            "colorscale": [[0, "#f4f8fa"], [0.1, "#cfe3ee"], [0.4, "#7fb4d0"], [1, MARK]],
            "showscale": False,
            "hovertemplate": "planned %{x}, served %{y}: %{text} extra<extra></extra>",
        }
    )
    return styled(
        figure,
        _regret_title(data),
        {"title": {"text": "tokens planned for"}, "type": "category"},
        {"title": {"text": "tokens served in fact"}, "type": "category", "autorange": "reversed"},
    )


def _regret_title(data: pl.DataFrame) -> str:
    """The worst cell within a factor 3.5, and the worst of all, no demand at all among them."""
    served = data.filter((pl.col("true") > 0) & (pl.col("planned") > 0))
    ratio = (served["true"] / served["planned"]).log().abs()
    near = served.filter(ratio <= np.log(3.5))["extra"].to_numpy()
    worst = data["extra"].to_numpy().max(initial=0.0)
    return (
        f"A guess of demand within a factor 3 costs at most {_extra_words(near.max(initial=0.0))} "
        f"more; the worst guess here costs {_extra_words(worst)} more"
    )


def _extra_words(extra: float) -> str:
    """An extra bill in few characters, for cells that a phone shows six of."""
    return f"{extra:.1%}" if extra < 0.0995 else f"{extra:.0%}"
