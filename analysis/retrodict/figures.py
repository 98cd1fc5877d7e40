"""Figures of the retrodiction: the implied bill, and the contour of one model's quality."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from analysis.frontier.allocation import contour_above_E
from analysis.frontier.overtraining import implied_spend_ratio
from analysis.law import Law
from analysis.style import CATEGORIES, INK, MARK, SOFT, WARN, axis, error_bars, shorts, styled
from analysis.words import short

FAMILY_COLOURS = dict(
    zip(
        ("LLaMA", "Chinchilla", "Llama-2", "Llama-3", "PaLM", "Gopher", "GPT-3"),
        CATEGORIES,
        strict=True,
    )
)
LAW_MARKS = {
    "besiroglu": ("circle", "Besiroglu 2024"),
    "hoffmann_tex": ("line-ns-open", "Hoffmann 2022"),
    "sardana": ("x-thin-open", "de Vries 2023, Sardana 2024"),
    "muennighoff_c4": ("diamond-open", "Muennighoff 2023, C4"),
    "gadre_rpj": ("square-open", "Gadre 2024, RedPajama"),
    "sardana_fit_all": ("triangle-up-open", "Sardana 2024, 47 runs"),
}


def bill_data(rows: pl.DataFrame) -> pl.DataFrame:
    """Models from the largest implied bill to the least, one row for each law.

    Args:
        rows: of `analysis.retrodict.answer.retrodict`.
    """
    order = (
        rows.filter(pl.col("law") == rows["law"][0])
        .sort("spend_ratio")
        .with_row_index("place")
        .select("model", "place")
    )
    return rows.join(order, on="model").sort("place", maintain_order=True)


def draw_bill(data: pl.DataFrame) -> go.Figure:
    """A row for each model: the bill it implies, one mark for each law, one bootstrap bar."""
    figure = go.Figure()
    figure.add_vrect(x0=-1, x1=0, fillcolor="#f3efe6", line_width=0, layer="below")
    figure.add_annotation(
        text="no demand<br>explains<br>these", x=-0.5, y=1, yref="paper", yanchor="top",
        showarrow=False, font={"size": 11, "color": "#8a7a52"},
    )  # fmt: skip
    for law in data["law"].unique(maintain_order=True):
        line = data.filter(pl.col("law") == law)
        symbol, words = LAW_MARKS.get(law, ("circle-open", law))
        drawn = line["draws"].null_count() == 0
        bars = error_bars(SOFT, *(line[f"spend_ratio{end}"] for end in ("", "_low", "_high")))
        colours = [FAMILY_COLOURS.get(family, INK) for family in line["family"]]
        figure.add_scatter(
            x=line["spend_ratio"], y=line["model"], mode="markers", name=words,
            marker={
                "symbol": symbol,
                "size": 11 if drawn else 9,
                "color": colours if drawn else SOFT,
                "line": {"width": 1.6, "color": colours if drawn else SOFT},
            },
            error_x=bars | {"thickness": 2, "width": 0} if drawn else None,
            text=[_demands(row) for row in line.iter_rows(named=True)],
            hovertemplate=(
                "<b>%{y}</b> under " + words + "<br>inference bill %{x:.2f} × training bill"
                "<br>%{text}<extra></extra>"
            ),
        )  # fmt: skip
    figure.update_yaxes(
        categoryorder="array", categoryarray=data["model"].unique(maintain_order=True)
    )
    figure.update_xaxes(range=[-1, None])
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    return styled(figure, _bill_title(data), axis("implied inference bill ÷ training bill"))


def _demands(row: dict[str, Any]) -> str:
    """Demand, break-even and overhead of one model under one law, for a hover label."""
    even = row["break_even_tokens"]
    pays = f"pays once {short(even)} are served" if even else "never pays"
    best = row["implied_inference_tokens"]
    return (
        (f"best choice for {short(best)} served tokens" if best else "best choice for no demand")
        + f"<br>{pays}<br>{row['training_overhead']:.0%} more training than needed, "
        f"{row['tokens'] / row['n_params']:.3g} tokens per parameter"
    )


def _bill_title(data: pl.DataFrame) -> str:
    first = data.filter(pl.col("law") == data["law"][0])
    explained = first.filter(pl.col("spend_ratio") > 0).height
    law = LAW_MARKS.get(data["law"][0], ("", data["law"][0]))[1]
    return (
        f"Under {law} {explained} of {first.height} models are smaller than training alone would "
        "have them"
    )


def contour_data(law: Law, N: float, D: float) -> pl.DataFrame:
    """The iso-loss contour through a model: what each size costs to train and to serve a token.

    Returns:
        Rows along the contour by rho, with the demand each size is best for; `kind` marks
        compute-optimal, actual and the round demands to label.
    """
    loss = float(np.asarray(law.loss(N, D)))
    contour = contour_above_E(law, loss)
    rho = np.concatenate([[0.0], np.geomspace(1e-3, 20, 240)])
    marks = [("compute-optimal", 0.0), ("actual", float(implied_spend_ratio(law, N, D)))]
    marks += [
        (short(demand), float(contour.rho(demand / 3))) for demand in (3e11, 1e12, 1e13, 1e14)
    ]
    values = np.concatenate([rho, [value for _, value in marks]])
    sizes, tokens = contour.N(values), contour.D(values)
    return pl.DataFrame(
        {
            "kind": ["contour"] * rho.size + [kind for kind, _ in marks],
            "rho": values,
            "N": sizes,
            "D": tokens,
            "train_flops": 6 * sizes * tokens,
            "gflops_per_served_token": 2e-9 * sizes,
            "inference_tokens": 3 * values * tokens,
            "N_min": np.full(values.size, float(contour.N_min)),
            "loss": np.full(values.size, loss),
        }
    )


def draw_contour(data: pl.DataFrame, model: str) -> go.Figure:
    """Training FLOPs against FLOPs for a served token, at one quality."""
    figure = go.Figure()
    line = data.filter(pl.col("kind") == "contour")
    figure.add_scatter(
        x=line["train_flops"], y=line["gflops_per_served_token"], mode="lines", name="same loss",
        line={"color": MARK, "width": 3},
        customdata=np.stack(
            [shorts(line[name]) for name in ("N", "D", "inference_tokens")], axis=1
        ),
        hovertemplate=(
            "N %{customdata[0]} on %{customdata[1]} tokens<br>"
            "best for %{customdata[2]} served tokens<extra></extra>"
        ),
    )  # fmt: skip
    marks = data.filter(~pl.col("kind").is_in(["contour", "actual"]))
    figure.add_scatter(
        x=marks["train_flops"], y=marks["gflops_per_served_token"], mode="markers+text",
        text=[
            "  training alone" if kind == "compute-optimal" else f"  {kind} served"
            for kind in marks["kind"]
        ],
        textposition=["middle right"] * 3 + ["top right"] * (marks.height - 3),
        marker={"color": "white", "size": 10, "line": {"color": MARK, "width": 2}},
        name="best for this many served tokens",
    )  # fmt: skip
    actual = data.filter(pl.col("kind") == "actual")
    figure.add_scatter(
        x=actual["train_flops"], y=actual["gflops_per_served_token"], mode="markers+text",
        text=[f"  <b>{model}</b>"], textposition="middle right",
        marker={"color": WARN, "size": 13, "symbol": "diamond"}, name=model,
    )  # fmt: skip
    figure.add_hline(
        y=2e-9 * data["N_min"][0], line={"color": SOFT, "dash": "dot"},
        annotation={"text": "no smaller model reaches this loss", "font": {"size": 11}},
        annotation_position="bottom right",
    )  # fmt: skip
    figure.update_yaxes(rangemode="tozero")
    start = data.filter(pl.col("kind") == "compute-optimal")
    extra = actual["train_flops"][0] / start["train_flops"][0] - 1
    cheaper = 1 - actual["N"][0] / start["N"][0]
    title = f"{model} bought {cheaper:.0%} cheaper serving with {extra:.0%} more training"
    if cheaper <= 0:
        title = f"{model} is no smaller than training alone would have it: it serves no cheaper"
    return styled(
        figure,
        title,
        axis("training FLOPs", log=True, flops=True),
        axis("GFLOPs for a served token"),
    )
