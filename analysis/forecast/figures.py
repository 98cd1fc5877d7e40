"""Figures of a forecast. Each has a data function, which tests read, and a draw.

Titles say what follows from the picture.
"""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import plotly.graph_objects as go
import polars as pl

from analysis.forecast.answer import Answer, ForecastOptimum
from analysis.forecast.curve import optimal_n
from analysis.forecast.record import Cut, near_frontier
from analysis.law import Array, LossUnit
from analysis.style import INK, MARK, SOFT, WARN, axis, band, error_bars, sizes, styled
from analysis.table.observations import Table
from analysis.words import flops, short, with_unit

# Beyond the last target or run, so that the band is seen to widen.
_MARGIN = 1.5
# E-folds of N to either side of N* that a valley shows at least, and at most.
_VALLEY = (2.0, 5.0)
_POINTS, _VALLEY_POINTS = 80, 61  # of the curves


def path_data(answer: Answer, table: Table) -> pl.DataFrame:
    """Losses over compute: runs, the forecast along its own frontier, and what was asked for.

    Returns:
        kind (`run`, `far_run`, `band`, `target`), flops (6·N·D), n_params, tokens, loss, lower,
        upper; a `far_run` lies more than 15 % above the best of its quarter-decade of compute.
    """
    used = table.used
    N, D, loss = (used[c].to_numpy().astype(float) for c in ("n_params", "tokens", "val_loss"))
    near = near_frontier(6 * N * D, loss)
    kind = np.where(near, "run", "far_run")
    nothing = np.full(len(N), np.nan)
    frames = [_frame(kind, N, D, (loss, nothing, nothing))]
    low, high = answer.data.flops
    budgets = [p.flops for p in answer.points] + [each.best.flops for each in answer.optimum]
    half = np.log(np.geomspace(min(low, *budgets), _MARGIN * max(high, *budgets), _POINTS) / 6)
    learnt = answer.posterior
    sizes = optimal_n(learnt.phi, half, learnt.reference)
    N, D = np.exp(sizes), np.exp(half - sizes)
    frames.append(_frame(np.full(_POINTS, "band"), N, D, learnt.predict(N, D).losses(answer.level)))
    for point in answer.points:
        frames.append(_one(point.n_params, point.tokens, point.loss, (point.lower, point.upper)))
    for each in answer.optimum:
        best = each.best
        frames.append(_one(best.n_opt, best.d_opt, best.loss, best.loss_interval))
    return pl.concat(frames)


def draw_path(data: pl.DataFrame, answer: Answer) -> go.Figure:
    """Runs and forecast over compute, with the interval as a band."""
    figure = go.Figure()
    path = data.filter(pl.col("kind") == "band")
    percent = f"{answer.level:.0%} interval"
    figure.add_scatter(**band(path["flops"], path["lower"], path["upper"], MARK, percent))
    figure.add_scatter(
        x=path["flops"], y=path["loss"], mode="lines", line={"color": MARK}, text=sizes(path),
        name="forecast at its best N and D",
        hovertemplate="%{text}<br>forecast %{y:.4f}<extra></extra>",
    )  # fmt: skip
    for kind, name, colour in (
        ("far_run", "runs far above the frontier", SOFT),
        ("run", "runs", INK),
    ):
        runs = data.filter(pl.col("kind") == kind)
        if runs.height:
            figure.add_scatter(
                x=runs["flops"], y=runs["loss"], mode="markers", name=name, text=sizes(runs),
                marker={"color": colour, "size": 5, "opacity": 0.35 if kind == "far_run" else 0.8},
                hovertemplate="%{text}<br>observed %{y:.4f}<extra></extra>",
            )  # fmt: skip
    target = data.filter(pl.col("kind") == "target")
    bars = error_bars(WARN, *target.select("loss", "lower", "upper"))
    figure.add_scatter(
        x=target["flops"], y=target["loss"], mode="markers", name="asked for", error_y=bars,
        marker={"color": WARN, "symbol": "diamond", "size": 9}, text=sizes(target),
        hovertemplate="%{text}<br>forecast %{y:.4f}<extra></extra>",
    )  # fmt: skip
    last = target.sort("flops").row(-1, named=True)
    title = (
        f"At {flops(last['flops'])} FLOPs the loss is foretold at {last['loss']:.4f}, between "
        f"{last['lower']:.4f} and {last['upper']:.4f}"
    )
    figure.update_yaxes(range=np.log10(_reach(data)))
    loss = with_unit("loss", answer.law.loss_unit)
    return styled(figure, title, axis("C = 6ND, FLOPs", log=True, flops=True), axis(loss, log=True))


def valley_data(answer: Answer, each: ForecastOptimum) -> pl.DataFrame:
    """The forecast along a budget: n_params, tokens, loss, lower, upper."""
    best = each.best
    wide = np.log(best.n_interval[1] / best.n_opt) + 0.5
    reach = float(np.clip(wide, *_VALLEY))
    N = best.n_opt * np.exp(np.linspace(-reach, reach, _VALLEY_POINTS))
    D = best.flops / 6 / N
    losses = answer.posterior.predict(N, D).losses(answer.level)
    return _frame(np.full(_VALLEY_POINTS, "band"), N, D, losses).drop("kind")


