"""The law of two tables together: its slopes, what it recovers, and what is drawn with what."""

import numpy as np
import polars as pl
import pytest

from analysis.compare import pair_fit
from analysis.compare.pair_fit import BASE, VARIANT, Rows
from analysis.compare.pairing import pair_rows
from tests.pairs_of_tables import BUDGETS, SIZES, SLOPE, E, loss


def rows_of(multiplier=1.2):
    N, C = (grid.ravel() for grid in np.meshgrid(SIZES, BUDGETS, indexing="ij"))
    z = np.log(C) - np.log(C).mean()
    losses = np.concatenate([loss(N, C), loss(N, C, multiplier)])
    return Rows(np.tile(np.log(N), 2), np.tile(z, 2), losses, np.repeat([False, True], len(N)))


@pytest.mark.parametrize("valley", [True, False])
def test_slopes_are_those_of_finite_differences(valley):
    design = pair_fit.design(asymptote=None, shared=False, valley=valley, own_slope=True)
    theta = np.array([1.7, 0.2, 0.2, 15.5, 1.8, 0.1, 0.25, 15.2, 0.45 if valley else 0.5])
    rows = rows_of()
    _, slopes = pair_fit.predict(theta[None], rows, design)
    for column, tie in enumerate(design.ties.T):
        ends = [pair_fit.predict((theta + s * 1e-6 * tie)[None], rows, design)[0] for s in (1, -1)]
        # Central differences of step 1e-6 are good to some 1e-9.
        assert slopes[0, :, column] == pytest.approx((ends[0] - ends[1])[0] / 2e-6, abs=1e-7)


@pytest.mark.parametrize(("shared", "given"), [(True, None), (False, None), (True, E)])
def test_the_law_of_two_tables_is_recovered(shared, given):
    design = pair_fit.design(asymptote=given, shared=shared, valley=True, own_slope=True)
    theta = pair_fit.fit(rows_of(), design)
    for place in (BASE, VARIANT):
        # Without noise nothing but the solver's tolerance is left.
        assert theta[place["E"]] == pytest.approx(E, abs=1e-4)
        assert theta[place["b"]] == pytest.approx(SLOPE, rel=1e-3)
    assert theta[pair_fit.A] == pytest.approx(0.5, abs=1e-3)
    level = theta[BASE["k"]] - theta[VARIANT["k"]]
    assert level == pytest.approx(SLOPE * np.log(1.2), rel=1e-2)


def test_residuals_of_few_trainings_are_freed_as_by_a_jackknife_where_each_table_has_its_own_E():
    own, shared = (
        pair_fit.design(asymptote=None, shared=shared, valley=True) for shared in (False, True)
    )
    by_size = np.tile(np.repeat(np.arange(len(SIZES)), len(BUDGETS)), 2)
    assert own.free > len(SIZES)
    assert pair_fit._power(own, by_size) == -1.0
    assert pair_fit._power(shared, by_size) == -0.5
    assert pair_fit._power(own, np.arange(len(by_size))) == -0.5
    loss, slopes = pair_fit.predict(pair_fit.fit(rows_of(), own)[None], rows_of(), own)
    jacobian = slopes[0] / loss[0][:, None]
    halves, wholes = (pair_fit.adjustments(jacobian, by_size, power) for power in (-0.5, -1.0))
    for (members, half), (others, whole) in zip(halves, wholes, strict=True):
        assert members.tolist() == others.tolist()
        assert whole == pytest.approx(half @ half, rel=1e-6, abs=1e-9)


def frame(sizes, seeds, trainings=None):
    columns = {"row": range(len(sizes)), "n_params": sizes, "seed": seeds}
    if trainings is not None:
        columns["parent_run_id"] = trainings
    return pl.DataFrame(columns)


def test_rows_pair_by_size_compute_and_seed_nearest_first_and_once():
    first = frame([1e6, 2e6, 4e6, 4e6], [0, 0, 0, 1])
    second = frame([4.1e6, 1.1e6, 1.05e6, 3e6], [1, 0, 0, 0])
    paired = pair_rows(first, second, (np.zeros(4), np.zeros(4)))
    assert paired.pairs.tolist() == [[0, 2], [3, 0]]
    # Rows without a partner are drawn alone.
    assert len(set(paired.clusters.tolist())) == 6


def test_horizons_of_matched_trainings_are_drawn_together():
    first = frame([1e6] * 2 + [2e6] * 2, [0] * 4, ["a", "a", "b", "b"])
    second = frame([1e6] * 2 + [2e6] * 2, [0] * 4, ["c", "c", "d", "d"])
    C = np.array([0.0, 1.0, 0.0, 1.0])
    paired = pair_rows(first, second, (C, C))
    assert paired.pairs.tolist() == [[k, k] for k in range(4)]
    assert paired.clusters.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
