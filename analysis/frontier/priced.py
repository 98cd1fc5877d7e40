"""The answer in dollars on a named GPU: the cheapest size, and how far the batch moves it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from analysis.frontier.allocation import inference_optimal_with_bill
from analysis.frontier.decision import Goal, Like, quantiles, reaching_draws
from analysis.frontier.serving import DoesNotFit, Serving, Shape
from analysis.frontier.serving_choice import (
    ServedChoice,
    Workload,
    general_condition_residual,
    menu,
    smooth_bill,
    smooth_choice,
)
from analysis.law import Law, LossLaw

# Published shapes to price.
MENU = (
    "LLaMA-7B",
    "LLaMA-13B",
    "LLaMA-33B",
    "LLaMA-65B",
    "Llama-2-70B",
    "Llama-3-8B",
    "Llama-3-70B",
)
# Batches to answer at beside the one that was asked for.
_BATCHES = (1, 8, 32, 128)


@dataclass(frozen=True)
class ServedAdvice:
    """The answer in dollars on a named GPU.

    Attributes:
        serving: how the model is served; the size hangs on its batch.
        batches: the cheapest size at other batches too: batch, N, D, usd_per_million_generated,
            total_usd; null where no size fits the GPUs.
        intervals: of N, D and total_usd over the law's draws; empty without draws.
        asked_usd: training and serving of the model that the goal names; None where it names none.
        menu: published shapes priced for the same loss, cheapest first.
        condition_residual: distance of the choice from the condition of a smooth optimum; large
            where memory caps the size.
    """

    serving: Serving
    choice: ServedChoice
    batches: pl.DataFrame
    intervals: dict[str, tuple[float, float]]
    asked_usd: tuple[float, float] | None
    menu: pl.DataFrame
    condition_residual: float


def served_advice(
    law: LossLaw,
    goal: Goal,
    serving: Serving,
    tokens: tuple[float, float],
    *,
    days: float | None,
    level: float,
) -> ServedAdvice:
    """The cheapest size in dollars for the goal's loss, trained and served on one kind of GPU.

    Args:
        tokens: prompt and generated over the model's life.
        days: rent whole replicas this long when pricing published shapes.

    Raises:
        FrontierError: the question has no answer on these GPUs.
    """
    loss = float(goal.loss_under(law))
    workload = Workload(*tokens, train_device=serving.device)
    choice = smooth_choice(law, loss, serving, workload)
    asked = None
    if isinstance(goal, Like):
        train = workload.usd_per_train_flop * 6 * goal.N * goal.D
        asked = (train, float(smooth_bill(goal.N, serving, workload)))
    shapes = [Shape.published(name) for name in MENU]
    return ServedAdvice(
        serving,
        choice,
        _batches(law, loss, serving, workload, (*_BATCHES, serving.batch)),
        {} if choice.capped else _intervals(law, goal, serving, workload, level),
        asked,
        menu(law, loss, serving, workload, shapes, days=days),
        general_condition_residual(law, choice),
    )


def _batches(
    law: Law, loss: float, serving: Serving, workload: Workload, batches: Sequence[int]
) -> pl.DataFrame:
    names = ("N", "D", "usd_per_million_generated", "total_usd")
    rows = []
    for batch in sorted(set(batches)):
        row: dict[str, float | None] = {"batch": batch}
        try:
            choice = smooth_choice(law, loss, replace(serving, batch=batch), workload)
            row |= {name: getattr(choice, name) for name in names}
        except DoesNotFit:
            row |= dict.fromkeys(names)
        rows.append(row)
    schema: dict[str, type[pl.DataType]] = {"batch": pl.Int64} | dict.fromkeys(names, pl.Float64)
    return pl.DataFrame(rows, schema=schema)


def _intervals(
    law: LossLaw, goal: Goal, serving: Serving, workload: Workload, level: float
) -> dict[str, tuple[float, float]]:
    if not law.draws:
        return {}
    draws, losses, _ = reaching_draws(law, goal)
    N, D = inference_optimal_with_bill(
        draws,
        loss=losses,
        bill=lambda size: smooth_bill(size, serving, workload),
        train_price=workload.usd_per_train_flop,
    )
    total = workload.usd_per_train_flop * 6 * N * D + smooth_bill(N, serving, workload)
    ends = {name: quantiles(x, level) for name, x in (("N", N), ("D", D), ("total_usd", total))}
    return {name: (float(low.item()), float(high.item())) for name, (low, high) in ends.items()}
