"""Rows that look like checkpoints of a few runs, and rows that do not."""

import numpy as np
import polars as pl
import pytest

from analysis.fit.curves import looks_like_curves


def _rows(luck: float, seed: int, sizes: int = 8, points: int = 10) -> pl.DataFrame:
    """Residuals of 0.1 % noise and as much luck as given, common to the rows of one N."""
    rng = np.random.default_rng(seed)
    N = np.repeat(1e7 * 2.0 ** np.arange(sizes), points)
    D = 20 * N * np.tile(np.arange(1, points + 1), sizes)
    common = np.repeat(rng.normal(0, luck, sizes), points)
    residual = common + rng.normal(0, 0.001, sizes * points)
    return pl.DataFrame({"n_params": N, "tokens": D, "residual": residual})


@pytest.mark.parametrize("seed", range(5))
def test_rows_of_one_n_that_lie_together_look_like_curves(seed: int) -> None:
    assert looks_like_curves(_rows(0.01, seed))
    assert not looks_like_curves(_rows(0, seed))


def test_a_law_that_misses_a_bend_does_not() -> None:
    bent = _rows(0, 0).with_columns(
        pl.col("residual") + 0.01 * (pl.col("n_params").log() - 18) ** 2
    )
    assert not looks_like_curves(bent)


def test_few_sizes_and_few_points_cannot_show_it() -> None:
    assert not looks_like_curves(_rows(0.01, 0, sizes=3))
    assert not looks_like_curves(_rows(0.01, 0, points=4))
