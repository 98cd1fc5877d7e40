"""Figures of repeated data say what their data hold."""

import numpy as np
import polars as pl
import pytest

from analysis.fit.answer import fit_table
from analysis.fit.page import fit_page
from analysis.law import RepeatedForm
from analysis.repeated_data import repeated_loss
from analysis.repetition.answer import RepeatedFit, fit_repeated
from analysis.repetition.figures import draw_all, epochs_data, held_out_data
from analysis.table.columns import normalise
from analysis.table.repeats import leave_out_repeats
from tests.simulated import options, repeated_law, repeated_table


def _fit(frame: pl.DataFrame) -> RepeatedFit:
    table = leave_out_repeats(normalise(frame))
    fit = fit_repeated(table, bootstrap=0, seed=0, level=0.9, source="made up")
    assert fit is not None
    return fit


def _parts_read_longer(form: RepeatedForm) -> pl.DataFrame:
    """Runs on all text, and on one part of it to ever more tokens."""
    fresh = repeated_table(repeated_law(form), (1,))
    N, times = (axis.ravel() for axis in np.meshgrid([5e7, 3e8, 2e9], [2.0, 4.0, 8.0, 16.0, 32.0]))
    U = np.full(N.shape, 3e9)
    loss = repeated_loss(repeated_law(form), N, times * U, U)
    parts = {"n_params": N, "tokens": times * U, "unique_tokens": U, "val_loss": loss}
    return pl.concat([fresh, pl.DataFrame(parts)])


def test_the_longest_series_lies_on_the_line_of_the_form_that_made_it() -> None:
    fit = _fit(_parts_read_longer("penalty"))
    data = epochs_data(fit)
    runs, line, fresh = (
        data.filter(pl.col("kind") == kind)
        for kind in ("measured", "penalty", "as many fresh tokens")
    )
    # The largest size, on the part that is read most often.
    assert runs["epochs"].to_list() == pytest.approx([2, 4, 8, 16, 32])
    assert (runs["tokens"] / runs["epochs"]).to_list() == pytest.approx([3e9] * 5)
    assert runs["n_params"].unique().to_list() == [2e9]
    # Without noise; the line is drawn in 80 steps.
    at = np.interp(np.log(runs["epochs"]), np.log(line["epochs"]), line["loss"])
    assert at == pytest.approx(runs["loss"].to_numpy(), rel=2e-3)
    assert fresh["loss"][0] == pytest.approx(line["loss"][0])
    assert fresh["loss"][-1] < line["loss"][-1]
    assert line["epochs"].to_numpy().max() == pytest.approx(48)


def test_runs_of_one_length_on_ever_smaller_parts_are_a_series_too() -> None:
    table = repeated_table(repeated_law("half_lives"), (1, 2, 4, 16))
    fit = _fit(table.with_columns(loss_unit=pl.lit("nats")))
    data = epochs_data(fit)
    runs = data.filter(pl.col("kind") == "measured")
    assert runs["tokens"].n_unique() == 1
    assert runs["epochs"].to_list() == pytest.approx([1, 2, 4, 16])
    figures = {name: figure for name, figure, _ in draw_all(fit)}
    assert figures["epochs"].layout.yaxis.title.text == "loss, nats per token"
    assert figures["held-out"].layout.xaxis.title.text == "loss measured, nats per token"
    assert "(N = 2B, D = " in figures["epochs"].layout.title.text
    # The form chosen is drawn last of the lines, above the others.
    assert figures["epochs"].data[-2].name == "half-lives (Muennighoff et al. 2023)"


def test_rows_held_out_are_as_far_off_as_the_choice_says() -> None:
    fit = _fit(repeated_table(repeated_law("penalty"), (1, 2, 4, 16), noise=0.003))
    assert fit.choice is not None
    data = held_out_data(fit)
    for score in (*fit.choice.scores, fit.choice.fresh):
        rows = data.filter(pl.col("form") == score.form.words)
        errors = np.log(rows["predicted"] / rows["observed"])
        assert 100 * np.sqrt((errors**2).mean()) == pytest.approx(score.percent)
        assert set(rows["observed"]) <= set(fit.used["val_loss"])
    figure = {name: figure for name, figure, _ in draw_all(fit)}["held-out"]
    assert f"{fit.choice.chosen.percent:.2g} % (rms)" in figure.layout.title.text


def test_a_page_of_repeats_has_their_figures_and_one_without_a_choice_has_none() -> None:
    frame = repeated_table(repeated_law("penalty"), (1, 4, 16), noise=0.002)
    groups = fit_table(normalise(frame), options())
    names = set(fit_page(groups, title="Fit").figures)
    assert {"fit0-epochs", "fit0-held-out", "fit0-fit"} <= names
    few = frame.filter(pl.col("tokens") == pl.col("unique_tokens")).vstack(frame[1:6:2])
    fit = _fit(few)
    assert fit.choice is None
    assert list(draw_all(fit)) == []
    assert epochs_data(fit).is_empty()
    assert held_out_data(fit).is_empty()
