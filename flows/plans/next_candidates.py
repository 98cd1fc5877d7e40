"""Runs to choose the next ones from: around a table, or in a sweep's own recipe."""

from pathlib import Path

import numpy as np

from analysis.forecast.design import Candidates
from analysis.forecast.points import read_points
from analysis.next_runs import candidates
from analysis.table.observations import Table, TableError
from analysis.table.repeats import leave_out_repeats
from analysis.table.states import nothing_left
from sweeps.ladder import ShapeLadder
from sweeps.next_cells import NextCell, ladder_and_neighbours, next_cells
from sweeps.plan import Plan

# Of the target's budget, what small runs may cost together unless somebody says.
SHARE = 1 / 3


def of_table(table: Table, given: str | None, budget: float) -> Candidates:
    """Candidates after somebody's table; 6·N·D is their cost."""
    if given is None:
        used, least = table.used, _least(table, "flops_6nd")
        sizes, ratios = candidates.default_sizes(used), candidates.default_ratios(used)
        return candidates.grid(sizes, ratios, (least, budget))
    named = candidates.read_grid(given)
    if named is not None:
        return candidates.grid(*named, (0.0, np.inf))
    if not Path(given).is_file():
        raise ValueError(
            f"--candidates {given}: neither a file nor a grid such as 20M,50M@10,40 "
            "(sizes @ tokens per parameter)."
        )
    N, D = np.array(read_points(Path(given), table.n_counts, option="--candidates")).T
    return candidates.within(N, D, (0.0, np.inf))


def of_sweep(
    planned: Plan, table: Table, given: str | None, budget: float
) -> tuple[list[NextCell], Candidates]:
    """Cells of the sweep's own recipe, and the same as candidates; counted FLOPs are their cost."""
    table = leave_out_repeats(table)
    least, most = 0.0, float("inf")
    if given is None:
        least = _least(table, "train_flops")
        most = budget
        widths = sorted({run.run.model.d_model for run in planned.runs})
        if isinstance(planned.spec.ladder, ShapeLadder):
            # Listed shapes follow no rule, so there is none between them.
            widths = sorted({shape.d_model for shape in planned.spec.ladder.shapes})
        else:
            widths = ladder_and_neighbours(widths)
        ratios = candidates.default_ratios(table.used).tolist()
    else:
        named = candidates.read_grid(given)
        if named is None:
            raise ValueError(
                f"--candidates {given}: after a sweep give WIDTHS@RATIOS, as in 64,96@10,40 "
                "(widths of its shape @ tokens per parameter)."
            )
        widths, ratios = [round(width) for width in named[0]], named[1].tolist()
    cells = next_cells(planned, widths, ratios, (least, most))
    columns = np.array([(c.n_params, c.tokens, c.train_flops) for c in cells], float)
    return cells, Candidates(*columns.reshape(-1, 3).T)


def _least(table: Table, cost: str) -> float:
    """What the cheapest used row costs."""
    if table.used.is_empty():
        raise TableError(nothing_left(table.frame))
    return float(table.used[cost].to_numpy().min())
