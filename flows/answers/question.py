"""What a frontier is asked: the goal, the demand and the serving that options describe.

Loads no scipy, so that a question without an answer is refused at once.
"""

import math
from dataclasses import dataclass

from analysis.frontier.answer import Demand
from analysis.frontier.decision import AtBudget, AtLoss, Goal, Like
from analysis.frontier.serving import Device, Serving

Bounds = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Priced:
    """What is served, and on what, beside the goal.

    Attributes:
        demand: tokens to serve over the model's life.
        serving: the GPUs that are paid for; None for FLOPs alone.
        days: how long whole replicas are rented; None for by the second.
        unique_tokens: of the training text; None where all is fresh.
    """

    demand: Demand
    serving: Serving | None = None
    days: float | None = None
    unique_tokens: float | None = None


def goal_of(loss: float | None, flops: float | None, like: Bounds | None) -> Goal:
    """The one quality that is asked for.

    Raises:
        ValueError: none or several are.
    """
    goals = {"--loss": loss, "--flops": flops, "--like": like}
    given = [option for option, value in goals.items() if value is not None]
    if len(given) != 1:
        raise ValueError(
            "say what quality you want with one of --loss L, --flops C or --like N,D"
            + (f"; got {' and '.join(given)}." if given else ".")
        )
    if loss is not None:
        return AtLoss(loss)
    if flops is not None:
        return AtBudget(flops)
    assert like is not None
    return Like(*like)


def demand_of(total: Bounds | None, prompt: Bounds | None, generated: Bounds | None) -> Demand:
    """Tokens to serve, together or apart, each from least to most.

    Raises:
        ValueError: both were given, or a number below zero or without end.
    """
    for name, bounds in (("inference", total), ("prompt", prompt), ("generated", generated)):
        if bounds is not None and not all(map(math.isfinite, bounds)):
            raise ValueError(f"--{name}-tokens {bounds[1]:g}: give a finite number of tokens.")
    if total is not None and (prompt is not None or generated is not None):
        raise ValueError(
            "give --inference-tokens, or --prompt-tokens and --generated-tokens, not both."
        )
    if total is not None:
        # Without a split every token counts as generated, the more expensive kind.
        return Demand(generated=total)
    return Demand(prompt=prompt or (0.0, 0.0), generated=generated or (0.0, 0.0))


def serving_of(
    gpu: str | None, price: float | None, demand: Demand, **options: float | None
) -> Serving | None:
    """The serving described by the options that were given; the others keep their defaults.

    Raises:
        ValueError: options without a GPU, a GPU without a demand, or a number that is not above
            zero, or infinite.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in {**given, "price": price}.items():
        if value is not None and not value > 0:
            raise ValueError(f"--{name} {value:g} must be above zero.")
        if value == math.inf:
            raise ValueError(f"--{name} {value:g} must be a finite number.")
    if gpu is None:
        if price is not None or given:
            raise ValueError(
                "--price, --gpus, --batch, --context, --bits and --days need --gpu: of which GPU?"
            )
        return None
    if demand.bounds[1] == 0:
        raise ValueError("--gpu prices serving: give --prompt-tokens and --generated-tokens.")
    given.pop("days", None)
    if "context" in given:
        given["prompt"] = given["context"]
    if "bits" in given:
        given["weight_bits"] = given.pop("bits")
    return Serving(Device.named(gpu, usd_per_hour=price), **given)  # type: ignore[arg-type]
