"""Numbers that differ by rounding only."""

import numpy as np
from numpy.typing import NDArray

from analysis.law import Array


def near_groups(
    values: Array, factor: float, within: NDArray[np.generic] | None = None
) -> NDArray[np.intp]:
    """The number of each value's group, groups counted from 0 in rising order.

    Neighbours in order are of one group when the larger is at most `factor` times the smaller.

    Args:
        values: positive numbers, in any order.
        within: a number for each value; groups do not cross it. Groups rise with it first.
    """
    logs = np.log(np.asarray(values, float))
    outer = np.zeros(len(logs)) if within is None else within
    order = np.lexsort((logs, outer))
    groups = np.zeros(len(logs), np.intp)
    apart = (np.diff(logs[order]) > np.log(factor)) | (outer[order][1:] != outer[order][:-1])
    groups[order[1:]] = np.cumsum(apart)
    return groups