def draw_valley(
    data: pl.DataFrame, each: ForecastOptimum, level: float, unit: LossUnit = "unknown"
) -> go.Figure:
    """The valley of a budget with N*, its interval, and the N* of other methods."""
    best, figure = each.best, go.Figure()
    name = f"{level:.0%} interval of the loss"
    figure.add_scatter(**band(data["n_params"], data["lower"], data["upper"], MARK, name))
    figure.add_scatter(
        x=data["n_params"], y=data["loss"], mode="lines", line={"color": MARK}, name="forecast",
        text=sizes(data), hovertemplate="%{text}<br>forecast %{y:.4f}<extra></extra>",
    )  # fmt: skip
    low, high = best.n_interval
    bars = error_bars(WARN, [best.n_opt], [low], [high])
    figure.add_scatter(
        x=[best.n_opt], y=[best.loss], mode="markers", name="N* and its interval", error_x=bars,
        marker={"color": WARN, "symbol": "diamond", "size": 10}, text=[short(best.n_opt)],
        hovertemplate="N* = %{text}<extra></extra>",
    )  # fmt: skip
    bottom, top = data["lower"].min(), data["upper"].max()
    first, last = data["n_params"][0], data["n_params"][-1]
    for other, dash in zip(each.others, ("dot", "dash", "dashdot"), strict=False):
        shown = first <= other.n_opt <= last
        side = "" if shown else f", {'left' if other.n_opt < first else 'right'} of this figure"
        figure.add_scatter(
            # Without a point the legend still has its line.
            x=[other.n_opt, other.n_opt] if shown else [None], y=[bottom, top] if shown else [None],
            mode="lines", line={"color": SOFT, "dash": dash},
            name=f"{other.name}: {short(other.n_opt)}{side}",
            hovertemplate=f"{other.name}: N* = {short(other.n_opt)}<extra></extra>",
        )  # fmt: skip
    title = (
        f"At {flops(best.flops)} FLOPs N* is {short(best.n_opt)}, between {short(low)} and "
        f"{short(high)}"
    )
    return styled(figure, title, axis("N, parameters", log=True), axis(with_unit("loss", unit)))


def record_data(cuts: Sequence[Cut]) -> pl.DataFrame:
    """One row for each cut and method: cut, rows, method and its scores."""
    rows = [
        {"cut": f"Cmax/{cut.factor}", "rows": cut.rows, "method": name, **asdict(score)}
        for cut in cuts
        for name, score in (("forecast", cut.forecast), ("approach 3", cut.approach_3))
        if score is not None
    ]
    return pl.DataFrame(rows)


def draw_record(data: pl.DataFrame, level: float) -> go.Figure:
    """The Winkler score of both methods at each cut, with the share of runs inside."""
    figure = go.Figure()
    for method, colour in (("forecast", MARK), ("approach 3", SOFT)):
        part = data.filter(pl.col("method") == method)
        if part.height:
            figure.add_bar(
                x=part["cut"], y=part["winkler"], name=method, marker={"color": colour},
                text=[f"{share:.0%} inside" for share in part["coverage"]],
                customdata=np.stack([part["rows"], part["error_percent"]], axis=1),
                hovertemplate=method + ": %{text} of %{customdata[0]} runs<br>mean error "
                "%{customdata[1]:.2f} %, Winkler score %{y:.1f}<extra></extra>",
            )  # fmt: skip
    own = data.filter(pl.col("method") == "forecast")
    inside = float((own["coverage"] * own["rows"]).sum())
    title = (
        f"{inside:.0f} of {own['rows'].sum()} forecasts of this table held in their {level:.0%} "
        "intervals"
    )
    return styled(
        figure,
        title,
        axis("largest compute learnt from") | {"type": "category"},
        axis("Winkler score, % of the loss; less is better"),
    )


def _one(N: float, D: float, loss: float, ends: tuple[float, float]) -> pl.DataFrame:
    values = [np.array([value]) for value in (N, D, loss, *ends)]
    return _frame(np.array(["target"]), values[0], values[1], (values[2], values[3], values[4]))


def _frame(
    kind: np.ndarray, N: Array, D: Array, losses: tuple[Array, Array, Array]
) -> pl.DataFrame:
    loss, lower, upper = losses
    frame = pl.DataFrame(
        {"kind": kind, "flops": 6 * N * D, "n_params": N, "tokens": D, "loss": loss,
         "lower": lower, "upper": upper},
        schema_overrides={"kind": pl.String},
    )  # fmt: skip
    return frame.with_columns(pl.col("lower", "upper").fill_nan(None))


def _reach(data: pl.DataFrame) -> tuple[float, float]:
    """Losses from below the band to above the runs near the frontier."""
    shown = data.filter(pl.col("kind") != "far_run")
    low, high = shown["lower"].min(), shown["loss"].max()
    assert isinstance(low, float)
    assert isinstance(high, float)
    return low / 1.02, high * 1.05
