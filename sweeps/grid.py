"""The token counts that each model is trained to on a grid."""

from llama_core.config import ModelConfig
from llama_core.counting import count_params, train_flops
from sweeps.spec import Cell, CellsGrid, Grid, IsoflopGrid


def cells(grid: Grid, model: ModelConfig, *, seq_len: int, batch_tokens: int) -> list[Cell]:
    """The horizons one model is trained to, in rising order of tokens, in whole steps.

    On an IsoFLOP grid D is the budget over the model's counted FLOPs per token, rounded to the
    nearest step; a budget whose D or D/N is outside the grid's bounds is skipped for this model.

    Raises:
        ValueError: two budgets round to the same number of steps.
    """
    if isinstance(grid, IsoflopGrid):
        N = count_params(model).n_params
        per_step = train_flops(model, seq_len, batch_tokens)
        low, high = grid.tokens_per_param
        planned: list[tuple[int, float | None]] = []
        for budget in sorted(grid.budgets):
            tokens = round(budget / per_step) * batch_tokens
            if tokens and tokens >= grid.min_tokens and low <= tokens / N <= high:
                planned.append((tokens, budget))
    else:
        counts = _counts(grid, model) if isinstance(grid, CellsGrid) else grid.tokens
        planned = [
            (max(1, round(tokens / batch_tokens)) * batch_tokens, None) for tokens in sorted(counts)
        ]
    _refuse_equal([tokens for tokens, _ in planned], model, batch_tokens)
    return [
        Cell(tokens=tokens, flops_budget=budget, train_flops=train_flops(model, seq_len, tokens))
        for tokens, budget in planned
    ]


def _counts(grid: CellsGrid, model: ModelConfig) -> tuple[int, ...]:
    """The tokens of a model, by its width or by width and depth, as its ladder has it."""
    return grid.tokens.get(model.d_model) or grid.tokens[f"{model.d_model}x{model.n_layers}"]


def in_steps(
    group: list[Cell], model: ModelConfig, *, seq_len: int, batch_tokens: int
) -> list[Cell]:
    """Cells rounded to whole steps of a batch.

    Raises:
        ValueError: two of them round to the same number of steps.
    """
    rounded = []
    for cell in group:
        tokens = max(1, round(cell.tokens / batch_tokens)) * batch_tokens
        flops = train_flops(model, seq_len, tokens)
        rounded.append(cell.model_copy(update={"tokens": tokens, "train_flops": flops}))
    _refuse_equal([cell.tokens for cell in rounded], model, batch_tokens)
    return rounded


def _refuse_equal(counts: list[int], model: ModelConfig, batch_tokens: int) -> None:
    if len(set(counts)) < len(counts):
        raise ValueError(
            f"two cells of d_model={model.d_model} round to the same number of steps of "
            f"{batch_tokens:,} tokens: {counts}. Space the budgets wider or lower batch_tokens."
        )
