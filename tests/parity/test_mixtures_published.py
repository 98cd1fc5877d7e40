"""The law of RegMix's 512 mixtures, by its ranks on mixtures held out; needs ISOFLOP_PUBLISHED."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from threadpoolctl import threadpool_limits

from analysis.mixtures.answer import mix
from analysis.mixtures.choice import chosen, cross_validate
from analysis.mixtures.question import Question
from analysis.mixtures.rows import read_mixtures, read_points
from analysis.table.files import Contents, described, read_contents

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    # As `isoflop mix` does: many small solutions, which threads of BLAS only hinder.
    with threadpool_limits(1, "blas"):
        yield


@pytest.fixture
def contents() -> Contents:
    folder = os.environ.get("ISOFLOP_PUBLISHED")
    if not folder:
        pytest.skip("regmix_1m.csv is read from the folder in ISOFLOP_PUBLISHED, which is not set")
    return read_contents(Path(folder) / "published" / "regmix_1m.csv")


def test_the_chosen_law_ranks_mixtures_held_out_of_regmix(contents: Contents) -> None:
    table = read_mixtures(contents, mapping={})
    score = chosen(cross_validate(table, np.full(13, 1 / 13)))
    # Boosted trees reach 0.987 and 0.948 in two minutes, a ridge 0.976 and 0.952.
    assert score.rank.mean() > 0.99
    assert score.pooled_rank > 0.985
    assert score.r2.mean() > 0.975
    # Standard deviations of held-out errors agree with the law's own.
    off = (np.log(table.losses) - score.log_losses) / score.spread
    assert 0.9 < off.std() < 1.1


def test_order_and_choice_of_one_half_of_regmix_carry_over_to_the_other(
    contents: Contents,
) -> None:
    frame = contents.frame.with_row_index("place")
    half = pl.col("place") % 2 == 0
    table = read_mixtures(described(frame.filter(half).drop("place")), mapping={})
    # The others at a level of their own, as of larger models.
    lower = frame.filter(~half).drop("place").with_columns(pl.col("^loss_.*$") * 0.5)
    points = read_points(described(lower.with_columns(params=1e9)), {}, table)
    answer = mix(table, Question(draws=10), points)
    assert answer.measured is not None
    assert answer.measured.choice is not None
    assert answer.measured.pooled is not None
    assert np.mean(list(answer.measured.ranks.values())) > 0.98
    assert answer.measured.pooled > 0.97
    choice = answer.measured.choice
    assert choice.place <= 5
    assert choice.regret < 0.05 * (choice.mean - choice.least)
    assert answer.warnings[0].startswith("the points have N 1B")
