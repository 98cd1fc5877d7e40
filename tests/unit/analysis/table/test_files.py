"""Files of every usual kind are read, and what cannot be read is refused with its cause."""

from pathlib import Path

import polars as pl
import pytest

from analysis.table.observations import TableError
from analysis.table.read import read_table


def _frame(**columns: object) -> pl.DataFrame:
    base: dict[str, object] = {
        "N": [1e8, 2e8, 4e8, 8e8, 16e8, 32e8],
        "D": [2e9, 4e9, 8e9, 16e9, 32e9, 64e9],
        "loss": [3.4, 3.2, 3.0, 2.9, 2.8, 2.7],
    }
    return pl.DataFrame({**base, **columns})


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "json"])
def test_files_of_each_kind_hold_the_same_table(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"runs.{suffix}"
    frame = _frame()
    if suffix == "parquet":
        frame.write_parquet(path)
    elif suffix == "json":
        frame.write_json(path)
    else:
        frame.write_csv(path, separator="\t" if suffix == "tsv" else ",")
    assert read_table(path).frame["val_loss"].to_list() == frame["loss"].to_list()


def test_unreadable_files_are_table_errors(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="is not a file"):
        read_table(tmp_path / "none.csv")
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"not parquet")
    with pytest.raises(TableError, match="cannot be read"):
        read_table(broken)
    empty = tmp_path / "empty.csv"
    empty.write_text("N,D,loss\n")
    with pytest.raises(TableError, match="no rows"):
        read_table(empty)


def test_semicolons_and_blank_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(_frame().write_csv(separator=";") + "\n\n")
    assert read_table(path).frame.height == 6
