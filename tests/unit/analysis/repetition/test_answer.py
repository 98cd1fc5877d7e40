"""Tables of runs that repeat their tokens: which form they choose, and with which constants."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from analysis.fit.answer import fit_table
from analysis.fit.document import group_json
from analysis.fit.text import group_lines
from analysis.law import REPEATED_CONSTANTS, LossLaw, RepeatedForm, RepeatedLaw
from analysis.repeated_data import excess, repeated_loss
from analysis.repetition.answer import RepeatedFit, doubts_about, fit_repeated
from analysis.repetition.text import repeated_lines
from analysis.table.columns import normalise
from analysis.table.observations import Table
from analysis.table.repeats import REPEATS, epochs, leave_out_repeats, with_repeats
from tests.simulated import options, repeated_law, repeated_table


def _fit(frame: pl.DataFrame, bootstrap: int = 0) -> RepeatedFit | None:
    table = leave_out_repeats(normalise(frame))
    return fit_repeated(table, bootstrap=bootstrap, seed=0, level=0.9, source="made up")


def _words(fit: RepeatedFit) -> str:
    return " ".join(" ".join(repeated_lines(fit, 80)).split())


@pytest.mark.parametrize("form", REPEATED_CONSTANTS)
def test_each_form_is_chosen_and_recovered_from_its_own_runs(form: RepeatedForm) -> None:
    law = repeated_law(form)
    fit = _fit(repeated_table(law))
    assert fit is not None
    assert fit.law is not None
    assert fit.choice is not None
    assert fit.law.form == form
    assert fit.warnings == ()
    # Without noise the search ends at the constants themselves.
    assert fit.law.constants == pytest.approx(law.constants, rel=1e-3)
    assert fit.choice.chosen.percent < 1 < fit.choice.fresh.percent
    assert (
        fit.fitted_percent[form]
        < 0.01
        < min(percent for other, percent in fit.fitted_percent.items() if other != form)
    )


def test_intervals_hold_the_true_cost_of_epochs_under_noise() -> None:
    law = repeated_law("penalty")
    fit = _fit(repeated_table(law, noise=0.003), bootstrap=40)
    assert fit is not None
    assert fit.law is not None
    assert fit.law.form == "penalty"
    assert [cost.epochs for cost in fit.costs] == [2, 4, 8, 16]
    for cost in fit.costs:
        N, U, D = (np.asarray(v) for v in (cost.n_params, cost.unique_tokens, 0.0))
        D = cost.epochs * U
        assert cost.interval is not None
        low, high = cost.interval
        # Intervals of 90 % miss one in ten; twice their width misses none of these.
        reach = high - low
        assert low - reach / 2 < float(excess(law, N, D, U)) < high + reach / 2
    assert "additive penalty" in _words(fit)
    # A form that misses more than noise on rows held out is called poor before anything else.
    assert fit.choice is not None
    scores = tuple(replace(each, errors=30 * each.errors) for each in fit.choice.scores)
    fresh = replace(fit.choice.fresh, errors=30 * fit.choice.fresh.errors)
    poor = doubts_about(replace(fit.choice, scores=scores, fresh=fresh))
    assert poor[0].startswith("POOR (repeated data): the form chosen, additive penalty")
    assert fit.warnings == fit.law.doubts == doubts_about(fit.choice)


def test_a_table_without_repeats_has_no_such_section_and_the_same_law() -> None:
    frame = repeated_table(repeated_law("penalty"), (1,), noise=0.002)
    assert _fit(frame) is None
    [group], [bare] = (
        fit_table(normalise(each), options()) for each in (frame, frame.drop("unique_tokens"))
    )
    assert group.fit.law == bare.fit.law
    assert json.dumps(group_json(group)["loss_law"]) == json.dumps(group_json(bare)["loss_law"])
    assert "repeated" not in group_json(group)
    # Counts rounded to whole windows are no repetition.
    assert epochs(frame.with_columns(pl.col("unique_tokens") * 0.99)) is None


def test_the_law_of_fresh_tokens_leaves_out_rows_that_repeat_and_says_so() -> None:
    frame = repeated_table(repeated_law("penalty"), (1, 3, 9), noise=0.002)
    alone = repeated_table(repeated_law("penalty"), (1, 3, 9), noise=0.002)
    alone = alone.filter(pl.col("tokens") == pl.col("unique_tokens")).drop("unique_tokens")
    [group], [fresh] = (fit_table(normalise(each), options()) for each in (frame, alone))
    assert group.fit.law.model_copy(update={"repeated": None}) == fresh.fit.law
    assert [row.reason for row in group.fit.rows_excluded] == [REPEATS] * 24
    assert f"left out 24 rows: {REPEATS}" in "\n".join(group_lines(group))
    assert group.repeated is not None
    assert group.repeated.repeating == 24
    # The law keeps what its runs say of repeats, in its file too.
    law = group.fit.law
    assert law.repeated is not None
    assert LossLaw.model_validate_json(law.model_dump_json()) == law
    assert "repeated" not in fresh.fit.law.model_dump_json()


def test_too_few_rows_that_repeat_choose_no_form_and_the_first_line_says_so() -> None:
    frame = repeated_table(repeated_law("penalty"), (1, 4))
    few = frame.filter(pl.col("tokens") == pl.col("unique_tokens")).vstack(frame[1:6:2])
    [group] = fit_table(normalise(few), options())
    first = " ".join(group_lines(group))
    assert first.startswith("NO LAW OF REPEATED DATA: 3 of 15 rows repeat their tokens")
    assert group.fit.law.repeated is None
    assert group_json(group)["repeated"]["law"] is None


def test_repetition_that_costs_nothing_chooses_no_form() -> None:
    frame = repeated_table(repeated_law("penalty"), (1,), noise=0.003)
    same = frame.with_columns(pl.col("unique_tokens") / 4, val_loss=pl.col("val_loss") * 1.001)
    fit = _fit(pl.concat([frame, same, frame.with_columns(pl.col("unique_tokens") / 2)]))
    assert fit is not None
    assert fit.law is None
    assert "counting every token as fresh predicts" in fit.warnings[0]


def test_few_fresh_rows_leave_the_law_to_all_rows_with_a_doubt() -> None:
    frame = repeated_table(repeated_law("penalty"), (2, 4))
    table = leave_out_repeats(normalise(frame))
    assert table.used.height == frame.height
    assert "24 of 24 rows repeat their tokens, and the law counts all" in table.doubts[-1].sentence


def test_rows_left_out_for_their_repeats_come_back_and_others_do_not() -> None:
    table = normalise(repeated_table(repeated_law("penalty"), (1, 4)))
    reasons = pl.when(pl.col("row") == 1).then(pl.lit("status is failed"))
    table = replace(table, frame=table.frame.with_columns(excluded_reason=reasons))
    left = leave_out_repeats(table)
    assert left.used.height == 12
    assert with_repeats(left).used.height == 23
    assert isinstance(left, Table)


def test_a_column_of_another_meaning_is_no_repetition() -> None:
    frame = repeated_table(repeated_law("penalty"), (1, 4))
    assert epochs(frame.with_columns(unique_tokens=pl.lit(0.4))) is None
    assert epochs(frame.with_columns(unique_tokens=pl.lit("all"))) is None


@pytest.mark.parametrize("form", REPEATED_CONSTANTS)
def test_repetition_costs_nothing_in_the_first_epoch_and_more_with_each(form: RepeatedForm) -> None:
    law = repeated_law(form)
    N, U = np.asarray(1e9), np.asarray(1e9)
    times = np.array([0.5, 1.0, 2.0, 8.0, 64.0])
    costs = excess(law, N, times * U, U)
    assert costs[:2] == pytest.approx([0.0, 0.0], abs=1e-12)
    assert (np.diff(costs[1:]) > 0).all()
    # More unique tokens than are seen change nothing.
    assert repeated_loss(law, N, U / 2, U) == repeated_loss(law, N, U / 2, U / 2)


def test_the_constants_of_a_law_are_those_of_its_form() -> None:
    with pytest.raises(ValueError, match="half_lives has the constants E, A, B"):
        RepeatedLaw(form="half_lives", constants={"E": 1.0}, source="", most_epochs=2)


def test_no_loss_of_a_bounded_law_exceeds_that_of_a_model_without_knowledge() -> None:
    law = repeated_law("bounded")
    loss = repeated_loss(law, np.asarray(1e12), np.asarray(1e9), np.asarray(1e2))
    assert 9.5 < float(loss) < law.constants["L0"]
