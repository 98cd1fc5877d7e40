"""A sweep designed in rounds: what is trained, the next choice from its losses, when to stop.

HOME/sweeps/NAME/rounds.json records each choice before a run of it starts, so a sweep that was
killed repeats no decision. A choice depends on the losses and on planned costs alone, not on the
clock: the same losses give the same rounds on every machine.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from analysis.forecast.design import Candidates
from analysis.forecast.rows import FEWEST_PLACES, FEWEST_SIZES, NEEDS, too_few
from analysis.forecast.text import first_lines
from analysis.next_runs.answer import Intervals, NextRun, NextRuns, intervals_today, next_runs
from analysis.next_runs.text import verdict
from analysis.table.observations import Table, TableError
from analysis.table.runs import own_table
from analysis.words import flops
from flows.files import read_or_warn, write_whole
from flows.runs.directory import RunDir
from flows.runs.table import observations_frame
from flows.settings import Home
from llama_core.config import Frozen
from sweeps.cap import FlopsCap
from sweeps.plan import Plan
from sweeps.rounds import Place, PoolCell, first_cells, places_of, pool, rounds_plan

log = logging.getLogger(__name__)

# Runs of a round at most. Fewer cost less (bench/forecast_next.py --whole), and use fewer slots.
_A_ROUND = 3
# A target that nobody chose, times the grid's largest compute, as a forecast's.
_FAR = 10.0


class Width(Frozen):
    """Widths of the target's intervals, see `analysis.next_runs.answer.Intervals`."""

    n_factor: float
    loss_percent: float


class Foretold(Frozen):
    """The loss foretold for a cell when it was chosen."""

    loss: float
    lower: float
    upper: float


class ChosenCell(Frozen):
    """A cell and its counted FLOPs, trained alone; nothing is foretold for the first cells."""

    width: int
    tokens: int
    n_params: int
    flops: int
    foretold: Foretold | None = None

    @property
    def place(self) -> Place:
        """Width and tokens."""
        return self.width, self.tokens


class Round(Frozen):
    """Cells trained together.

    Attributes:
        why: the reason for them.
        target_flops: for which they were chosen.
        before, predicted: the intervals without them, and as they should be after them; None
            where there were too few losses for a forecast.
    """

    cells: tuple[ChosenCell, ...]
    why: str
    target_flops: float
    before: Width | None = None
    predicted: Width | None = None


class Rounds(Frozen):
    """What was chosen so far.

    Attributes:
        grid_sha256: of the whole grid's runs.
        had: ids of runs of the whole grid that were finished before the first round.
        cells, flops: in the whole grid, and what it costs.
        stopped: why no further cell is trained; empty while the sweep goes on.
        reached: the intervals at the end.
    """

    grid_sha256: str
    cells: int
    flops: int
    had: tuple[str, ...]
    rounds: tuple[Round, ...]
    stopped: str = ""
    reached: Width | None = None


def read_rounds(folder: Path) -> Rounds | None:
    """The rounds of a sweep's folder; None, and a line in the log, where they are damaged."""
    return read_or_warn(folder / "rounds.json", Rounds, "the sweep is designed anew")


def target_of(whole: Plan) -> float:
    """The 6·N·D at which N* and the loss are to become sure."""
    design = whole.spec.design
    if design is not None and design.target_flops is not None:
        return design.target_flops
    return _FAR * max(each.flops_6nd for each in pool(whole).values())


def plans_in_rounds(whole: Plan, home: Home, folder: Path) -> Iterator[Plan]:
    """The plan of all rounds so far, each time with one more, as long as a round is worth it.

    The caller trains what is missing of a plan before it asks for the next.

    Args:
        whole: the plan of the whole grid.
    """
    cells, path = pool(whole), folder / "rounds.json"
    record = _begin(whole, home, folder)
    while True:
        write_whole(path, record.model_dump_json(indent=1))
        planned = rounds_plan(
            whole, cells, record.had, [{c.place for c in each.cells} for each in record.rounds]
        )
        yield planned
        table = own_table(observations_frame(planned.runs, home))
        step = _not_started(planned, home) or _next_round(whole, planned, table, record)
        if isinstance(step, str):
            reached = _reached(table, target_of(whole))
            record = record.model_copy(update={"stopped": step, "reached": reached})
            write_whole(path, record.model_dump_json(indent=1))
            return
        log.info("round %d: %s", len(record.rounds) + 1, step.why)
        record = record.model_copy(update={"rounds": (*record.rounds, step)})


def _begin(whole: Plan, home: Home, folder: Path) -> Rounds:
    """The record of an interrupted design, or the first round of a new one."""
    ids = json.dumps([run.id for run in whole.runs])
    grid_sha256 = hashlib.sha256(ids.encode()).hexdigest()
    record = read_rounds(folder)
    if record is not None and record.grid_sha256 == grid_sha256:
        return record.model_copy(update={"stopped": "", "reached": None})
    if record is not None:
        log.warning("%s had another grid or recipe: the sweep is designed anew", folder)
    had = [run for run in whole.runs if RunDir(home.runs / run.id).finished()]
    cells = pool(whole)
    known = [cells[place] for place in places_of(had)]
    first = _first_round(list(cells.values()), known, target_of(whole))
    return Rounds(
        grid_sha256=grid_sha256,
        cells=len(cells),
        flops=whole.flops_spent,
        had=tuple(run.id for run in had),
        rounds=() if first is None else (first,),
    )


