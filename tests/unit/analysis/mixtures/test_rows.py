"""A table of mixtures is read, or refused with its line; so is what is asked of it."""

import numpy as np
import polars as pl
import pytest

from analysis.mixtures.best import Space
from analysis.mixtures.question import Question, read_stock, read_target, share_limits
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


def test_the_unit_of_losses_is_that_of_the_column_loss_unit_and_one_alone() -> None:
    frame = simulated(20)
    assert read_mixtures(described(frame), mapping={}).loss_unit == "unknown"
    bits = frame.with_columns(loss_unit=pl.lit("bpb"))
    assert read_mixtures(described(bits), mapping={}).loss_unit == "bits_per_byte"
    both = pl.concat([bits, frame.with_columns(loss_unit=pl.lit("nats"))])
    with pytest.raises(TableError, match="several units are pooled: bpb, nats"):
        read_mixtures(described(both), mapping={})


def test_a_target_has_weights_or_names_and_a_stock_has_tokens() -> None:
    assert read_target(None) == {}
    assert read_target(" code = 2, prose ") == {"code": 2.0, "prose": 1.0}
    assert read_stock("code=20B,wiki=3e9") == {"code": 2e10, "wiki": 3e9}
    with pytest.raises(TableError, match="should read NAME=NUMBER"):
        read_stock("code")


def test_stocks_that_are_all_the_tokens_are_no_refusal_and_less_is_one() -> None:
    stock = {"code": 7e10, "prose": 2e10, "wiki": 1e10}
    # 0.7 + 0.2 + 0.1 is less than 1, by rounding.
    limits = share_limits(Question(stock=stock, epochs=1.0), tuple(stock), 1e11)
    assert limits == pytest.approx([0.7, 0.2, 0.1])
    assert Space.of(np.eye(3), limits, tuple(stock)).limited
    with pytest.raises(TableError, match=r"give 0\.99 of the 101B tokens at 1 epochs"):
        share_limits(Question(stock=stock, epochs=1.0), tuple(stock), 1.01e11)


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
