"""Grids: the token counts of each size, as a person writes them, and the cells they give."""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from llama_core.config import Frozen, ModelConfig
from llama_core.counting import count_params, train_flops
from sweeps.ladder import different


class IsoflopGrid(Frozen):
    """Every size at every budget of counted FLOPs, as long as D/N and D stay within bounds."""

    kind: Literal["isoflop"] = "isoflop"
    budgets: Annotated[
        tuple[Annotated[PositiveFloat, Field(allow_inf_nan=False)], ...],
        Field(min_length=1, description="C, counted training FLOPs of each isoflop"),
        AfterValidator(different),
    ]
    tokens_per_param: tuple[PositiveFloat, PositiveFloat] = Field(
        default=(1.0, 200.0), description="lowest and highest D/N of a cell"
    )
    min_tokens: NonNegativeInt = Field(
        default=0,
        description="no cell has fewer: in its first steps a loss falls by another law than later",
    )

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> "IsoflopGrid":
        low, high = self.tokens_per_param
        if low > high:
            raise ValueError(
                f"tokens_per_param is the lowest and the highest D/N, and {low:g} is above "
                f"{high:g}. Write [{high:g}, {low:g}]."
            )
        return self


class TokensGrid(Frozen):
    """Every size at every token count: N × D."""

    kind: Literal["tokens"] = "tokens"
    tokens: Annotated[
        tuple[PositiveInt, ...],
        Field(min_length=1, description="D of every size"),
        AfterValidator(different),
    ]


class CellsGrid(Frozen):
    """Single cells, as `isoflop next` writes them: token counts by width, or by WIDTHxDEPTH."""

    kind: Literal["cells"] = "cells"
    continues: str | None = Field(
        default=None,
        description="sweep that they are added to: table, law and report have its losses too",
    )
    tokens: Annotated[
        dict[
            PositiveInt | Annotated[str, Field(pattern=r"^[1-9]\d*x[1-9]\d*$")],
            Annotated[tuple[PositiveInt, ...], Field(min_length=1), AfterValidator(different)],
        ],
        Field(min_length=1, description="D of each size, by width or WIDTHxDEPTH"),
    ]


Grid = Annotated[IsoflopGrid | TokensGrid | CellsGrid, Field(discriminator="kind")]


class Cell(Frozen):
    """A planned observation: a horizon of a run and the isoflop it was planned on.

    Attributes:
        flops_budget: the isoflop in counted FLOPs; None on an N × D grid.
        train_flops: counted FLOPs of this horizon trained alone.
    """

    tokens: PositiveInt
    flops_budget: PositiveFloat | None
    train_flops: PositiveInt


def whole(tokens: float, unit: int) -> int:
    """Tokens rounded to whole units, at least one."""
    return max(1, round(tokens / unit)) * unit


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
        planned = [(whole(tokens, batch_tokens), None) for tokens in sorted(counts)]
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
        tokens = whole(cell.tokens, batch_tokens)
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