def _first_round(offered: list[PoolCell], known: list[PoolCell], target: float) -> Round | None:
    """The cheapest cells that give a forecast enough rows; None where it has them."""
    places = {each.place for each in known}
    free = [each for each in offered if each.place not in places]
    chosen = first_cells(free, known, FEWEST_PLACES, FEWEST_SIZES)
    if not chosen:
        return None
    why = f"the smallest budgets, for {NEEDS}"
    return Round(cells=tuple(map(_chosen, chosen)), why=why, target_flops=target)


def _not_started(planned: Plan, home: Home) -> str:
    """Which runs the cap left out; empty if it left out none."""
    names = [run.name for run in planned.runs if RunDir(home.runs / run.id).result() is None]
    return f"the cap leaves out {', '.join(names)}" if names else ""


def _next_round(whole: Plan, planned: Plan, table: Table, record: Rounds) -> Round | str:
    """The cells to train next, or why there are none."""
    cells, target = pool(whole), target_of(whole)
    had = places_of(run for run in planned.runs if run.id in record.had)
    had |= {cell.place for each in record.rounds for cell in each.cells}
    free = [each for place, each in cells.items() if place not in had]
    if not free:
        return "every cell of the grid is trained"
    used = table.used
    if too_few(used):
        # Trainings failed: others take their place.
        losses = set(used.select("n_params", "tokens").rows())
        known = [each for each in cells.values() if (each.n_params, each.cell.tokens) in losses]
        more = _first_round(list(free), known, target)
        assert more is not None
        return more
    budget = _left(whole, planned, record)
    affordable = [each for each in free if each.cell.train_flops <= budget]
    if not affordable:
        least = min(each.cell.train_flops for each in free)
        return (
            f"the cap leaves {flops(max(budget, 0.0))} FLOPs, and the cheapest cell that is not "
            f"trained takes {flops(least)}"
        )
    try:
        return _worthwhile(table, affordable, target, budget)
    except TableError as error:
        return f"there is no forecast to choose by: {error}".removesuffix(".")


def _worthwhile(table: Table, free: list[PoolCell], target: float, budget: float) -> Round | str:
    """The cells that save more of the target than they cost, or the verdict that none does.

    With the verdict stands the first of what must be read before the forecast.

    Where the forecast has no valley, so that nothing can be priced, all that were chosen.
    """
    offered = _candidates(free)
    answer = next_runs(table, offered, target, budget, _A_ROUND)
    runs = answer.runs if answer.saves_alone is None else answer.runs[: answer.worthwhile]
    why = " ".join([verdict(answer), *first_lines(answer.forecast)[:1]])
    if not runs:
        # The first choice teaches most for its cost; another may still be the one that pays.
        best = _pays_alone(answer)
        if best is None:
            return why.removesuffix(".").removeprefix("stop: ")
        free = [free[best]]
        runs = next_runs(table, _candidates(free), target, budget, 1).runs
    return Round(
        cells=tuple(_chosen(free[run.candidate], run) for run in runs),
        why=why,
        target_flops=target,
        before=_width(answer.today),
        predicted=_width(runs[-1].together),
    )


def _pays_alone(answer: NextRuns) -> int | None:
    """The candidate that saves most in excess of its cost; None if none does."""
    assert answer.saves_alone is not None
    net = answer.saves_alone - answer.candidates.flops
    best = int(net.argmax())
    return best if net[best] > 0 else None


def _left(whole: Plan, planned: Plan, record: Rounds) -> float:
    """FLOPs that the cap leaves by what was planned: repeated steps of a kill change no choice."""
    cap = whole.spec.cap
    if not isinstance(cap, FlopsCap):
        # Hours and money are measured when a run is admitted.
        return float("inf")
    return cap.flops - sum(run.flops_spent for run in planned.runs if run.id not in record.had)


def _reached(table: Table, target: float) -> Width | None:
    try:
        return _width(intervals_today(table, target))
    except TableError:
        return None


def _candidates(free: list[PoolCell]) -> Candidates:
    columns = [(each.n_params, each.cell.tokens, each.cell.train_flops) for each in free]
    return Candidates(*np.array(columns, float).T)


def _chosen(each: PoolCell, run: NextRun | None = None) -> ChosenCell:
    foretold = None
    if run is not None:
        low, high = run.loss_interval
        foretold = Foretold(loss=run.loss, lower=low, upper=high)
    width, tokens = each.place
    return ChosenCell(
        width=width,
        tokens=tokens,
        n_params=each.n_params,
        flops=each.cell.train_flops,
        foretold=foretold,
    )


def _width(intervals: Intervals) -> Width:
    return Width(n_factor=intervals.n_factor, loss_percent=intervals.loss_percent)
