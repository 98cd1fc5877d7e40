"""Figures of mixtures say what their data hold."""

import json
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from analysis.law import LossUnit
from analysis.mixtures.answer import Answer, mix
from analysis.mixtures.document import mix_json
from analysis.mixtures.figures import (
    contrasts,
    draw_all,
    draw_effects,
    draw_mixtures,
    effects_data,
    effects_width,
    mixtures_data,
    predictions_data,
    recommended_data,
)
from analysis.mixtures.page import mix_page
from analysis.mixtures.question import Question
from analysis.mixtures.rows import read_mixtures
from analysis.mixtures.text import answer_lines
from analysis.page import markup
from analysis.table.files import Contents

SOURCES = ("web", "code", "wiki")


@pytest.fixture(scope="module")
def answer() -> Answer:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(3), 24)
    # Each source lowers its own loss most.
    losses = 2 + np.exp(-shares @ (np.eye(3) + 0.1).T) * np.exp(0.002 * rng.normal(size=(24, 3)))
    frame = pl.DataFrame(
        {f"share_{name}": shares[:, j] for j, name in enumerate(SOURCES)}
        | {f"loss_{name}": losses[:, j] for j, name in enumerate(SOURCES)}
    )
    question = Question(stock={"web": 1e9, "code": 1e9, "wiki": 2e9}, tokens=1e9, draws=20)
    return mix(read_mixtures(Contents(frame), mapping={}), question)


def test_data_of_figures_are_those_of_the_answer(answer: Answer) -> None:
    tried = mixtures_data(answer)
    assert tried["kind"].value_counts(sort=True).rows() == [("tried", 24), ("best", 1)]
    assert tried["loss"][-1] == answer.best.pooled.value
    effects = effects_data(answer)
    own = effects.filter(pl.col("source") == pl.col("loss"))
    assert (own["upper"] < 0).all()
    held_out = predictions_data(answer).filter(pl.col("loss") == "target")
    assert np.allclose(held_out["observed"], answer.table.losses.mean(axis=1))
    beside = recommended_data(answer)
    assert beside["natural"].to_list() == [0.25, 0.25, 0.5]
    # LLaMA's CommonCrawl, Github and Wikipedia under other names.
    assert beside["llama"].to_list() == [0.67, 0.045, 0.045]


def test_the_numbers_of_effects_do_not_touch_on_a_phone(answer: Answer) -> None:
    [drawn] = draw_effects(effects_data(answer), "unknown").data
    longest = max(len(re.sub("<.*?>", "", text)) for row in drawn.text for text in row)
    # A digit of 10 pixels' height is some 6 wide.
    assert 6 * longest * len(answer.table.targets) < effects_width(answer)
    parts = mix_page(answer, title="mine").figures
    assert f"min-width:{effects_width(answer)}px" in markup(parts["effects"])
    # Three losses fit beside each other, the triangle does not.
    kinds = [parts[name].kind for name in ("effects", "mixtures")]
    assert kinds == ["scroll", "scroll sideways"]


def test_titles_state_what_the_figures_show(answer: Answer) -> None:
    figures = {name: figure for name, figure, *_ in draw_all(answer)}
    titles = {name: figure.layout.title.text for name, figure in figures.items()}
    largest = recommended_data(answer).sort("best")["source"][-1]
    assert f"{answer.best.shares.max():.2f} {largest}" in titles["best-mixture"]
    assert f"{answer.best.pooled.value:.4g}" in titles["mixtures"]
    # Names of sources on a linear axis leave a heat map empty.
    assert figures["effects"].layout.xaxis.type == "category"
    assert figures["effects"].layout.yaxis.type == "category"
    assert json.loads(figures["effects"].to_json())["data"][0]["y"] == list(SOURCES)
    assert f"{answer.score.pooled_rank:.3f}" in titles["predictions"]


@pytest.mark.parametrize("unit", ["nats_per_token", "bits_per_byte", "unknown"])
def test_the_unit_of_losses_is_named_on_axes_and_in_tables_or_called_unknown(
    answer: Answer, unit: LossUnit
) -> None:
    answer = replace(answer, table=replace(answer.table, loss_unit=unit))
    words = "" if unit == "unknown" else f", {unit.replace('_', ' ')}"
    figures = {name: figure for name, figure, *_ in draw_all(answer)}
    assert figures["predictions"].layout.xaxis.title.text == f"loss measured{words}"
    assert figures["predictions"].layout.yaxis.title.text == f"loss predicted{words}"
    bar = figures["mixtures"].data[0].marker.colorbar.title.text
    assert bar.replace("<br>", " ") == f"loss{words}"
    title = figures["effects"].layout.title.text
    assert re.search(rf" by [-+.0-9e]+{words.replace(',', '')} \(\?", title)
    text = "\n".join(answer_lines(answer))
    assert f">at the best{words}</th>" in mix_page(answer, title="mine").html()
    assert ("unit is unknown" in text) == (unit == "unknown")
    assert mix_json(answer)["loss_unit"] == unit


def test_many_sources_are_shown_by_their_contrast_and_the_others_are_counted() -> None:
    rng = np.random.default_rng(1)
    shares = rng.dirichlet(np.ones(10), 60)
    data = pl.DataFrame({f"s{j}": shares[:, j] for j in range(10)}).with_columns(
        kind=pl.lit("tried"), loss=3 - pl.col("s4")
    )
    contrast = contrasts(data)
    # The loss falls with s4 alone.
    assert contrast["source"][0] == "s4"
    assert contrast["low"][0] > contrast["every"][0]
    figure = draw_mixtures(data, "loss of code", "bits_per_byte")
    assert len(figure.data[0].dimensions) == 8
    assert figure.data[0].dimensions[-1].label == "loss, bits per byte"
    assert "3 sources that differ less" in figure.layout.title.text
    assert f"{contrast['low'][0]:.2f} of s4" in figure.layout.title.text


def test_a_best_mixture_above_the_best_tried_is_called_higher(answer: Answer) -> None:
    worse = replace(answer.gain, value=-0.024, lower=-0.03, upper=-0.01)
    page = mix_page(replace(answer, gain=worse), title="Mixtures")
    text = next(part.text for part in page.parts if getattr(part, "role", "") == "lead")
    assert "a loss higher by 0.024 [0.01, 0.03]" in text
