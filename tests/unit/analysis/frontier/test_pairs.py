import numpy as np
import polars as pl
import pytest

from analysis import published
from analysis.frontier.allocation import TooSmall, compute_optimal
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


def test_a_pair_below_the_least_size_is_refused() -> None:
    with pytest.raises(TooSmall):
        equal_loss_pair(LAW, 1e20, size_ratio=0.1)


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


def test_runs_without_a_loss_are_passed_over() -> None:
    runs = halves().with_columns(
        pl.when(pl.int_range(pl.len()) == 0).then(None).otherwise("val_loss").alias("val_loss")
    )
    assert observed_pairs(LAW, runs).height == 8
