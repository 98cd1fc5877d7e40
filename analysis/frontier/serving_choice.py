"""The cheapest model in dollars, with serving priced by the roofline of `frontier.serving`.

There are two ways to choose. Over all sizes the bill is smooth, and a search finds the optimum.
Over published shapes whole GPUs and memory make the bill jump, so every shape is priced.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from analysis.frontier.allocation import FrontierError, contour_above_E, inference_optimal_with_bill
from analysis.frontier.overtraining import elasticity_ratio
from analysis.frontier.serving import TRAIN_MFU, Device, DoesNotFit, Serving, Shape
from analysis.law import Array, Law
from analysis.words import short

# Step in log N of numerical slopes.
NUDGE = 1e-4


@dataclass(frozen=True)
class Workload:
    """Tokens over the model's life, prompt and generated apart, and the price of training.

    Attributes:
        train_device: the GPU of the training, at its price.
    """

    prompt_tokens: float
    generated_tokens: float
    train_device: Device

    @property
    def usd_per_train_flop(self) -> float:
        """Dollars for one training FLOP."""
        device = self.train_device
        return device.usd_per_hour / (3600 * device.flops * TRAIN_MFU)


@dataclass(frozen=True)
class ServedChoice:
    """The cheapest size in dollars, beside the compute-optimal one.

    Attributes:
        eta: elasticity of the serving bill in N; 1 if all of it were proportional to 2·N FLOPs.
        capped: the GPUs' memory, not the price, set the size.
        usd_per_gb: fall of the lifetime bill with one more GB of GPU memory; zero unless
            `capped`.
        baseline_usd: lifetime bill of the compute-optimal model of the same loss.
    """

    N: float
    D: float
    train_usd: float
    inference_usd: float
    eta: float
    capped: bool
    usd_per_gb: float
    gpus: int
    decode_mfu: float
    usd_per_million_generated: float
    usd_per_million_prompt: float
    baseline_N: float
    baseline_usd: float

    @property
    def total_usd(self) -> float:
        """Training and serving."""
        return self.train_usd + self.inference_usd

    @property
    def spend_ratio(self) -> float:
        """Serving bill over training bill."""
        return self.inference_usd / self.train_usd

    @property
    def saving(self) -> float:
        """Share of the compute-optimal model's lifetime bill that is saved."""
        return 1 - self.total_usd / self.baseline_usd


def smooth_choice(
    law: Law, loss: float, serving: Serving, workload: Workload, *, kv_share: float = 1.0
) -> ServedChoice:
    """The cheapest LLaMA-like size of a loss, within the memory of the GPUs.

    Raises:
        UnreachableLoss: the loss is not above E.
        DoesNotFit: no size that reaches the loss fits the GPUs.
    """
    price = workload.usd_per_train_flop
    contour = contour_above_E(law, loss)

    def bill(N: Array) -> Array:
        return smooth_bill(N, serving, workload, kv_share=kv_share)

    def total(N: Array) -> Array:
        return np.asarray(price * 6 * N * contour.tokens(N) + bill(N))

    best = inference_optimal_with_bill(law, loss=loss, bill=bill, train_price=price)
    N, D = (float(value) for value in best)
    cap = largest_size(serving, kv_share=kv_share)
    capped = cap < N
    if capped:
        if cap <= float(contour.N_min):
            raise DoesNotFit(
                f"loss {loss:.6g} needs more than {short(float(contour.N_min))} parameters; "
                f"{serving.gpus} × {serving.device.name} at {serving.weight_bits:g} bits hold "
                f"{short(cap)}. Use more GPUs, fewer bits, a smaller batch, or a higher loss."
            )
        N, D = cap, float(contour.tokens(cap))
    shape = Shape.llama_like(N, kv_share=kv_share)
    N0, D0 = float(contour.N(0.0)), float(contour.D(0.0))
    nudged = np.log(bill(_around(N)))
    return ServedChoice(
        N=N,
        D=D,
        train_usd=price * 6 * N * D,
        inference_usd=float(bill(np.asarray(N))),
        eta=float(nudged[1] - nudged[0]) / (2 * NUDGE),
        capped=capped,
        usd_per_gb=_shadow_price(total, N, serving, kv_share) if capped else 0.0,
        gpus=serving.require_fit(shape),
        decode_mfu=float(serving.decode_mfu(shape)),
        usd_per_million_generated=1e6 * float(serving.usd_per_generated_token(shape)),
        usd_per_million_prompt=1e6 * float(serving.usd_per_prompt_token(shape)),
        baseline_N=N0,
        baseline_usd=price * 6 * N0 * D0 + float(bill(np.asarray(N0))),
    )


