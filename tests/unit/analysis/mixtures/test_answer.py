"""Intervals are as wide as errors on mixtures held out; effects and gain are the law's own."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.mixtures.answer import Answer, mix
from analysis.mixtures.question import Question
from analysis.mixtures.rows import Mixtures, read_mixtures
from analysis.table.files import described
from tests.unit.analysis.mixtures.simulated import simulated


@pytest.fixture(scope="module")
def table() -> Mixtures:
    return read_mixtures(described(simulated(40, noise=0.003)), mapping={})


@pytest.fixture(scope="module")
def answer(table: Mixtures) -> Answer:
    return mix(table, Question(draws=30))


@pytest.mark.parametrize(("level", "rank"), [(0.8, 0.82), (0.99, 1.0)])
def test_an_interval_ends_where_that_share_of_held_out_errors_and_its_own_does(
    table: Mixtures, level: float, rank: float
) -> None:
    answer = mix(table, Question(draws=2, level=level))
    score = answer.score
    errors = np.abs(np.log(table.losses) - score.log_losses) / score.spread
    # A new error is one more among 40: 0.8 of 41 is 0.82 of 40.
    widths = np.quantile(errors, rank, axis=0)
    spread = score.fitted.spread(answer.best.shares[None])[0]
    for loss, width in zip(answer.best.losses, widths * spread, strict=True):
        assert np.log(loss.upper / loss.value) == pytest.approx(width)
        assert np.log(loss.value / loss.lower) == pytest.approx(width)


def test_an_effect_is_the_laws_difference_between_two_mixtures(answer: Answer) -> None:
    assert answer.mean.max() <= 0.4
    assert [effect.source for effect in answer.effects] == list(answer.table.sources)
    for place, effect in enumerate(answer.effects):
        assert effect.factor == 2
        more = answer.mean.copy()
        more[place] *= 2
        others = np.arange(3) != place
        more[others] *= (1 - more[place]) / more[others].sum()
        before, after = np.exp(answer.score.fitted.log_losses(np.stack([answer.mean, more])))
        assert [loss.value for loss in effect.losses] == pytest.approx(list(after - before))
        assert all(loss.lower <= loss.value <= loss.upper for loss in effect.losses)


def test_points_that_are_rows_of_the_table_are_counted_and_new_ones_are_not(
    table: Mixtures,
) -> None:
    def warnings(points: Mixtures) -> str:
        return " ".join(mix(table, Question(draws=2), points).warnings)

    new = replace(table, losses=table.losses * 1.001)
    assert "whose losses" not in warnings(new)
    assert "whose losses" not in warnings(replace(table, losses=np.nan * table.losses))
    three = replace(table, losses=np.vstack([table.losses[:3], new.losses[3:]]))
    assert "3 of 40 points are rows of the table, whose losses" in warnings(three)


def test_a_large_share_is_raised_by_a_quarter(table: Mixtures) -> None:
    much = (table.shares + 2 * np.eye(3)[0]) / 3
    answer = mix(replace(table, shares=much), Question(draws=2))
    assert [effect.factor for effect in answer.effects] == [1.25, 1.25, 1.25]


def test_the_gain_is_from_the_best_mixture_tried_within_the_limits(table: Mixtures) -> None:
    question = Question(stock={"wiki": 1e9}, epochs=1, tokens=4e9, draws=2)
    answer = mix(table, question)
    target = table.losses.mean(axis=1)
    within = table.shares[:, 2] <= 0.25
    assert not within[target.argmin()]
    assert answer.best_tried == int(np.flatnonzero(within)[target[within].argmin()])
    shares = np.stack([table.shares[answer.best_tried], answer.best.shares])
    before, after = np.exp(answer.score.fitted.log_losses(shares)).mean(axis=1)
    assert answer.gain.value == pytest.approx(before - after)
