"""Figures of the retrodiction in dollars: ways of serving, and results against cost."""

import numpy as np
import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from analysis import published, words
from analysis.frontier.serving import Device, Serving, Shape
from analysis.frontier.serving_choice import Workload, smooth_choice
from analysis.law import Law
from analysis.retrodict.figures import FAMILY_COLOURS
from analysis.style import INK, MARK, axis, shorts, styled
from analysis.words import short

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

_OF_A_CHOICE = (
    *("N", "D", "usd_per_million_generated", "decode_mfu", "eta", "spend_ratio", "total_usd"),
    *("saving", "baseline_N"),
)


def serving_data(
    law: Law, loss: float, *, prompt_tokens: float, generated_tokens: float, device: Device
) -> pl.DataFrame:
    """The cheapest size for one loss and demand under several ways of serving."""
    rows = []
    for name, batch, kv_share, bits in SERVING_SETUPS:
        serving = Serving(device, batch=batch, weight_bits=bits)
        workload = Workload(prompt_tokens, generated_tokens, device)
        choice = smooth_choice(law, loss, serving, workload, kv_share=kv_share)
        rows.append({"serving": name} | {each: getattr(choice, each) for each in _OF_A_CHOICE})
    return pl.DataFrame(rows)


def draw_serving(data: pl.DataFrame) -> go.Figure:
    """A bar for each way of serving: the best size, against training alone."""
    figure = go.Figure()
    figure.add_bar(
        y=data["serving"], x=data["N"], orientation="h", marker={"color": MARK},
        text=shorts(data["N"]), textposition="inside", insidetextanchor="end", textangle=0,
        customdata=data.select(
            "usd_per_million_generated", "decode_mfu", "eta", "saving"
        ).to_numpy(),
        hovertemplate=(
            "<b>%{y}</b><br>best size %{text}<br>$%{customdata[0]:.3g} a million generated tokens"
            "<br>decoding at %{customdata[1]:.1%} of the peak<br>eta %{customdata[2]:.3f}"
            "<br>saves %{customdata[3]:.1%}<extra></extra>"
        ),
        showlegend=False,
    )  # fmt: skip
    baseline = data["baseline_N"][0]
    figure.add_vline(
        x=baseline, line={"color": INK, "dash": "dot"},
        annotation={"text": f"training alone: {short(baseline)}", "font": {"size": 11}},
        annotation_position="top left",
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(rangemode="tozero")
    spread = data["N"].max() / data["N"].min()  # type: ignore[operator]
    # From the cheapest token to the dearest.
    sizes = data.sort("usd_per_million_generated")["N"]
    falls = ": cheaper tokens argue for larger models" if sizes.is_sorted(descending=True) else ""
    return styled(
        figure,
        f"The way of serving alone moves the best size {spread:.1f}-fold{falls}",
        axis("best size, parameters"),
    )


def results_data(device: Device) -> pl.DataFrame:
    """Scores by task family against what a model cost to train and costs to serve.

    A model enters a family when it has all of its benchmarks and its training tokens are known.

    Returns:
        task, model, family, score, train_flops, usd_per_million.
    """
    serving = Serving(device)
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


def price_of_a_point(data: pl.DataFrame) -> pl.DataFrame:
    """Extra cost of one more point of score, from a log-linear fit over LLaMA's sizes.

    Returns:
        task, more_training, more_serving: fractions of the cost.
    """
    rows = []
    for task in data["task"].unique(maintain_order=True):
        line = data.filter((pl.col("task") == task) & (pl.col("family") == "LLaMA"))
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
        rows=len(tasks), cols=2, shared_yaxes=True, shared_xaxes=True, horizontal_spacing=0.04,
        vertical_spacing=0.035,
    )  # fmt: skip
    shown: set[str] = set()
    for row, task in enumerate(tasks, start=1):
        for family in data["family"].unique(maintain_order=True):
            line = data.filter((pl.col("task") == task) & (pl.col("family") == family))
            if line.is_empty():
                continue
            for column, (cost, show) in enumerate(
                (("train_flops", _training), ("usd_per_million", _serving)), start=1
            ):
                figure.add_scatter(
                    x=line[cost], y=line["score"], mode="lines+markers", name=family,
                    legendgroup=family, showlegend=family not in shown,
                    marker={"color": FAMILY_COLOURS[family], "size": 8},
                    line={"color": FAMILY_COLOURS[family], "width": 1.5}, text=line["model"],
                    customdata=[show(value) for value in line[cost]],
                    hovertemplate="<b>%{text}</b><br>score %{y:.1f}, %{customdata}<extra></extra>",
                    row=row, col=column,
                )  # fmt: skip
                shown.add(family)
        figure.update_yaxes(title={"text": TASKS[task][0], "font": {"size": 11}}, row=row, col=1)
    figure.update_xaxes(type="log", exponentformat="power")
    # On a phone the digits between two decades would run into them.
    figure.update_xaxes(dtick=1, col=1)
    figure.update_xaxes(title="training FLOPs", row=len(tasks), col=1)
    figure.update_xaxes(tickvals=[0.5, 1, 2, 5, 10, 20, 40], col=2)
    figure.update_xaxes(title="$ a million tokens", row=len(tasks), col=2)
    styled(figure, _results_title(data))
    figure.update_layout(legend={"y": 1.01, "yanchor": "bottom"}, margin={"t": 104})
    return figure


def _training(flops: float) -> str:
    return f"{words.flops(flops)} training FLOPs"


def _serving(usd: float) -> str:
    return f"{words.dollars(usd)} a million tokens"


def _results_title(data: pl.DataFrame) -> str:
    """LLaMA-13B against GPT-3."""
    common = data.filter(pl.col("task") == "common_sense")
    score = dict(zip(common["model"], common["score"], strict=True))
    price = dict(zip(common["model"], common["usd_per_million"], strict=True))
    cheaper = price["GPT-3"] / price["LLaMA-13B"]
    return (
        f"LLaMA-13B scores {score['LLaMA-13B'] - score['GPT-3']:+.1f} points against GPT-3 on "
        f"common sense and serves a token {cheaper:.0f} times cheaper"
    )
