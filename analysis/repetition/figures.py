"""Figures of repeated data. Each has a data function, which tests read, and a draw."""

from collections.abc import Iterator

import numpy as np
import plotly.graph_objects as go
import polars as pl

from analysis.law import RepeatedForm
from analysis.repeated_data import repeated_loss
from analysis.repetition.answer import RepeatedFit
from analysis.repetition.forms import FORMS, FRESH
from analysis.style import CATEGORIES, INK, SOFT, axis, diagonal, ends, styled
from analysis.words import short, with_unit

# Sizes and token counts closer than this many digits are one series.
_DIGITS = 3
_BEYOND = 1.5
_OBSERVED = "measured"
_AS_FRESH = "as many fresh tokens"
_WORDS = {str(form.name): form.words for form in FORMS} | {_AS_FRESH: _AS_FRESH}


def epochs_data(fit: RepeatedFit) -> pl.DataFrame:
    """The longest series of runs that differ in their epochs, and what each form has for it.

    A series has one size, and one part of the text that is read ever longer or one number of tokens
    seen of ever smaller parts. Lines of forms go on beyond the runs, to half as many epochs more.

    Returns:
        kind (measured, a form's name, or as many fresh tokens under the form chosen, or under the
        one of least error where none was chosen), n_params, tokens, epochs, loss.
    """
    if fit.choice is None:
        return _rows(_OBSERVED, fit.used).clear()
    rows, fixed = _longest(fit.used)
    N = float(rows["n_params"].to_numpy()[0])
    times = np.geomspace(1, _BEYOND * float(rows["epochs"].to_numpy().max()), 80)
    if fixed == "tokens":
        tokens = np.full(times.shape, float(np.median(rows["tokens"])))
    else:
        tokens = times * float(np.median(rows["tokens"] / rows["epochs"]))
    parts = [_rows(_OBSERVED, rows)]
    line = pl.DataFrame({"n_params": N, "tokens": tokens, "epochs": times})
    size = np.asarray(N)
    for name, law in fit.laws.items():
        losses = repeated_loss(law, size, tokens, tokens / times)
        parts.append(_rows(name, line.with_columns(val_loss=losses)))
    best = fit.laws[_best(fit)]
    fresh = line.with_columns(val_loss=repeated_loss(best, size, tokens, tokens))
    return pl.concat([*parts, _rows(_AS_FRESH, fresh)])


def draw_epochs(data: pl.DataFrame, fit: RepeatedFit) -> go.Figure:
    """Loss against epochs: the runs of one series, and a line a form."""
    runs = data.filter(pl.col("kind") == _OBSERVED)
    N, tokens, times = (runs[name].to_numpy() for name in ("n_params", "tokens", "epochs"))
    figure = go.Figure()
    for name, colour in _colours(fit):
        line = data.filter(pl.col("kind") == name)
        style = {"color": colour, "dash": "dot" if name == _AS_FRESH else "solid"}
        figure.add_scatter(
            x=line["epochs"], y=line["loss"], mode="lines", line=style, name=_WORDS[name],
            hovertemplate="%{x:.3g} epochs: %{y:.4f}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    figure.add_scatter(
        x=runs["epochs"], y=runs["loss"], mode="markers", name=_OBSERVED,
        marker={"color": INK, "size": 8},
        hovertemplate="%{x:.3g} epochs: %{y:.4f}<extra>measured</extra>",
    )  # fmt: skip
    one_length = np.ptp(tokens) < np.ptp(tokens / times)
    of = f"D = {short(tokens[0])}" if one_length else f"U = {short((tokens / times)[0])}"
    first, last = runs.row(0, named=True), runs.row(-1, named=True)
    title = (
        f"Loss goes from {first['loss']:.3g} at {first['epochs']:.2g} epochs to {last['loss']:.3g} "
        f"at {last['epochs']:.2g} (N = {short(N[0])}, {of})"
    )
    # A form that runs away must not flatten the runs.
    low, high = ends(data.filter(pl.col("kind").is_in([_OBSERVED, _best(fit)]))["loss"])
    room = 0.15 * (high - low)
    loss = with_unit("loss", fit.loss_unit)
    doubled = [2**k for k in range(int(np.log2(data["epochs"].to_numpy().max())) + 1)]
    styled(figure, title, axis("epochs", log=True) | {"tickvals": doubled}, axis(loss))
    return figure.update_yaxes(range=[low - room, high + room])


