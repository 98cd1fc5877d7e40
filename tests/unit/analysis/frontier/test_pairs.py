import numpy as np
import polars as pl
import pytest

from analysis import published
from analysis.frontier.allocation import compute_optimal
from analysis.frontier.overtraining import tokens_multiple
from analysis.frontier.pairs import equal_loss_pair, observed_pairs

LAW = published.law("besiroglu")


def halves(noise: float = 0.0) -> pl.DataFrame:
    """Nine compute-optimal runs, and nine of half their size on as much more data."""
    N0, D0 = compute_optimal(LAW, np.geomspace(1e18, 1e22, 9))
    N = np.concatenate([N0, N0 / 2])
    D = np.concatenate([D0, D0 * tokens_multiple(LAW, 0.5)])
    loss = LAW.loss(N, D) + np.random.default_rng(0).normal(0, noise, N.size)
    return pl.DataFrame({"n_params": N, "tokens": D, "val_loss": loss})


def test_the_pair_is_predicted_to_end_alike() -> None:
    pair = equal_loss_pair(LAW, 1e20)
    assert pair.N_small == pair.N_large / 2
    assert LAW.loss(pair.N_small, pair.D_small) == pytest.approx(pair.loss, rel=1e-12)
    assert LAW.loss(pair.N_large, pair.D_large) == pytest.approx(pair.loss, rel=1e-12)


def test_runs_on_the_law_do_not_miss() -> None:
    pairs = observed_pairs(LAW, halves())
    assert pairs.height == 9
    assert pairs["miss_loss"].abs().max() < 1e-12
    assert pairs["miss_tokens"].abs().max() < 1e-9


def test_a_miss_in_loss_is_a_miss_in_tokens() -> None:
    runs = halves()
    worse = runs.with_columns(
        pl.col("val_loss") + 0.01 * (pl.int_range(pl.len()) >= 9).cast(pl.Float64)
    )
    row = observed_pairs(LAW, worse).row(0, named=True)
    assert row["miss_loss"] == pytest.approx(0.01, rel=1e-9)
    # The extra tokens, seen, lower the predicted loss by about the miss.
    gained = LAW.loss(row["N_small"], row["D_small"]) - LAW.loss(
        row["N_small"], row["D_small"] * (1 + row["miss_tokens"])
    )
    assert gained == pytest.approx(0.01, rel=0.1)


def test_only_misses_beyond_the_scatter_are_surprising() -> None:
    calm = observed_pairs(LAW, halves(noise=0.003))
    assert calm["surprising"].mean() < 0.2
    spoilt = halves(noise=0.0003).with_columns(
        pl.when(pl.int_range(pl.len()) == 9)
        .then(pl.col("val_loss") + 0.05)
        .otherwise(pl.col("val_loss"))
        .alias("val_loss")
    )
    pairs = observed_pairs(LAW, spoilt)
    assert pairs.filter("surprising")["miss_loss"].to_list() == pytest.approx([0.05], abs=2e-3)


def test_the_extra_tokens_of_a_small_miss_make_up_for_it_exactly() -> None:
    worse = halves().with_columns(
        pl.col("val_loss") + 1e-5 * (pl.int_range(pl.len()) >= 9).cast(pl.Float64)
    )
    for row in observed_pairs(LAW, worse).iter_rows(named=True):
        seen = row["D_small"] * (1 + row["miss_tokens"])
        gained = LAW.loss(row["N_small"], row["D_small"]) - LAW.loss(row["N_small"], seen)
        # The slope is taken over a step of 1 % either way, and the miss is small.
        assert gained == pytest.approx(1e-5, rel=1e-3)


def test_a_large_miss_in_tokens_is_one_of_their_logarithm() -> None:
    worse = halves().with_columns(
        pl.col("val_loss") + 0.05 * (pl.int_range(pl.len()) >= 9).cast(pl.Float64)
    )
    for row in observed_pairs(LAW, worse).iter_rows(named=True):
        beta, D = LAW.beta, row["D_small"]
        # Loss falls by beta·B/D^beta an e-fold of tokens, read off a step of 1 % either way.
        extra = np.expm1(0.05 / (beta * LAW.B * D**-beta))
        assert row["miss_tokens"] == pytest.approx(extra, rel=2e-3)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_a_surprise_is_twice_what_the_scatter_of_two_runs_explains(
    factor: float, sign: int
) -> None:
    off = np.where(np.arange(18) % 2, 0.01, -0.01)
    off[0] = off[9] = 0.0
    # The miss is part of the scatter it is judged by: repeat until it is `factor` thresholds.
    for _ in range(100):
        off[9] = sign * factor * 2 * np.sqrt(2) * np.std(off)
    frame = halves().with_columns(pl.col("val_loss") + pl.Series(off))
    pair = observed_pairs(LAW, frame).filter(pl.col("N_large") == frame["n_params"][0])
    assert pair["miss_loss"].to_list() == pytest.approx([off[9]], rel=1e-9)
    assert pair["surprising"].to_list() == [factor > 1]


def test_pairs_are_of_unlike_size_and_like_loss_widest_first() -> None:
    N0, D0 = (float(value) for value in compute_optimal(LAW, 1e20))
    loss = float(LAW.loss(N0, D0))
    ratios = [0.7, 0.5, 0.4, 1 / 1.8]
    N = [N0, *(N0 * ratio for ratio in ratios)]
    D = [D0, *(D0 * float(tokens_multiple(LAW, ratio)) for ratio in ratios)]
    # Two more of half the size, whose losses are 0.4 % and 0.6 % off.
    for off in (1.004, 1.006):
        N.append(N0 / 2)
        left = loss * off - LAW.E - LAW.A * N[-1] ** -LAW.alpha
        D.append(float((LAW.B / left) ** (1 / LAW.beta)))
    frame = pl.DataFrame({"n_params": N, "tokens": D, "val_loss": LAW.loss(N, D)})
    pairs = observed_pairs(LAW, frame, least_ratio=1.7).filter(pl.col("N_large") == N0)
    assert (pairs["N_large"] / pairs["N_small"]).to_list() == pytest.approx([2.5, 2, 2, 1.8])
    assert sorted(pairs["loss_small"] / loss) == pytest.approx([1, 1, 1, 1.004], rel=1e-9)


def test_a_ratio_equal_to_the_least_is_wide_enough() -> None:
    frame = halves()
    assert observed_pairs(LAW, frame, least_ratio=2.0).height == 9
    assert observed_pairs(LAW, frame, least_ratio=2.001).height == 0


def test_a_loss_that_is_not_finite_is_passed_over() -> None:
    runs = halves().with_columns(
        pl.when(pl.int_range(pl.len()) == 0)
        .then(float("inf"))
        .otherwise("val_loss")
        .alias("val_loss")
    )
    assert observed_pairs(LAW, runs).height == 8


def test_runs_without_a_loss_are_passed_over() -> None:
    runs = halves().with_columns(
        pl.when(pl.int_range(pl.len()) == 0).then(None).otherwise("val_loss").alias("val_loss")
    )
    assert observed_pairs(LAW, runs).height == 8
