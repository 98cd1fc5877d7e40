"""The same rows under each count of N and C."""

import numpy as np
import polars as pl
import pytest

from analysis.fit.conventions import conventions, count_columns, counted_as, flops_ratio
from analysis.fit.options import DEFAULT
from analysis.table.columns import normalise
from analysis.table.observations import Table
from tests.simulated import CHINCHILLA, grid, table, weighed


def _counted(k: float, s: float) -> Table:
    """Noise-free rows whose FLOPs are k·N^(1 + s)·D."""
    N, D = grid()
    return normalise(table(N, D).with_columns(train_flops=k * N ** (1 + s) * D))


@pytest.mark.parametrize(("k", "s"), [(6.0, 0.1), (60.0, -0.08), (9.0, 0.0)])
def test_the_optimum_under_counted_flops_is_the_least_loss_on_their_own_budget_line(
    k: float, s: float
) -> None:
    runs = _counted(k, s)
    six, counted = conventions(runs, DEFAULT)
    assert (six.c_counts, counted.c_counts) == ("flops_6nd", "train_flops")
    flops = runs.frame["train_flops"].max()
    assert six.flops == counted.flops == flops
    N = np.geomspace(1e6, 1e13, 400_001)
    D = flops / (k * N ** (1 + s))
    best = int(np.argmin(CHINCHILLA.loss(N, D)))
    # The search has 20,001 sizes over e^24.6: steps of 0.12 %.
    assert counted.n_opt == pytest.approx(N[best], rel=2e-3)
    assert counted.tokens_per_param == pytest.approx(D[best] / N[best], rel=5e-3)
    alpha, beta = CHINCHILLA.alpha, CHINCHILLA.beta
    # Noise-free rows give the law back to 1e-6.
    assert counted.exponent_N == pytest.approx(beta / ((1 + s) * beta + alpha), rel=1e-5)
    assert counted.exponent_D == pytest.approx(alpha / ((1 + s) * beta + alpha), rel=1e-5)
    # N^(1 + s)·D = C/k, so the exponents share C out.
    assert (1 + s) * counted.exponent_N + counted.exponent_D == pytest.approx(1)


def test_the_optimum_under_6nd_is_the_least_loss_on_that_line() -> None:
    runs = _counted(9.0, 0.0)
    six = next(conventions(runs, DEFAULT))
    N = np.geomspace(1e6, 1e13, 400_001)
    D = runs.frame["train_flops"].max() / (6 * N)
    best = int(np.argmin(CHINCHILLA.loss(N, D)))
    # Steps of the search by hand are 4e-5.
    assert six.n_opt == pytest.approx(N[best], rel=1e-4)
    assert six.tokens_per_param == pytest.approx(D[best] / N[best], rel=2e-4)
    assert six.exponent_N == pytest.approx(CHINCHILLA.exponent_N, rel=1e-5)
    assert six.exponent_D == pytest.approx(CHINCHILLA.exponent_D, rel=1e-5)


@pytest.mark.parametrize(("k", "rows"), [(6.0, 1), (6.003, 1), (6.012, 2), (5.988, 2)])
def test_counts_that_agree_to_a_thousandth_are_one(k: float, rows: int) -> None:
    assert len(list(conventions(_counted(k, 0.0), DEFAULT))) == rows


def test_each_count_of_n_is_fitted_on_its_own_column() -> None:
    N, D = grid()
    loss = table(N, D).with_columns(n_params_total=2 * N, n_params_non_embedding=N / 3)
    found = {c.column: c for c in conventions(normalise(loss), DEFAULT)}
    assert len(found) == 3
    plain = found["n_params"]
    for column, factor in (("n_params_total", 2), ("n_params_non_embedding", 1 / 3)):
        # Counting k times the parameters makes every A k^alpha times as large:
        # ln N* moves by alpha/(alpha + beta) of ln k at the same C.
        assert found[column].n_opt == pytest.approx(
            plain.n_opt * factor**CHINCHILLA.exponent_D, rel=1e-5
        )
        assert found[column].exponent_N == pytest.approx(plain.exponent_N, rel=1e-5)


def test_weights_of_the_table_weigh_here_too() -> None:
    frame = table(*grid(), noise=0.004)
    tables = (
        normalise(frame),
        weighed(frame, np.where(np.arange(36) < 10, 2.0, 1.0)),
        normalise(pl.concat([frame, frame[:10]])),
    )
    plain, by_weight, twice = (next(conventions(each, DEFAULT)) for each in tables)
    # The largest compute is the same, and a weight of two is a row twice.
    assert by_weight.exponent_N == pytest.approx(twice.exponent_N, rel=1e-7)
    assert abs(plain.exponent_N - twice.exponent_N) > 1e-5


def test_equal_columns_are_shown_once_and_broken_ones_not_at_all() -> None:
    N, D = grid()
    frame = normalise(table(N, D)).used.with_columns(
        n_params_total=pl.lit(N[0] * 0.0), n_params_non_embedding=pl.Series(N * 1.0005)
    )
    assert count_columns(frame) == ["n_params"]
    apart = frame.with_columns(n_params_non_embedding=pl.Series(N * 1.0015))
    assert count_columns(apart) == ["n_params", "n_params_non_embedding"]


def test_the_ratio_to_6nd_is_counted_over_6nd() -> None:
    assert flops_ratio(_counted(9.0, 0.0).used) == pytest.approx((1.5, 1.5))
    N, _ = grid()
    low, high = flops_ratio(_counted(6.0, 0.1).used) or (0.0, 0.0)
    assert (low, high) == pytest.approx((N.min() ** 0.1, N.max() ** 0.1))
    assert flops_ratio(normalise(table(*grid())).used) is None


def test_a_table_counted_otherwise_has_that_n_and_6nd_without_counted_budgets() -> None:
    N, D = grid()
    frame = table(N, D).with_columns(
        n_params_total=pl.Series(N * 2), train_flops=pl.Series(7 * N * D), flops_budget=1e20
    )
    ours = normalise(frame)
    total = counted_as(ours, "n_params_total", "flops_6nd")
    assert (total.n_counts, total.c_counts) == ("n_params_total", "flops_6nd")
    assert total.frame["n_params"].to_list() == (N * 2).tolist()
    assert total.frame["flops_6nd"].to_list() == pytest.approx((12 * N * D).tolist())
    assert not {"train_flops", "flops_budget"} & set(total.frame.columns)
    same = counted_as(ours, "n_params", "train_flops")
    assert same.n_counts == ours.n_counts
    assert same.frame["train_flops"].to_list() == ours.frame["train_flops"].to_list()
