"""Grouping of numbers that differ by rounding."""

import numpy as np

from analysis.table.near import near_groups


def test_neighbours_within_the_factor_are_one_group_in_any_order() -> None:
    values = np.array([1e19, 1.004e18, 0.996e18, 1e20, 1.01e19])
    assert near_groups(values, 1.02).tolist() == [1, 0, 0, 2, 1]
    assert near_groups(values, 1.001).tolist() == [2, 1, 0, 4, 3]


def test_a_group_does_not_cross_the_outer_number() -> None:
    sizes = np.array([7, 7, 2, 2])
    assert near_groups(np.array([1.0, 1.0, 1.0, 5.0]), 1.01, within=sizes).tolist() == [2, 2, 0, 1]


def test_nothing_has_no_groups() -> None:
    assert near_groups(np.array([]), 1.02).tolist() == []
