"""Figures of the frontier. Each has a data function, which tests read, and a draw."""

from collections.abc import Sequence

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
from analysis.frontier.decision import extrapolated, quantiles
from analysis.law import Constants, LossLaw
from analysis.style import CATEGORIES, MARK, WARN, axis, faded, shades, shorts, styled
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
    contours = None
    if law.draws:
        draws = Constants.of_draws(law)
        contours = contour_above_E(draws, draws.loss(*compute_optimal(draws, C)))
    frames = []
    for ratio in demands:
        demand = ratio * D0
        best = inference_optimal(law, loss=loss, inference_tokens=demand)
        start = inference_optimal(law, loss=loss, inference_tokens=0.0)
        unknown = np.full(C.size, None, dtype=object)
        N_low, N_high = unknown, unknown
        if contours is not None:
            drawn = contours.N(contours.rho(FLOPS_RATIO * demand))
            N_low, N_high = quantiles(drawn, 0.9)
        outside = extrapolated(law, best.N, best.D)
        frames.append(
            pl.DataFrame(
                {
                    "demand_ratio": np.full(C.size, ratio),
                    "budget_flops": C,
                    "loss": loss,
                    "N": best.N,
                    "D": best.D,
                    "tokens_per_param": best.tokens_per_param,
                    "train_flops": best.train_flops,
                    "inference_tokens": demand,
                    "saving": 1 - best.total / start.serving(demand).total,
                    "N_low": pl.Series(N_low, dtype=pl.Float64),
                    "N_high": pl.Series(N_high, dtype=pl.Float64),
                    "extrapolated": pl.Series(
                        unknown if outside is None else outside, dtype=pl.Boolean
                    ),
                }
            )
        )
    return pl.concat(frames)


def demand_ratios(law: LossLaw, flops: float, tokens: float) -> tuple[float, ...]:
    """For `frontier_data`: no serving, and tokens served after a compute-optimal budget."""
    _, D = compute_optimal(law, flops)
    return (0.0, tokens / float(D)) if tokens else (0.0,)


def draw_frontier(data: pl.DataFrame) -> go.Figure:
    """Size against training FLOPs, a line for each demand; dotted beyond the law's data."""
    figure = go.Figure()
    ratios = data["demand_ratio"].unique(maintain_order=True).to_list()
    for ratio, shade in zip(ratios, shades(len(ratios)), strict=True):
        line = data.filter(pl.col("demand_ratio") == ratio)
        if line["N_low"].null_count() == 0:
            figure.add_scatter(
                x=[*line["train_flops"], *line["train_flops"].reverse()],
                y=[*line["N_high"], *line["N_low"].reverse()], fill="toself",
                fillcolor=faded(shade), line={"width": 0}, hoverinfo="skip", showlegend=False,
            )  # fmt: skip
        width = 3 if ratio == 0 else 2
        inside = line.filter(~pl.col("extrapolated").fill_null(False))
        name = "training alone" if ratio == 0 else f"serve {ratio:.3g} × D₀"
        # Plotly gives a line without points no entry in the legend.
        figure.add_scatter(
            x=line["train_flops"], y=line["N"], name=name,
            line={"color": shade, "width": width, "dash": "dot"}, hoverinfo="skip",
            showlegend=inside.is_empty(), legendgroup=f"{ratio:g}", mode="lines",
        )  # fmt: skip
        figure.add_scatter(
            x=inside["train_flops"], y=inside["N"], name=name,
            line={"color": shade, "width": width}, mode="lines", legendgroup=f"{ratio:g}",
            text=_sizes(inside),
            customdata=inside.select("loss", "tokens_per_param", "saving").to_numpy(),
            hovertemplate=(
                "%{text} tokens (%{customdata[1]:.3g} per parameter)"
                "<br>training %{x:.2e} FLOPs, loss %{customdata[0]:.4f}"
                "<br>saves %{customdata[2]:.1%} of the lifetime bill<extra>%{fullData.name}</extra>"
            ),
        )  # fmt: skip
    flops, sizes = axis("training FLOPs", log=True, flops=True), axis("N, parameters", log=True)
    decades = {"dtick": 1}
    return styled(figure, _frontier_title(data), flops | decades, sizes | decades)


def _sizes(rows: pl.DataFrame) -> list[str]:
    """N and D of each row, for a hover label."""
    return [f"N {N} on {D}" for N, D in zip(shorts(rows["N"]), shorts(rows["D"]), strict=True)]


def _frontier_title(data: pl.DataFrame) -> str:
    """What the largest demand does to the size, at the middle of the budgets."""
    budgets = data["budget_flops"].unique().sort()
    middle = data.filter(pl.col("budget_flops") == budgets[len(budgets) // 2])
    plain = middle.filter(pl.col("demand_ratio") == middle["demand_ratio"].min())
    served = middle.filter(pl.col("demand_ratio") == middle["demand_ratio"].max())
    if served["demand_ratio"][0] == 0:
        return "Without serving the compute-optimal size is the best"
    size = served["N"][0] / plain["N"][0]
    tokens = served["D"][0] / plain["D"][0]
    return (
        f"To serve {served['demand_ratio'][0]:.3g} × the training tokens, "
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
    figure = go.Figure()
    for column, words, colour in (
        ("train_flops", "training", MARK),
        ("inference_flops", "serving", CATEGORIES[4]),
    ):
        figure.add_scatter(
            x=data["N"], y=data[column], name=words, stackgroup="bill",
            line={"width": 0.5, "color": colour}, text=_sizes(data),
            hovertemplate="%{text} tokens<br>%{y:.2e} FLOPs",
        )  # fmt: skip
    best = data.sort("total").row(0, named=True)
    figure.add_scatter(
        x=[best["N"]], y=[best["total"]], mode="markers", name="cheapest",
        marker={"color": WARN, "size": 12, "symbol": "diamond"},
        text=[f"N {short(best['N'])} on {short(best['D'])}"],
        hovertemplate="%{text} tokens<br>%{y:.2e} FLOPs",
    )  # fmt: skip
    share = best["inference_flops"] / best["total"]
    return styled(
        figure,
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
        go.Heatmap(
            x=labels,
            y=labels,
            z=np.minimum(table, 1.0),
            text=[[f"{cell:.1%}" for cell in row] for row in table],
            texttemplate="%{text}",
            colorscale=[[0, "#f4f8fa"], [0.1, "#cfe3ee"], [0.4, "#7fb4d0"], [1, MARK]],
            showscale=False,
            hovertemplate="planned %{x}, served %{y}: %{text} extra<extra></extra>",
        )
    )
    return styled(
        figure,
        _regret_title(data),
        {"title": {"text": "planned for"}, "type": "category"},
        {"title": {"text": "served in fact"}, "type": "category", "autorange": "reversed"},
    )


def _regret_title(data: pl.DataFrame) -> str:
    """The worst cell within a factor 3.5, and the worst of all, no demand at all among them."""
    served = data.filter((pl.col("true") > 0) & (pl.col("planned") > 0))
    ratio = (served["true"] / served["planned"]).log().abs()
    near = served.filter(ratio <= np.log(3.5))["extra"].to_numpy()
    worst = data["extra"].to_numpy().max(initial=0.0)
    return (
        f"A guess of demand within a factor 3 costs at most {near.max(initial=0.0):.1%} more; "
        f"the worst guess here costs {worst:.1%}"
    )
