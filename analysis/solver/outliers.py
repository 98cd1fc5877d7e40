"""Rows that the law does not explain, told from the scatter of the others.

A law with p free constants passes through about p rows of a small table, so the median residual
understates the scatter, and a wild row far from the others may be one of those it passes
through. Both are corrected for the constants: the median is that of the other n - p rows, and
each row is also held against the law fitted without it.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from analysis.law import Array

MULTIPLE = 8.0  # median absolute deviations
# Few rows have an uncertain median, so the multiple grows by this over the square of the rows to
# spare, up to a fifth.
_UNCERTAIN = 20.0
# Share of tables of normal noise in which some row is called an outlier, at most.
_FALSE_TABLES = 0.05
_PULLS = 0.25  # leverage from which a row may hide by pulling the law towards itself


def find_outliers(residual: Array, slope: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Rows beyond `MULTIPLE` corrected median deviations and beyond Student's limit.

    Student's limit is on the deleted residual of least squares (Cook and Weisberg 1982, section
    2.2), over the rows that the median does not call wild, at `_FALSE_TABLES` shared by all rows.

    Args:
        residual: log of each observation minus its prediction, (rows,).
        slope: derivative of each log prediction in the free constants, (rows, p).

    Returns:
        rows that lie away from the law, and others that lie away from the law fitted without
        them: each (rows,), no row in both.
    """
    size, rows = np.abs(residual), len(residual)
    slope = slope / np.maximum(np.linalg.norm(slope, axis=0), 1e-300)
    free = int(np.linalg.matrix_rank(slope))
    spare = rows - free
    if spare < 2:
        none = np.zeros(rows, bool)
        return none, none
    scatter = float(np.median(np.sort(size)[free:]))
    kept = size <= MULTIPLE * scatter
    inverse = np.linalg.pinv(slope[kept].T @ slope[kept], hermitian=True)
    leverage = np.einsum("ij,jk,ik->i", slope, inverse, slope)
    error = residual - slope @ (inverse @ (slope[kept].T @ residual[kept]))
    # Of a row within the fit: its error without it, and the share of the squares that is its own.
    left = np.maximum(1 - leverage, 1e-9)
    without = np.where(kept, error / left, error)
    squares = (error[kept] ** 2).sum() - np.where(kept, error**2 / left, 0.0)
    freedom = np.maximum(kept.sum() - free - kept, 1)
    variance = np.maximum(squares, 0.0) / freedom * np.where(kept, 1 / left, 1 + leverage)
    limit = stdtrit(freedom, 1 - _FALSE_TABLES / (2 * rows))
    beyond = np.abs(without) > limit * np.sqrt(variance)
    multiple = MULTIPLE * (1 + min(_UNCERTAIN / spare**2, 0.2)) * scatter
    plain = beyond & (size > multiple)
    return plain, beyond & ~plain & (leverage > _PULLS) & (np.abs(without) > multiple)
