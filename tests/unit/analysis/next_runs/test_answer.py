"""Next runs: their intervals, what they save, when to stop, and what did not fit."""

import math
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from analysis.forecast.design import Candidates
from analysis.next_runs.answer import NextRuns, next_runs
from analysis.next_runs.candidates import default_ratios, default_sizes, grid, read_grid
from analysis.next_runs.figures import draw_plane, plane_data
from analysis.next_runs.text import answer_lines, candidates_line, run_rows, verdict
from analysis.table.columns import normalise
from analysis.table.observations import Table, TableError
from tests.others_tables import BASE, DISAGREEING

TARGET = 1e23


def table() -> Table:
    return normalise(pl.DataFrame(BASE, schema=["N", "D", "loss"], orient="row"))


def offered(least: float = 1e18, most: float = 1e19) -> Candidates:
    used = table().used
    return grid(default_sizes(used), default_ratios(used), (least, most))


@cache
def answered(budget: float = 1e22, runs: int = 3) -> NextRuns:
    return next_runs(table(), offered(), TARGET, budget, runs)


def test_costs_add_up_and_intervals_narrow() -> None:
    answer = answered()
    costs = [run.flops for run in answer.runs]
    assert [run.spent for run in answer.runs] == pytest.approx(np.cumsum(costs).tolist())
    before = [answer.today, *(run.together for run in answer.runs)]
    for earlier, later in pairwise(before):
        assert 1 < later.n_factor < earlier.n_factor
        assert 0 < later.loss_percent < earlier.loss_percent
    low, high = answer.target.n_interval
    assert answer.today.n_factor == pytest.approx(high / low)


def test_what_all_runs_save_is_more_than_what_the_best_of_them_saves_alone() -> None:
    answer = answered()
    assert answer.saves_alone is not None
    saved = sum(run.saves or 0 for run in answer.runs)
    assert saved > max(answer.saves_alone[run.candidate] for run in answer.runs)


def test_cheap_runs_are_worth_it_for_a_dear_target_and_runs_dearer_than_it_are_not() -> None:
    assert verdict(answered()).startswith("worth it: ")
    assert answered().worthwhile >= 1
    dear = offered()
    dear = Candidates(dear.N, dear.D, np.full(len(dear), 10 * TARGET))
    answer = next_runs(table(), dear, TARGET, 1e26, 2)
    assert answer.worthwhile == 0
    assert verdict(answer).startswith("stop: no run saves what it costs. The best, N ")


def test_the_runs_stay_within_the_budget_and_the_answer_names_what_did_not_fit() -> None:
    budget = 4e18
    answer = answered(budget, runs=50)
    assert answer.runs[-1].spent <= budget
    left = budget - answer.runs[-1].spent
    cost = answer.candidates.flops
    assert int(answer.unaffordable.sum()) == len(cost) - len(answer.runs)
    assert "did not fit into the" in candidates_line(answer)
    assert cost[answer.unaffordable].min() > left


def test_too_many_candidates_none_and_none_within_the_budget_are_refused() -> None:
    with pytest.raises(TableError, match=r"the cheapest of .* more than --budget 1e\+15"):
        next_runs(table(), offered(), TARGET, 1e15, 3)
    many = Candidates(*np.ones((3, 2001)))
    with pytest.raises(TableError, match="2,001 candidates are more than 2,000"):
        next_runs(table(), many, TARGET, 1e15, 3)
    with pytest.raises(TableError, match="name runs with --candidates"):
        next_runs(table(), offered(most=1e10), TARGET, 1e10, 3)


def test_the_default_grid_reaches_twice_beyond_the_table_and_stays_within_its_costs() -> None:
    used, runs = table().used, offered()
    assert default_sizes(used)[[0, -1]] == pytest.approx([4e6, 1.8e9])
    assert runs.flops == pytest.approx(6 * runs.N * runs.D)
    assert 1e18 <= runs.flops.min() <= runs.flops.max() <= 1e19


def test_a_grid_is_read_as_people_write_numbers() -> None:
    named = read_grid("20M,5e7@10,40")
    assert named is not None
    assert [list(part) for part in named] == [[2e7, 5e7], [10, 40]]
    assert read_grid("runs.csv") is None
    with pytest.raises(TableError, match="--candidates '20M@x'"):
        read_grid("20M@x")


def test_the_plane_has_every_run_once_and_numbers_the_chosen_ones() -> None:
    answer = answered()
    data = plane_data(answer)
    kinds = dict(data["kind"].value_counts().iter_rows())
    others = len(answer.candidates) - len(answer.runs)
    assert kinds == {"trained": 15, "candidate": others, "next": len(answer.runs), "target": 1}
    labelled = data.filter(pl.col("kind") == "next").sort("label")
    assert labelled["n_params"].to_list() == [run.n_params for run in answer.runs]
    assert data["sharpens"].drop_nulls().is_between(0, 1).all()
    assert len(draw_plane(data).data) == 5


def test_methods_that_disagree_on_n_star_are_named_first() -> None:
    rows = normalise(pl.DataFrame(DISAGREEING, schema=["N", "D", "loss"], orient="row"))
    sizes, ratios = default_sizes(rows.used), default_ratios(rows.used)
    answer = next_runs(rows, grid(sizes, ratios, (1e10, 1e11)), 1.2e12, 1e12, 1)
    lines = list(answer_lines(answer))
    assert lines[0].startswith("Methods disagree on N* at 1.20e+12 FLOPs: the forecast says ")
    assert any(line.startswith("Stop: ") for line in lines[1:])


def test_lines_fit_a_terminal_and_begin_with_the_verdict_under_the_warnings() -> None:
    lines = list(answer_lines(answered()))
    start = next(k for k, line in enumerate(lines) if line.startswith("Worth it"))
    # Three decades beyond the table: the answer says so before anything else.
    assert start == 0 or "NOT CALIBRATED" in lines[0] or "WEAK" in lines[0]
    assert max(len(line) for line in lines) <= 110
    assert len(run_rows(answered())) == 3
    [first, *_] = answered().runs
    far = replace(answered(), runs=(replace(first, tokens=1600 * first.n_params),))
    assert run_rows(far)[0][3] == "1.6k"
    assert all(math.isfinite(run.loss) for run in answered().runs)
