"""Figures of the retrodiction: the implied bill, serving in dollars, results against cost."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from analysis import published
from analysis.frontier.allocation import contour_above_E
from analysis.frontier.overtraining import implied_spend_ratio
from analysis.frontier.serving import Device, Serving, Shape
from analysis.frontier.serving_choice import Workload, smooth_choice
from analysis.law import Law
from analysis.style import GRID, INK, SOFT, styled

FAMILY_COLOURS = {
    "LLaMA": "#0b6e99",
    "Llama-2": "#3f8f6b",
    "Llama-3": "#7a4fa0",
    "Chinchilla": "#c26a00",
    "Gopher": "#8a8f98",
    "GPT-3": "#b23a48",
    "PaLM": "#946c00",
}
LAW_MARKS = {
    "besiroglu": ("circle", "Besiroglu 2024"),
    "hoffmann_tex": ("line-ns-open", "Hoffmann 2022"),
    "sardana": ("x-thin-open", "de Vries 2023, Sardana 2024"),
    "muennighoff_c4": ("diamond-open", "Muennighoff 2023, C4"),
    "gadre_rpj": ("square-open", "Gadre 2024, RedPajama"),
    "sardana_fit_all": ("triangle-up-open", "Sardana 2024, 47 runs"),
}
# A task family's score is the mean of these; every model shown has all of its family's.
TASKS = {
    "common_sense": ("Common sense", ("BoolQ", "PIQA", "HellaSwag", "WinoGrande"), "accuracy", "0"),
    "closed_book_qa": ("Closed-book questions", ("NaturalQuestions",), "exact match", "0"),
    "reading": ("Reading comprehension", ("RACE-middle", "RACE-high"), "accuracy", "0"),
    "mathematics": ("Mathematics", ("GSM8k", "MATH"), "accuracy", "few"),
    "code": ("Code", ("HumanEval", "MBPP"), "pass@1", None),
}
SERVING_SETUPS = (
    ("batch 1", 1, 1.0, 16),
    ("batch 8", 8, 1.0, 16),
    ("batch 32", 32, 1.0, 16),
    ("batch 32, grouped queries", 32, 1 / 8, 16),
    ("batch 32, 4-bit weights", 32, 1.0, 4),
    ("batch 128, grouped queries", 128, 1 / 8, 16),
)


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
        text="no demand<br>explains<br>these",
        x=-0.5,
        y=1,
        yref="paper",
        yanchor="top",
        showarrow=False,
        font={"size": 11, "color": "#8a7a52"},
    )
    for law in data["law"].unique(maintain_order=True):
        line = data.filter(pl.col("law") == law)
        symbol, words = LAW_MARKS.get(law, ("circle-open", law))
        drawn = line["draws"].null_count() == 0
        colours = [FAMILY_COLOURS.get(family, INK) for family in line["family"]]
        figure.add_scatter(
            x=line["spend_ratio"],
            y=line["model"],
            mode="markers",
            name=words,
            marker={
                "symbol": symbol,
                "size": 11 if drawn else 9,
                "color": colours if drawn else SOFT,
                "line": {"width": 1.6, "color": colours if drawn else SOFT},
            },
            error_x=_bars(line, colours) if drawn else None,
            customdata=line.select(
                pl.col("implied_inference_tokens", "break_even_tokens") / 1e12,
                "training_overhead",
                pl.col("tokens") / pl.col("n_params"),
            ).to_numpy(),
            hovertemplate=(
                "<b>%{y}</b> under " + words + "<br>inference bill %{x:.2f} × training bill"
                "<br>best choice for %{customdata[0]:.3g}T served tokens"
                "<br>pays once %{customdata[1]:.3g}T are served"
                "<br>%{customdata[2]:.0%} more training than needed, "
                "%{customdata[3]:.3g} tokens per parameter<extra></extra>"
            ),
        )
    figure.update_yaxes(
        categoryorder="array", categoryarray=data["model"].unique(maintain_order=True)
    )
    figure.update_xaxes(title="implied inference bill ÷ training bill", range=[-1, None])
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    return styled(figure, _bill_title(data))


def _bars(line: pl.DataFrame, colours: Sequence[str]) -> dict[str, object]:
    return {
        "type": "data",
        "symmetric": False,
        "array": (line["spend_ratio_high"] - line["spend_ratio"]).to_list(),
        "arrayminus": (line["spend_ratio"] - line["spend_ratio_low"]).to_list(),
        "color": "rgba(28,36,48,0.55)",
        "thickness": 2,
        "width": 0,
    }


def _bill_title(data: pl.DataFrame) -> str:
    first = data.filter(pl.col("law") == data["law"][0])
    explained = first.filter(pl.col("spend_ratio") > 0).height
    return (
        f"{explained} of {first.height} models are smaller than training alone would have them: "
        "their builders priced serving, or had data to spare"
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
        (f"{demand / 1e12:g}T", float(contour.rho(demand / 3)))
        for demand in (3e11, 1e12, 1e13, 1e14)
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
        x=line["train_flops"],
        y=line["gflops_per_served_token"],
        mode="lines",
        name="same loss",
        line={"color": "#0b6e99", "width": 3},
        customdata=line.select(
            pl.col("N") / 1e9, pl.col("D") / 1e12, pl.col("inference_tokens") / 1e12
        ).to_numpy(),
        hovertemplate=(
            "N %{customdata[0]:.3g}B on %{customdata[1]:.3g}T tokens<br>"
            "best for %{customdata[2]:.3g}T served tokens<extra></extra>"
        ),
    )
    marks = data.filter(~pl.col("kind").is_in(["contour", "actual"]))
    figure.add_scatter(
        x=marks["train_flops"],
        y=marks["gflops_per_served_token"],
        mode="markers+text",
        text=[
            "  training alone" if kind == "compute-optimal" else f"  {kind} served"
            for kind in marks["kind"]
        ],
        textposition=["middle right"] * 3 + ["top right"] * (marks.height - 3),
        marker={"color": "white", "size": 10, "line": {"color": "#0b6e99", "width": 2}},
        name="best for this many served tokens",
    )
    actual = data.filter(pl.col("kind") == "actual")
    figure.add_scatter(
        x=actual["train_flops"],
        y=actual["gflops_per_served_token"],
        mode="markers+text",
        text=[f"  <b>{model}</b>"],
        textposition="middle right",
        marker={"color": "#b23a48", "size": 13, "symbol": "diamond"},
        name=model,
    )
    figure.add_hline(
        y=2e-9 * data["N_min"][0],
        line={"color": SOFT, "dash": "dot"},
        annotation={"text": "no smaller model reaches this loss", "font": {"size": 11}},
        annotation_position="bottom right",
    )
    figure.update_xaxes(type="log", title="training FLOPs", exponentformat="power")
    figure.update_yaxes(title="GFLOPs for a served token", rangemode="tozero")
    start = data.filter(pl.col("kind") == "compute-optimal")
    extra = actual["train_flops"][0] / start["train_flops"][0] - 1
    cheaper = 1 - actual["N"][0] / start["N"][0]
    return styled(
        figure, f"{model} bought {cheaper:.0%} cheaper serving with {extra:.0%} more training"
    )


def serving_data(
    law: Law, loss: float, *, prompt_tokens: float, generated_tokens: float, device: Device
) -> pl.DataFrame:
    """The best size in dollars for one quality and demand under several ways of serving."""
    rows = []
    for name, batch, kv_share, bits in SERVING_SETUPS:
        serving = Serving(device, batch=batch, weight_bits=bits)
        workload = Workload(prompt_tokens, generated_tokens, device)
        choice = smooth_choice(law, loss, serving, workload, kv_share=kv_share)
        rows.append(
            {
                "serving": name,
                "N": choice.N,
                "D": choice.D,
                "usd_per_million_generated": choice.usd_per_million_generated,
                "decode_mfu": choice.decode_mfu,
                "eta": choice.eta,
                "spend_ratio": choice.spend_ratio,
                "total_usd": choice.total_usd,
                "saving": choice.saving,
                "baseline_N": choice.baseline_N,
            }
        )
    return pl.DataFrame(rows)


def draw_serving(data: pl.DataFrame) -> go.Figure:
    """A bar for each way of serving: the best size, against training alone."""
    figure = go.Figure()
    figure.add_bar(
        y=data["serving"],
        x=data["N"] / 1e9,
        orientation="h",
        marker={"color": "#0b6e99"},
        text=[f"{N / 1e9:.2g}B" for N in data["N"]],
        textposition="inside",
        insidetextanchor="end",
        customdata=data.select(
            "usd_per_million_generated", "decode_mfu", "eta", "saving"
        ).to_numpy(),
        hovertemplate=(
            "<b>%{y}</b><br>best size %{x:.3g}B<br>$%{customdata[0]:.3g} a million generated tokens"
            "<br>decoding at %{customdata[1]:.1%} of the peak<br>eta %{customdata[2]:.3f}"
            "<br>saves %{customdata[3]:.1%}<extra></extra>"
        ),
        showlegend=False,
    )
    baseline = data["baseline_N"][0] / 1e9
    figure.add_vline(
        x=baseline,
        line={"color": INK, "dash": "dot"},
        annotation={"text": f"training alone: {baseline:.3g}B", "font": {"size": 11}},
        annotation_position="top left",
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title="best size, billion parameters", rangemode="tozero")
    spread = data["N"].max() / data["N"].min()  # type: ignore[operator]
    return styled(
        figure,
        f"The way of serving alone moves the best size {spread:.1f}-fold: "
        "cheaper tokens argue for larger models",
    )


def results_data(device: Device, *, batch: int = 8, context: float = 1024) -> pl.DataFrame:
    """Scores by task family against what a model cost to train and costs to serve.

    A model enters a family when it has all of its benchmarks and its training tokens are known.

    Returns:
        task, model, family, score, train_flops, usd_per_million.
    """
    serving = Serving(device, batch=batch, context=context)
    models = published.models().with_columns(
        (6.0 * pl.col("n_params") * pl.col("tokens")).alias("train_flops")
    )
    prices = [
        1e6 * float(serving.usd_per_generated_token(Shape.published(name)))
        for name in models["model"]
    ]
    models = models.with_columns(pl.Series("usd_per_million", prices))
    frames = []
    for task, (_, benchmarks, metric, shots) in TASKS.items():
        chosen = published.results().filter(
            (pl.col("family") == task)
            & pl.col("benchmark").is_in(benchmarks)
            & (pl.col("metric") == metric)
            & (pl.lit(shots is None) | (pl.col("shots") == (shots or "")))
        )
        scores = chosen.group_by("model").agg(
            pl.col("value").mean().alias("score"), pl.len().alias("benchmarks")
        )
        complete = scores.filter(pl.col("benchmarks") == len(benchmarks))
        frames.append(
            complete.join(models, on="model")
            .select(
                pl.lit(task).alias("task"),
                "model",
                "family",
                "score",
                "n_params",
                "train_flops",
                "usd_per_million",
            )
            .sort("family", "train_flops")
        )
    return pl.concat(frames)


def price_of_a_point(data: pl.DataFrame, family: str = "LLaMA") -> pl.DataFrame:
    """How much dearer one more point is, from a log-linear fit over one family's sizes.

    Returns:
        task, more_training, more_serving: the extra cost of one point as a fraction.
    """
    rows = []
    for task in data["task"].unique(maintain_order=True):
        line = data.filter((pl.col("task") == task) & (pl.col("family") == family))
        costs = {}
        for name, column in (("more_training", "train_flops"), ("more_serving", "usd_per_million")):
            slope = np.polyfit(np.log(line[column].to_numpy()), line["score"].to_numpy(), 1)[0]
            costs[name] = float(np.expm1(1 / slope))
        rows.append({"task": task, **costs})
    return pl.DataFrame(rows)


def draw_results(data: pl.DataFrame) -> go.Figure:
    """One row for each task family: score against training, and against serving."""
    tasks = list(TASKS)
    figure = make_subplots(
        rows=len(tasks),
        cols=2,
        shared_yaxes=True,
        shared_xaxes=True,
        horizontal_spacing=0.04,
        vertical_spacing=0.035,
    )
    shown: set[str] = set()
    for row, task in enumerate(tasks, start=1):
        for family in data["family"].unique(maintain_order=True):
            line = data.filter((pl.col("task") == task) & (pl.col("family") == family))
            if line.is_empty():
                continue
            for column, cost in enumerate(("train_flops", "usd_per_million"), start=1):
                figure.add_scatter(
                    x=line[cost],
                    y=line["score"],
                    mode="lines+markers",
                    name=family,
                    legendgroup=family,
                    showlegend=family not in shown,
                    marker={"color": FAMILY_COLOURS[family], "size": 8},
                    line={"color": FAMILY_COLOURS[family], "width": 1.5},
                    text=line["model"],
                    hovertemplate="<b>%{text}</b><br>score %{y:.1f}, cost %{x:.3g}<extra></extra>",
                    row=row,
                    col=column,
                )
                shown.add(family)
        figure.update_yaxes(title={"text": TASKS[task][0], "font": {"size": 11}}, row=row, col=1)
    figure.update_xaxes(type="log", exponentformat="power", gridcolor=GRID)
    figure.update_xaxes(title="training FLOPs", row=len(tasks), col=1)
    figure.update_xaxes(
        title="$ / M tokens",
        tickvals=[0.5, 1, 2, 5, 10, 20, 40],
        row=len(tasks),
        col=2,
    )
    styled(figure, _results_title(data))
    figure.update_layout(legend={"y": 1.01, "yanchor": "bottom"}, margin={"t": 104})
    return figure


def _results_title(data: pl.DataFrame) -> str:
    """Where the small LLaMA stands against GPT-3."""
    common = data.filter(pl.col("task") == "common_sense")
    score = dict(zip(common["model"], common["score"], strict=True))
    price = dict(zip(common["model"], common["usd_per_million"], strict=True))
    cheaper = price["GPT-3"] / price["LLaMA-13B"]
    return (
        f"LLaMA-13B scores {score['LLaMA-13B'] - score['GPT-3']:+.1f} points against GPT-3 on "
        f"common sense and serves a token {cheaper:.0f} times cheaper"
    )