def smooth_bill(
    N: ArrayLike, serving: Serving, workload: Workload, *, kv_share: float = 1.0
) -> Array:
    """Lifetime serving bill in dollars of LLaMA-like models of N parameters."""
    shape = Shape.llama_like(N, kv_share=kv_share)
    return serving.bill(shape, workload.prompt_tokens, workload.generated_tokens)


def general_condition_residual(law: Law, choice: ServedChoice) -> float:
    """Distance of a choice from eps_N/eps_D = 1 + eta·(serving bill)/(training bill)."""
    ratio = float(elasticity_ratio(law, choice.N, choice.D))
    return ratio / (1 + choice.eta * choice.spend_ratio) - 1


def largest_size(serving: Serving, *, kv_share: float = 1.0) -> float:
    """Parameters of the largest LLaMA-like model whose weights and cache fit the GPUs."""
    room = serving.gpus * serving.usable_bytes
    low, high = 1.0, room / (serving.weight_bits / 8)
    for _ in range(100):
        middle = (low * high) ** 0.5
        fits = serving.memory_bytes(Shape.llama_like(middle, kv_share=kv_share)) <= room
        low, high = (middle, high) if fits else (low, middle)
    return low


def menu(
    law: Law,
    loss: float,
    serving: Serving,
    workload: Workload,
    shapes: Sequence[Shape],
    *,
    days: float | None = None,
) -> pl.DataFrame:
    """Every shape priced for the same loss, cheapest first; impossible ones last, with a reason.

    Args:
        days: rent whole replicas around the clock for this long; None buys GPU time by the
            second.

    Raises:
        UnreachableLoss: the loss is not above E.
        FrontierError: `days` is not above zero.
    """
    if days is not None and not days > 0:
        raise FrontierError(f"a rent of {days:g} days is too short: --days must be above zero.")
    contour = contour_above_E(law, loss)
    rows = []
    for shape in shapes:
        N = float(shape.n_params)
        D = float(contour.tokens(N))
        row: dict[str, object] = {"model": shape.name, "N": N, "reason": None}
        if not np.isfinite(D):
            least = short(float(contour.N_min))
            row["reason"] = f"too small: the loss needs more than {least} parameters"
        elif int(serving.gpus_needed(shape)) > serving.gpus:
            row["reason"] = (
                f"does not fit: {int(serving.gpus_needed(shape))} × {serving.device.name}"
            )
        else:
            train = workload.usd_per_train_flop * 6 * N * D
            served, gpus = _rented(shape, serving, workload, days)
            row |= {
                "D": D,
                "gpus": gpus,
                "train_usd": train,
                "inference_usd": served,
                "total_usd": train + served,
            }
        rows.append(row)
    bills = dict.fromkeys(("train_usd", "inference_usd", "total_usd"), pl.Float64)
    sizes = {"model": pl.String, "N": pl.Float64, "D": pl.Float64, "gpus": pl.Int64}
    schema = {**sizes, **bills, "reason": pl.String}
    return pl.DataFrame(rows, schema=schema).sort("total_usd", nulls_last=True)


def _around(N: float) -> Array:
    return np.asarray(N * np.exp([-NUDGE, NUDGE]))


def _shadow_price(
    total: Callable[[Array], Array], N: float, serving: Serving, kv_share: float
) -> float:
    """Dollars saved by one more GB, from the slopes of bill and memory at the cap."""
    bills = total(_around(N))
    needed = serving.memory_bytes(Shape.llama_like(_around(N), kv_share=kv_share))
    return float((bills[0] - bills[1]) / (needed[1] - needed[0]) * 1e9)


def _rented(
    shape: Shape, serving: Serving, workload: Workload, days: float | None
) -> tuple[float, int]:
    """Serving bill and GPUs held at once."""
    bill = float(serving.bill(shape, workload.prompt_tokens, workload.generated_tokens))
    gpus = int(serving.gpus_needed(shape))
    if days is None:
        return bill, gpus
    rent = gpus * days * 24 * serving.device.usd_per_hour
    replicas = max(1, ceil(bill / rent))
    return replicas * rent, replicas * gpus
