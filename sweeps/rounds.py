"""The runs of a sweep that is designed in rounds: cells of its grid, chosen one round at a time."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from llama_core.config import ModelConfig
from llama_core.counting import count_params
from sweeps.grid import Cell
from sweeps.plan import Plan, runs_of
from sweeps.spec import PlannedRun

# Width and tokens of a cell.
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class PoolCell:
    """A cell of the whole grid."""

    model: ModelConfig
    cell: Cell

    @property
    def place(self) -> Place:
        """Width and tokens."""
        return self.model.d_model, self.cell.tokens

    @property
    def n_params(self) -> int:
        """N, see `llama_core.counting.ParamCounts`."""
        return count_params(self.model).n_params

    @property
    def flops_6nd(self) -> int:
        """6·N·D."""
        return 6 * self.n_params * self.cell.tokens


def pool(whole: Plan) -> dict[Place, PoolCell]:
    """Every cell of a plan by its place: small budgets first, in them the cheapest first."""
    cells = [PoolCell(run.run.model, cell) for run in whole.runs for cell in run.cells]
    cells.sort(key=lambda each: (_budget(each), each.cell.train_flops, each.place))
    return {each.place: each for each in cells}


def places_of(runs: Iterable[PlannedRun]) -> set[Place]:
    """The cells of runs."""
    return {(run.run.model.d_model, cell.tokens) for run in runs for cell in run.cells}


def first_cells(
    offered: Sequence[PoolCell], had: Sequence[PoolCell], rows: int, sizes: int
) -> list[PoolCell]:
    """Cells of whole budgets, the smallest first, until there are so many rows and sizes.

    On a grid without budgets they are taken one by one, the cheapest first.

    Args:
        offered: cells in the order of `pool`.
        had: cells that have a loss already.
    """
    chosen: list[PoolCell] = []
    for each in offered:
        models = {cell.n_params for cell in (*had, *chosen)}
        enough = len(had) + len(chosen) >= rows and len(models) >= sizes
        if enough and _budget(each) != _budget(chosen[-1] if chosen else None):
            break
        chosen.append(each)
    return chosen


def rounds_plan(
    whole: Plan, cells: Mapping[Place, PoolCell], had: Collection[str], rounds: Iterable[set[Place]]
) -> Plan:
    """The plan of all rounds so far, in rising order of cost as every plan.

    Cells of one width and round share a trunk where the schedule has one.

    Args:
        had: ids of runs of the whole plan that were finished before the first round.
    """
    runs = [run for run in whole.runs if run.id in had]
    [seed] = whole.spec.seeds
    for number, places in enumerate(rounds, 1):
        for width in sorted({width for width, _ in places}):
            chosen = sorted(place for place in places if place[0] == width)
            model = cells[chosen[0]].model
            grid = [cells[place].cell for place in chosen]
            for run in runs_of(whole.spec, model, grid, seed, whole.data):
                # A cosine's name has its tokens already.
                shared = whole.spec.schedule == "wsd" and number > 1
                name = f"{run.name}-r{number}" if shared else run.name
                runs.append(run.model_copy(update={"name": name}))
    runs.sort(key=lambda run: (run.flops_spent, run.name))
    return whole.model_copy(update={"runs": tuple(runs)})


def _budget(each: PoolCell | None) -> float | None:
    if each is None:
        return None
    return each.cell.flops_budget or float(each.cell.train_flops)
