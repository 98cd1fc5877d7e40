"""Which sizes each budget of an IsoFLOP grid keeps, and which bound leaves out the others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llama_core.config import ModelConfig
from llama_core.counting import count_params, train_flops
from sweeps.grid import IsoflopGrid
from sweeps.shapes import Size, key
from sweeps.spec import PlannedRun, SweepSpec

# Tokens per parameter of the compute-optimal model, by Hoffmann et al. 2022, table 3; sweeps of
# our own gave 14 to 27 (docs/benchmarks/demo_sweep.md).
EXPECTED_OPTIMUM = 20.0


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A size that a bound of the grid leaves out of a budget.

    Attributes:
        setting: the setting that holds the bound.
        bound: the bound in words, as in `D/N below 1.5`.
        tokens_per_param: D/N it would have had.
    """

    name: str
    setting: str
    bound: str
    tokens_per_param: float


@dataclass(frozen=True, slots=True)
class BudgetSizes:
    """The sizes at one budget: those kept with their D/N, and those left out."""

    budget: float
    kept: dict[str, float]
    left_out: tuple[LeftOut, ...]

    @property
    def bounds(self) -> dict[str, list[str]]:
        """The sizes left out by each bound."""
        names: dict[str, list[str]] = {}
        for each in self.left_out:
            names.setdefault(each.bound, []).append(each.name)
        return names


def coverage(spec: SweepSpec, runs: Sequence[PlannedRun]) -> list[BudgetSizes]:
    """The sizes at each budget, in rising order; empty for another grid."""
    grid = spec.grid
    if not isinstance(grid, IsoflopGrid):
        return []
    ladder = spec.sizes
    rows = []
    for budget in sorted(grid.budgets):
        kept = {
            name_of(spec, run.run.model): cell.tokens / run.n_params
            for run in runs
            for cell in run.cells
            if cell.flops_budget == budget
        }
        others = [size.model for size in ladder if name_of(spec, size.model) not in kept]
        left_out = tuple(_left_out(spec, grid, model, budget) for model in others)
        rows.append(BudgetSizes(budget, kept, left_out))
    return rows


def name_of(spec: SweepSpec, model: ModelConfig) -> str:
    """A size as its runs' names begin."""
    return f"d{key(spec.ladder, model)}"


def asked(spec: SweepSpec) -> list[Size]:
    """The sizes whose N the spec asks for, with the shape chosen for each."""
    ladder = spec.sizes
    return [size for size in ladder if size.asked is not None]


def size_at(spec: SweepSpec, budget: float, tokens_per_param: float) -> str:
    """N of a model that spends the budget at this D/N, to two digits."""
    models = [size.model for size in spec.sizes]
    guess = math.sqrt(budget / (6 * tokens_per_param))
    # Attention and the head make the FLOPs of a token more than 6·N, less so as models grow.
    nearest = min(models, key=lambda model: abs(math.log(count_params(model).n_params / guess)))
    per_param = _flops_per_token(spec, nearest) / count_params(nearest).n_params
    N = math.sqrt(budget / (per_param * tokens_per_param))
    return f"{float(f'{N:.2g}'):,.0f}"


def _left_out(spec: SweepSpec, grid: IsoflopGrid, model: ModelConfig, budget: float) -> LeftOut:
    tokens = budget / _flops_per_token(spec, model)
    ratio = tokens / count_params(model).n_params
    low, high = grid.tokens_per_param
    # Tokens are rounded to whole steps, so what is next to a bound may lie beyond it.
    if tokens < grid.min_tokens:
        setting, bound = "grid.min_tokens", f"fewer than {grid.min_tokens:,} tokens"
    elif abs(math.log(ratio / low)) < abs(math.log(ratio / high)):
        setting, bound = "grid.tokens_per_param", f"D/N below {low:g}"
    else:
        setting, bound = "grid.tokens_per_param", f"D/N above {high:g}"
    return LeftOut(name_of(spec, model), setting, bound, ratio)


def _flops_per_token(spec: SweepSpec, model: ModelConfig) -> float:
    return train_flops(model, spec.seq_len, spec.seq_len) / spec.seq_len