def held_out_data(fit: RepeatedFit) -> pl.DataFrame:
    """Losses of rows held out, as each form and that of fresh tokens foretold them.

    Returns:
        form (its words), observed, predicted; a row for each fold that holds it out.
    """
    choice = fit.choice
    scores = () if choice is None else (*choice.scores, choice.fresh)
    observed = np.zeros(0) if choice is None else choice.observed
    parts = [
        pl.DataFrame(
            {
                "form": score.form.words,
                "observed": observed,
                "predicted": observed * np.exp(score.errors),
            }
        )
        for score in scores
    ]
    schema = {"form": pl.String, "observed": pl.Float64, "predicted": pl.Float64}
    return pl.concat([pl.DataFrame(schema=schema), *parts])


def draw_held_out(data: pl.DataFrame, fit: RepeatedFit) -> go.Figure:
    """Foretold against measured loss of rows held out, a colour a form."""
    assert fit.choice is not None
    figure = go.Figure()
    figure.add_scatter(**diagonal(data["observed"]))
    for name, colour in _colours(fit):
        words = FRESH.words if name == _AS_FRESH else _WORDS[name]
        rows = data.filter(pl.col("form") == words)
        figure.add_scatter(
            x=rows["observed"], y=rows["predicted"], mode="markers", name=words,
            marker={"color": colour, "size": 7, "opacity": 0.75},
            hovertemplate="measured %{x:.4f}, foretold %{y:.4f}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    best, fresh = min(fit.choice.scores, key=lambda each: each.percent), fit.choice.fresh
    shown = best if fit.law is None else fit.choice.chosen
    title = (
        f"Rows held out: {shown.form.words} foretells them to {shown.percent:.2g} % (rms), "
        f"counting every token as fresh to {fresh.percent:.2g} %"
    )
    measured, foretold = (
        with_unit(name, fit.loss_unit) for name in ("loss measured", "loss foretold")
    )
    return styled(figure, title, axis(measured), axis(foretold))


def draw_all(fit: RepeatedFit) -> Iterator[tuple[str, go.Figure, pl.DataFrame]]:
    """Every figure with its name and data, in the order of the page; none without a choice."""
    if fit.choice is None:
        return
    epochs, held_out = epochs_data(fit), held_out_data(fit)
    yield "epochs", draw_epochs(epochs, fit), epochs
    yield "held-out", draw_held_out(held_out, fit), held_out


def _longest(used: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """The series of most epochs, of the largest size where several have as many; what it holds."""
    best: tuple[tuple[int, float, float], pl.DataFrame, str] | None = None
    rows = used.with_columns(unique=pl.col("tokens") / pl.col("epochs"))
    for fixed in ("unique", "tokens"):
        keys = [
            pl.col(name).round_sig_figs(_DIGITS).alias(f"_{name}") for name in ("n_params", fixed)
        ]
        for _, series in rows.group_by(keys, maintain_order=True):
            times = series["epochs"].to_numpy()
            rank = (
                len(np.unique(times)),
                float(times.max()),
                float(series["n_params"].to_numpy()[0]),
            )
            if best is None or rank > best[0]:
                best = rank, series.sort("epochs"), fixed
    assert best is not None
    return best[1], best[2]


def _best(fit: RepeatedFit) -> RepeatedForm:
    """The chosen form; where none was chosen, the form of least error."""
    assert fit.choice is not None
    form = min(fit.choice.scores, key=lambda each: each.percent).form.name
    assert form is not None
    return form if fit.law is None else fit.law.form


def _colours(fit: RepeatedFit) -> list[tuple[str, str]]:
    """Fresh tokens and each form with its colour, the chosen one last and so above the others."""
    names = sorted(fit.laws, key=lambda name: name == _best(fit))
    return [(_AS_FRESH, SOFT), *zip(names, reversed(CATEGORIES[: len(names)]), strict=True)]


def _rows(kind: str, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(
        pl.lit(kind).alias("kind"), "n_params", "tokens", "epochs", pl.col("val_loss").alias("loss")
    ).cast({"n_params": pl.Float64, "tokens": pl.Float64})
