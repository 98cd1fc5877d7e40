"""Which runs of two tables belong together: the same size, compute and seed."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from analysis.law import Array
from analysis.table.runs import clusters_of

# Sizes and computes of one cell agree to this factor: blocks differ by a few per cent.
_ALIKE = 1.25


@dataclass(frozen=True, slots=True)
class Paired:
    """The rows of two tables, one below the other.

    Attributes:
        pairs: places (pairs, 2) of matched rows, in the first and in the second table.
        clusters: for each row of both the number of what is drawn together: a pair of cells,
            or two trainings with all their horizons.
    """

    pairs: NDArray[np.intp]
    clusters: NDArray[np.intp]


def pair_rows(first: pl.DataFrame, second: pl.DataFrame, log_c: tuple[Array, Array]) -> Paired:
    """Match rows by N, compute and seed, nearest first, each once.

    Args:
        log_c: log of the compute of each row.
    """
    frames = first, second
    logs = [
        np.stack([np.log(frame["n_params"].to_numpy().astype(float)), c], axis=1)
        for frame, c in zip(frames, log_c, strict=True)
    ]
    away = np.abs(logs[0][:, None] - logs[1][None]).max(axis=2)
    if all("seed" in frame.columns for frame in frames):
        seeds = [frame["seed"].to_numpy() for frame in frames]
        away[seeds[0][:, None] != seeds[1][None]] = np.inf
    taken: tuple[set[int], set[int]] = (set(), set())
    pairs = []
    for place in np.argsort(away, axis=None, kind="stable"):
        i, j = divmod(int(place), away.shape[1])
        if away[i, j] > np.log(_ALIKE):
            break
        if i not in taken[0] and j not in taken[1]:
            pairs.append((i, j))
            taken[0].add(i)
            taken[1].add(j)
    matched = np.array(sorted(pairs), np.intp).reshape(-1, 2)
    return Paired(matched, _clusters(frames, matched))


def _clusters(
    frames: tuple[pl.DataFrame, pl.DataFrame], pairs: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Components of rows that share a training or are matched."""
    count = frames[0].height + frames[1].height
    links = [pairs + np.array([0, frames[0].height])]
    for frame, start in zip(frames, (0, frames[0].height), strict=True):
        trainings = clusters_of(frame)
        if trainings is not None:
            _, heads = np.unique(trainings, return_index=True)
            links.append(np.stack([np.arange(frame.height), heads[trainings]], axis=1) + start)
    ends = np.concatenate(links)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1].astype(np.intp))
