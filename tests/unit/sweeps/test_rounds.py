"""A design begins with whole budgets, the smallest first."""

from itertools import groupby

import pytest

from sweeps.load import load_spec
from sweeps.plan import plan
from sweeps.rounds import PoolCell, first_cells, pool
from sweeps.spec import DataRef


@pytest.fixture(scope="module")
def offered() -> list[PoolCell]:
    return list(pool(plan(load_spec("demo"), DataRef(digest="x"))).values())


def test_cells_are_offered_by_rising_budget_and_cost(offered):
    costs = [(each.cell.flops_budget, each.cell.train_flops) for each in offered]
    assert costs == sorted(costs)


def test_a_round_takes_whole_budgets_until_rows_and_sizes_are_enough_with_those_there_are(offered):
    budgets = [list(cells) for _, cells in groupby(offered, lambda each: each.cell.flops_budget)]
    first, second, rest = budgets[0], budgets[1], [each for part in budgets[2:] for each in part]
    assert first_cells(offered, [], rows=1, sizes=1) == first
    assert first_cells(offered, [], rows=len(first) + 1, sizes=1) == [*first, *second]
    enough = len(first) + len(second)
    assert first_cells([*second, *rest], first, rows=enough, sizes=1) == second
    sizes = len({each.n_params for each in first})
    assert first_cells(offered, [], rows=1, sizes=sizes) == first
    assert len(first_cells(offered, [], rows=1, sizes=sizes + 1)) > len(first)
