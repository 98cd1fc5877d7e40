"""A table of mixtures is read, or refused with its line; so is what is asked of it."""

import numpy as np
import polars as pl
import pytest

from analysis.mixtures.question import read_stock, read_target
from analysis.mixtures.rows import read_mixtures
from analysis.table.files import described
from analysis.table.observations import TableError
from tests.unit.analysis.mixtures.simulated import simulated


def test_shares_may_be_written_as_percentages() -> None:
    frame = simulated(20)
    shares = [name for name in frame.columns if name.startswith("share_")]
    written = frame.with_columns(
        pl.format("{}%", (100 * pl.col(name)).round(1)).alias(name) for name in shares
    )
    read, plain = (read_mixtures(described(each), mapping={}) for each in (written, frame))
    assert np.abs(read.shares - plain.shares).max() < 0.002


@pytest.mark.parametrize("size", [0.0, -1e7, None])
def test_a_size_that_is_no_positive_number_is_refused_with_its_row(size: float | None) -> None:
    frame = simulated(20, sizes=(1e7, 1e8))
    bad = frame.with_columns(
        n_params=pl.when(pl.int_range(pl.len()) == 4).then(size).otherwise("n_params")
    )
    with pytest.raises(TableError, match=r"n_params is no positive number.*Row 5"):
        read_mixtures(described(bad), mapping={})


def test_a_target_has_weights_or_names_and_a_stock_has_tokens() -> None:
    assert read_target(None) == {}
    assert read_target(" code = 2, prose ") == {"code": 2.0, "prose": 1.0}
    assert read_stock("code=20B,wiki=3e9") == {"code": 2e10, "wiki": 3e9}
    with pytest.raises(TableError, match="should read NAME=NUMBER"):
        read_stock("code")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("code=", "should read NAME=NUMBER"),
        ("=2", "should read NAME=NUMBER"),
        ("code=1,code=2", "names 'code' twice"),
        ("code=-1", "--target code=-1: "),
    ],
)
def test_a_target_that_cannot_be_read_is_refused_with_an_example(text: str, words: str) -> None:
    with pytest.raises(TableError) as refused:
        read_target(text)
    assert words in str(refused.value)
