"""The figure of the next runs. It has a data function, which tests read, and a draw."""

import numpy as np
import plotly.graph_objects as go
import polars as pl

from analysis.next_runs.answer import NextRuns
from analysis.style import INK, MARK, SOFT, WARN, axis, faded, shorts, styled
from analysis.words import counted, flops

_SCALE = [[0, faded(MARK)], [1, MARK]]


def plane_data(answer: NextRuns) -> pl.DataFrame:
    """Every run on the plane of N and D.

    Returns:
        One row a run: kind (trained, candidate, next or target), n_params, tokens, flops (cost;
        6·N·D where it was paid), sharpens (share of today's width of ln N*'s interval that a
        candidate alone takes away; null for others), label (place of a next run, from 1).
    """
    learnt, candidates, best = answer.forecast.posterior.rows, answer.candidates, answer.target
    places = {run.candidate: f"{place}" for place, run in enumerate(answer.runs, 1)}
    N, D = np.exp(learnt.n), np.exp(learnt.d)
    frames = [
        pl.DataFrame({"kind": "trained", "n_params": N, "tokens": D, "flops": 6 * N * D}),
        pl.DataFrame(
            {
                "kind": ["next" if c in places else "candidate" for c in range(len(candidates))],
                "n_params": candidates.N,
                "tokens": candidates.D,
                "flops": candidates.flops,
                "sharpens": 1 - answer.n_alone,
                "label": [places.get(c) for c in range(len(candidates))],
            },
            schema_overrides={"label": pl.String},
        ),
        pl.DataFrame(
            {
                "kind": ["target"],
                "n_params": [best.n_opt],
                "tokens": [best.d_opt],
                "flops": [best.flops],
            }
        ),
    ]
    return pl.concat(frames, how="diagonal_relaxed").cast(
        {"n_params": pl.Float64, "tokens": pl.Float64, "flops": pl.Float64}
    )


def draw_plane(data: pl.DataFrame) -> go.Figure:
    """N against D: what was trained, what could be, the runs to train next, and the target."""
    figure = go.Figure()
    target = data.filter(pl.col("kind") == "target").row(0, named=True)
    reach = np.exp(np.array([-1.5, 1.5]))
    figure.add_scatter(
        x=target["n_params"] * reach, y=target["tokens"] / reach, mode="lines",
        name=f"{flops(target['flops'])} FLOPs", line={"color": SOFT, "dash": "dot"},
        hoverinfo="skip",
    )  # fmt: skip
    for kind, name, marker in (
        (
            "candidate",
            "could be trained (stronger teaches more)",
            {"size": 8, "symbol": "square"},
        ),
        ("trained", "trained", {"size": 6, "color": INK}),
        ("next", "train next, in this order", {"size": 17, "color": WARN}),
        ("target", "N* and D* at the target", {"size": 13, "color": WARN, "symbol": "star"}),
    ):
        rows = data.filter(pl.col("kind") == kind)
        if kind == "candidate":
            marker |= {"color": rows["sharpens"].to_list(), "colorscale": _SCALE}
        figure.add_scatter(
            x=rows["n_params"], y=rows["tokens"], name=name, marker=marker,
            mode="markers+text" if kind == "next" else "markers",
            text=rows["label"] if kind == "next" else None,
            textfont={"color": "white", "size": 11},
            customdata=_hover(rows),
            hovertemplate="N %{customdata[0]} on %{customdata[1]}, %{customdata[2]} FLOPs"
            "%{customdata[3]}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    figure.update_xaxes(dtick=1)
    figure.update_yaxes(dtick=1)
    return styled(
        figure,
        _title(data),
        axis("N, parameters", log=True),
        axis("D, tokens", log=True),
    )


def _hover(rows: pl.DataFrame) -> list[list[str]]:
    shares = [
        "" if share is None else f"<br>alone makes N*'s interval {share:.0%} narrower"
        for share in rows["sharpens"]
    ]
    costs = [flops(value) for value in rows["flops"]]
    columns = (shorts(rows["n_params"]), shorts(rows["tokens"]), costs, shares)
    return [list(row) for row in zip(*columns, strict=True)]


def _title(data: pl.DataFrame) -> str:
    chosen = data.filter(pl.col("kind") == "next")
    [target] = data.filter(pl.col("kind") == "target")["flops"]
    share = chosen["flops"].sum() / target
    runs = counted(chosen.height, "run")
    return f"{runs} for {share:.2g} of the target's compute, those that sharpen it most"
