"""What one trunk costs its horizons, which share one learning rate and one batch."""

import math
from collections.abc import Sequence

from llama_core.config import ModelConfig
from sweeps.choices import Recipe
from sweeps.grid import Cell
from sweeps.recipe import has_budget, rates
from sweeps.spec import PlannedRun, SweepSpec

# Second derivatives of ln loss by ln lr, by ln batch, and by both: one curvature through 122
# losses at 15k to 80k parameters (bench/curvature.py, docs/benchmarks/trunk_horizons.md).
# With them change the trunks of every spec that has `max_trunk_cost`, and so the ids of its runs:
# finished ones train again. 3 % more regroups gpu-day (tests/unit/sweeps/test_gpu_presets.py).
LR_CURVATURE, BATCH_CURVATURE, CROSS_CURVATURE = 0.0184, 0.0221, -0.0099
BASIS = (
    "estimated from the rule's own values at each horizon and the loss's curvature at 15k to 80k "
    "parameters (docs/benchmarks/trunk_horizons.md)"
)
# More than this share of the loss is worth a second trunk; two seeds differ by about 0.5 %.
COSTLY = 0.003


def middle(cells: Sequence[Cell]) -> float:
    """The budget of tokens at which a rule is taken for all horizons of one trunk."""
    return math.sqrt(cells[0].tokens * cells[-1].tokens)


def shares_left(
    recipe: Recipe, model: ModelConfig, cells: Sequence[Cell], seq_len: int
) -> list[float] | None:
    """Share of the loss that one trunk leaves on the table at each of its horizons.

    The trunk has the recipe's rate and batch at the middle of its horizons. A horizon loses half
    the squared distance, in logs, to the recipe's own values there, weighed with the measured
    curvature.

    Returns:
        None for a recipe that does not know budgets, which cannot tell.
    """
    if not has_budget(recipe):
        return None
    if len(cells) == 1:
        return [0.0]
    shared = rates(recipe, model, tokens=middle(cells), seq_len=seq_len)
    shares = []
    for cell in cells:
        own = rates(recipe, model, tokens=cell.tokens, seq_len=seq_len)
        lr = math.log(shared.lr / own.lr)
        batch = math.log(shared.batch_tokens / own.batch_tokens)
        squares = LR_CURVATURE * lr**2 + BATCH_CURVATURE * batch**2
        shares.append(squares / 2 + CROSS_CURVATURE * lr * batch)
    return shares


def left_by_run(spec: SweepSpec, run: PlannedRun) -> list[float] | None:
    """`shares_left` of a planned run."""
    return shares_left(spec.recipe, run.run.model, run.cells, run.run.train.seq_len)


def trunks(spec: SweepSpec, model: ModelConfig, cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells of a model by trunk: as few as lose no more than `max_trunk_cost` allows.

    Args:
        cells: in rising order of tokens.
    """
    groups: list[list[Cell]] = []
    for cell in cells:
        together = [*groups[-1], cell] if groups else [cell]
        if groups and _allowed(spec, model, together):
            groups[-1] = together
        else:
            groups.append([cell])
    return groups


def _allowed(spec: SweepSpec, model: ModelConfig, cells: Sequence[Cell]) -> bool:
    matched = spec.mixtures is not None and spec.mixtures.target_tokens is not None
    if spec.schedule == "cosine" or matched:
        # A cosine decays to one horizon only, and the unique tokens of a source are of one.
        return False
    if spec.max_trunk_cost is None:
        return True
    shares = shares_left(spec.recipe, model, cells, spec.seq_len)
    return shares is None or max(shares) <= spec.max_trunk_cost
