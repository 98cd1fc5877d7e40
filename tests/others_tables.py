"""Tables as other people write them: one of fifteen finished runs, and ways to bend it.

The runs follow L = 1.9 + 320/N^0.33 + 900/D^0.29 with 0.2 % of noise at three budgets
C = 6·N·D, so N* grows as C^0.4677, N*(1e20) = 2.275e8, and the loss there is 3.0949.
"""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

TRUE_EXPONENT = 0.29 / (0.33 + 0.29)
TRUE_N_AT_1E20 = 2.275e8

# N, D, loss.
BASE: tuple[tuple[int, int, float], ...] = (
    (8_000_000, 20_830_000_000, 4.495),
    (16_000_000, 10_420_000_000, 4.3593),
    (27_000_000, 6_173_000_000, 4.3365),
    (50_000_000, 3_333_000_000, 4.3737),
    (100_000_000, 1_667_000_000, 4.5297),
    (20_000_000, 83_330_000_000, 3.759),
    (40_000_000, 41_670_000_000, 3.624),
    (80_000_000, 20_830_000_000, 3.6148),
    (160_000_000, 10_420_000_000, 3.6536),
    (300_000_000, 5_556_000_000, 3.7587),
    (60_000_000, 277_800_000_000, 3.2007),
    (120_000_000, 138_900_000_000, 3.1243),
    (230_000_000, 72_460_000_000, 3.1004),
    (450_000_000, 37_040_000_000, 3.1213),
    (900_000_000, 18_520_000_000, 3.1974),
)

# A small sweep of ours on Python's sources: approaches 2 and 3 and the forecast disagree on N*.
DISAGREEING: tuple[tuple[int, int, float], ...] = (
    (14992, 263000, 3.8755),
    (14992, 527000, 3.7594),
    (14992, 1050000, 3.6561),
    (27832, 139000, 3.9851),
    (27832, 279000, 3.7052),
    (27832, 557000, 3.5490),
    (41696, 100000, 4.0914),
    (41696, 201000, 3.7496),
    (41696, 402000, 3.5297),
    (80176, 217000, 3.6734),
)


def loss(N: float, D: float) -> float:
    """The law behind the table, without noise."""
    return float(1.9 + 320 / N**0.33 + 900 / D**0.29)


def write_table(
    path: Path,
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    separator: str = ",",
    encoding: str = "utf-8",
) -> Path:
    """Write a table as text; the path."""
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=separator, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path


def six_runs(**columns: object) -> pl.DataFrame:
    """Six finished runs as a data frame, with columns added or replaced."""
    base: dict[str, object] = {
        "N": [1e8, 2e8, 4e8, 8e8, 16e8, 32e8],
        "D": [2e9, 4e9, 8e9, 16e9, 32e9, 64e9],
        "loss": [3.4, 3.2, 3.0, 2.9, 2.8, 2.7],
    }
    return pl.DataFrame({**base, **columns})
