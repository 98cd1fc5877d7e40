"""Which batches are taken for tokens, which are asked about, and rates that cannot be."""

from pathlib import Path

import polars as pl
import pytest

from analysis.table.observations import TableError
from analysis.tuning.trials import read_lr_table


def _write(path: Path, batch: str, low: int, **columns: object) -> Path:
    """Eight trials with batches of `low` to 16 times as many, and more columns."""
    batches = [low * 2 ** (k % 5) for k in range(8)]
    frame = pl.DataFrame(
        {"N": [6e7] * 8, "D": [4e9] * 8, "lr": [1e-3, 2e-3] * 4, batch: batches, "loss": [3.0] * 8}
    )
    if "steps" in columns:
        columns["steps"] = [round(4e9 / b / columns["steps"]) for b in batches]
    frame.with_columns(
        pl.lit(v).alias(k) if not isinstance(v, list) else pl.Series(k, v)
        for k, v in columns.items()
    ).write_csv(path)
    return path


@pytest.mark.parametrize(
    ("batch", "low", "columns", "reason"),
    [
        ("bs", 32, {}, "its median is"),
        ("bs", 256, {"seq_len": 4096}, "less than one sequence of 4,096"),
        ("batch size", 256, {"context": 2048}, "less than one sequence of 2,048"),
        ("gbs", 1024, {"steps": 2048}, "steps times it is 1/2048 of the tokens"),
        ("batch", 512, {}, "a training would take 2.9e+06 steps"),
        ("batch_size_seqs", 65536, {}, "as its name says"),
    ],
)
def test_a_batch_that_seems_to_count_sequences_is_asked_about(
    batch: str, low: int, columns: dict[str, object], reason: str, tmp_path: Path
) -> None:
    path = _write(tmp_path / "trials.csv", batch, low, **columns)
    with pytest.raises(TableError, match="seems to count sequences") as caught:
        read_lr_table(path)
    assert reason in str(caught.value)
    assert "--map 'batch_tokens=" in str(caught.value)


@pytest.mark.parametrize(
    ("batch", "low", "columns"),
    [
        ("bs", 16_384, {}),
        ("bs", 16_384, {"seq_len": 2048}),
        ("batch", 2048, {"steps": 1}),
        ("batch_tokens", 2048, {}),
        ("tokens per batch", 16_384, {"block_size": 2048}),
    ],
)
def test_a_batch_in_tokens_is_read_without_a_doubt(
    batch: str, low: int, columns: dict[str, object], tmp_path: Path
) -> None:
    table = read_lr_table(_write(tmp_path / "trials.csv", batch, low, **columns))
    assert not table.doubts
    assert table.source("batch_tokens").given == batch


def test_a_batch_mapped_to_tokens_is_doubted_with_the_way_out(tmp_path: Path) -> None:
    path = _write(tmp_path / "trials.csv", "bs", 64, seq_len=2048)
    [doubt] = read_lr_table(path, mapping={"batch_tokens": "bs"}).doubts
    assert "--map 'batch_tokens=bs*seq_len'" in doubt.sentence
    assert not read_lr_table(path, mapping={"batch_tokens": "bs*seq_len"}).doubts


def test_a_rate_in_another_unit_is_doubted_and_a_logarithm_offered_as_a_power(
    tmp_path: Path,
) -> None:
    path = _write(tmp_path / "trials.csv", "bs", 16_384, milli=3.0, log_lr=-2.5)
    [doubt] = read_lr_table(path, mapping={"lr": "milli"}).doubts
    assert "lr ('milli') is 3 in the median row" in doubt.sentence
    with pytest.raises(TableError, match="--map 'lr=pow"):
        read_lr_table(path, mapping={"lr": "log_lr"})
    assert not read_lr_table(path, mapping={"lr": "pow(10, log_lr)"}).doubts
