"""Runs that could be trained next: a grid of sizes and of tokens per parameter."""

import numpy as np
import polars as pl

from analysis.forecast.design import Candidates
from analysis.forecast.points import read_number
from analysis.law import Array
from analysis.table.observations import TableError

# Steps of the grid, and how far beyond the table it reaches.
_SIZE_STEP, _RATIO_STEP = 1.5, 2.0
_BEYOND = 2.0


def default_sizes(used: pl.DataFrame) -> Array:
    """Sizes from half the table's smallest to twice its largest, in steps of a factor 1.5."""
    return _steps(used["n_params"].to_numpy(), _SIZE_STEP)


def default_ratios(used: pl.DataFrame) -> Array:
    """D/N from half the table's least to twice its largest, in steps of a factor 2."""
    return _steps((used["tokens"] / used["n_params"]).to_numpy(), _RATIO_STEP)


def grid(sizes: Array, ratios: Array, flops: tuple[float, float]) -> Candidates:
    """Every size at every ratio whose 6·N·D lies between the two."""
    N = np.repeat(sizes, len(ratios))
    return within(N, N * np.tile(ratios, len(sizes)), flops)


def within(N: Array, D: Array, flops: tuple[float, float]) -> Candidates:
    """Runs whose 6·N·D, which is their cost, lies between the two."""
    C = 6 * N * D
    kept = (flops[0] <= C) & (flops[1] >= C)
    return Candidates(N[kept], D[kept], C[kept])


def read_grid(text: str) -> tuple[Array, Array] | None:
    """Sizes and ratios from SIZES@RATIOS, as in 20M,50M@10,40; None for other texts.

    Raises:
        TableError: not positive numbers.
    """
    sizes, at, ratios = text.partition("@")
    if not at:
        return None
    try:
        return _numbers(sizes), _numbers(ratios)
    except TableError as error:
        raise TableError(
            f"--candidates {text!r}: {error} Write sizes @ tokens per parameter, for example "
            "20M,50M@10,40."
        ) from error


def _numbers(text: str) -> Array:
    return np.array([read_number(part, "count") for part in text.split(",")])


def _steps(values: Array, step: float) -> Array:
    low, high = float(values.min()) / _BEYOND, float(values.max()) * _BEYOND
    return np.asarray(np.geomspace(low, high, 1 + round(np.log(high / low) / np.log(step))))
