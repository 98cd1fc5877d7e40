"""Laws are chosen by errors on whole mixtures held out, the simpler of two that do as well."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from analysis.mixtures.choice import CrossValidation, chosen, cross_validate, rank_correlation
from analysis.mixtures.rows import Mixtures, read_mixtures
from analysis.table.files import described
from analysis.table.observations import TableError
from tests.unit.analysis.mixtures.simulated import SOURCES, simulated

EVEN = np.full(3, 1 / 3)


def read(frame: pl.DataFrame) -> Mixtures:
    return read_mixtures(described(frame), mapping={})


@pytest.fixture(scope="module")
def scores() -> list[CrossValidation]:
    return cross_validate(read(simulated(20)), EVEN)


def test_rank_correlation_is_spearmans_and_none_where_either_is_constant() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 9, 30) / 2, rng.integers(0, 9, 30) / 2
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic)
    same = np.ones(30)
    assert np.isnan([rank_correlation(first, same), rank_correlation(same, second)]).all()


@pytest.mark.parametrize(("worse", "place"), [(0.9, 0), (1.1, 1)])
def test_a_simpler_law_within_a_standard_error_of_the_best_is_chosen(
    scores: list[CrossValidation], worse: float, place: int
) -> None:
    best = np.zeros(100)
    simple = np.tile([-1.0, 1.0], 50)  # of standard error 0.1 about its mean
    rivals = [
        replace(scores[0], error=error) for error in (simple + 0.1 * worse, best, best + 1e-9)
    ]
    assert chosen(rivals) is rivals[place]


def test_repeats_of_a_mixture_are_held_out_with_it() -> None:
    few = simulated(10, noise=0)
    rng = np.random.default_rng(6)
    # Losses that no share foretells, four rows of each mixture: its own would give them away.
    drawn = few.with_columns(pl.Series(f"loss_{name}", 2 + rng.random(10)) for name in SOURCES)
    repeats = read(pl.concat([drawn] * 4))
    assert all(score.pooled_r2 < 0.3 for score in cross_validate(repeats, EVEN))


def test_errors_and_ranks_are_those_of_the_losses_held_out(scores: list[CrossValidation]) -> None:
    losses = read(simulated(20)).losses
    for score in scores:
        predicted = np.exp(score.log_losses)
        ranks = [spearmanr(predicted[:, j], losses[:, j]).statistic for j in range(3)]
        assert score.rank == pytest.approx(ranks)
        error = (np.log(losses) - score.log_losses) ** 2 / np.log(losses).var(axis=0)
        assert score.error == pytest.approx(error.mean(axis=1))
        target, guess = losses.mean(axis=1), predicted.mean(axis=1)
        r2 = 1 - ((guess - target) ** 2).mean() / target.var()
        assert score.pooled_r2 == pytest.approx(r2)


def test_fewer_than_eight_different_mixtures_are_refused_however_many_rows() -> None:
    few = simulated(7)
    with pytest.raises(
        TableError, match="need 8 different mixtures or more; the table has 7 in 21"
    ):
        cross_validate(read(pl.concat([few] * 3)), EVEN)
    assert cross_validate(read(simulated(8)), EVEN)
