"""The record cuts a table below its largest compute and scores the runs near the frontier."""

import numpy as np
import pytest

from analysis.forecast.record import near_frontier, record, score
from analysis.table.columns import normalise
from tests.simulated import isoflops, table


def test_a_score_is_that_of_gneiting_and_raftery():
    found = score(np.exp([0.0, 0.3]), np.zeros(2), np.full(2, 0.1), 0.9)
    half = 1.6448536269514722 * 0.1
    assert found.coverage == 0.5
    assert found.error_percent == pytest.approx(15)
    assert found.width_percent == pytest.approx(200 * half)
    assert found.winkler == pytest.approx(100 * (2 * half + 20 * (0.3 - half) / 2))


def test_runs_within_15_percent_of_their_quarter_decade_s_best_are_near():
    C, loss = np.array([1e20, 1.1e20, 1e22]), np.array([3.0, 3.5, 9.0])
    assert near_frontier(C, loss).tolist() == [True, False, True]


def test_each_cut_foretells_the_runs_above_from_those_below():
    # Budgets lie a factor 4 apart, so that a third cuts as a half does, and a tenth as a fifth.
    runs = normalise(table(*isoflops(budgets=6), noise=0.003))
    cuts = record(runs, "gamma", 0.9)
    assert [cut.factor for cut in cuts] == [2, 5]
    assert [cut.learnt for cut in cuts] == [35, 28]
    C = runs.used["flops_6nd"].to_numpy()
    for cut in cuts:
        assert cut.learnt == (C.max() / cut.factor > C).sum()
        assert 0 < cut.rows <= 42 - cut.learnt
        assert cut.forecast.error_percent < 1.5
        assert cut.approach_3 is not None
        assert 0 < cut.approach_3.error_percent < 3
        # Of a run's loss, so no narrower than the runs scatter, of which constants take a part.
        assert cut.approach_3.width_percent > 100 * 0.003 * 2 * 1.645 * 0.85


def test_a_table_with_too_few_runs_below_has_no_record():
    assert record(normalise(table(*isoflops(budgets=2, sizes=6))), "gamma", 0.9) == ()
