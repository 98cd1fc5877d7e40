"""Cells that could be trained after a sweep, of its own shapes and recipe, and a spec of some."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from llama_core.config import ModelConfig
from llama_core.counting import count_params, train_flops
from sweeps.grid import CellsGrid, IsoflopGrid
from sweeps.plan import Plan
from sweeps.recipe import rates
from sweeps.shapes import at_width, key, only
from sweeps.spec import SweepSpec

# Longest name of a spec, less the suffix.
_NAME = 64 - len("-next")


@dataclass(frozen=True, slots=True)
class NextCell:
    """A model trained on some tokens; `train_flops` are counted, of it alone."""

    model: ModelConfig
    n_params: int
    tokens: int
    train_flops: int


def next_cells(
    planned: Plan, widths: Iterable[int], ratios: Iterable[float], flops: tuple[float, float]
) -> list[NextCell]:
    """Every width at every ratio of tokens to parameters, in whole steps of the sweep's recipe.

    Cells that the sweep has, that cost less or more counted FLOPs than the two, or that see fewer
    tokens than its grid allows are left out.

    Raises:
        ValueError: the ladder has no model of a width.
    """
    spec, ratios = planned.spec, list(ratios)
    fewest = spec.grid.min_tokens if isinstance(spec.grid, IsoflopGrid) else 0
    had = {(run.run.model, cell.tokens) for run in planned.runs for cell in run.cells}
    cells: dict[tuple[ModelConfig, int], NextCell] = {}
    models = [m for width in widths for m in at_width(spec.ladder, width, spec.make)]
    for model in dict.fromkeys(models):
        N = count_params(model).n_params
        for ratio in ratios:
            rate = rates(spec.recipe, model, tokens=ratio * N, seq_len=spec.seq_len)
            tokens = round(ratio * N / rate.batch_tokens) * rate.batch_tokens
            cost = train_flops(model, spec.seq_len, tokens)
            wanted = tokens >= max(fewest, 1) and flops[0] <= cost <= flops[1]
            if wanted and (model, tokens) not in had:
                cells[model, tokens] = NextCell(model, N, tokens, cost)
    return list(cells.values())


def ladder_and_neighbours(ladder: Iterable[int]) -> list[int]:
    """The widths of a ladder, those halfway between them, and one more at either end."""
    widths = sorted(ladder)
    between = list(_halfway(widths))
    step = widths[-1] - widths[-2] if len(widths) > 1 else 8
    ends = [widths[0] - 8, widths[-1] + step]
    return sorted({width for width in (*widths, *between, *ends) if width >= 8})


def _halfway(widths: list[int]) -> Iterator[int]:
    for low, high in pairwise(widths):
        middle = (low + high) // 16 * 8
        if low < middle < high:
            yield middle


def next_spec(planned: Plan, cells: Iterable[NextCell]) -> SweepSpec:
    """The sweep's spec with these cells in place of its own, named NAME-next."""
    tokens: dict[ModelConfig, list[int]] = {}
    for cell in sorted(cells, key=lambda each: (each.n_params, each.tokens)):
        tokens.setdefault(cell.model, []).append(cell.tokens)
    spec = planned.spec
    grid = CellsGrid(
        tokens={key(spec.ladder, each): tuple(tokens[each]) for each in tokens},
        continues=spec.name,
    )
    changes = {
        "name": f"{spec.name.replace('/', '-')[:_NAME]}-next",
        "description": f"the runs that sharpen the forecast of {spec.name} most",
        "ladder": only(spec.ladder, tokens),
        "grid": grid,
        "seeds": spec.seeds[:1],
        "cap": None,
        "design": None,
        "unique_tokens": (),
    }
    return SweepSpec.model_validate(spec.model_dump() | changes)
