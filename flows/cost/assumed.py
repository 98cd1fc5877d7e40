"""How fast a GPU trains that is not here: a share of its peak, from published trainings."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from analysis import published
from flows.cost.estimate import Speed
from flows.cost.timing import Timing
from llama_core.config import Placement
from llama_core.counting import forward_flops_per_sequence, train_flops
from llama_core.memory import MEMORY_SHARE, rows_that_fit
from sweeps.cap import AssumedSpeed
from sweeps.spec import PlannedRun

# Published trainings of one size differ by up to this factor from their mean, either way.
SPREAD = 1.4
# Trainings within this factor of N are averaged to one point of the curve.
_ONE_SIZE = 1.4
# The published trainings have at least 10,000 tokens in a micro-step. Assumed, not published: with
# fewer than this the time of a micro-step no longer falls.
_FULL_MICRO_STEP = 8192


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that a plan is made for.

    Attributes:
        flops: dense bf16 peak in FLOP/s.
        usd_per_hour: the listed price; None if there is no listed price.
    """

    name: str
    flops: float
    memory_bytes: float
    usd_per_hour: float | None


def device_of(speed: AssumedSpeed) -> Gpu:
    """The GPU of an assumed speed: of the published table, or as its peak and memory say.

    Raises:
        published.UnknownName: no such GPU is listed, and its peak or its memory is not given.
    """
    if speed.peak is not None and speed.memory_gb is not None:
        return Gpu(speed.gpu, speed.peak, speed.memory_gb * 1e9, None)
    row = published.device(speed.gpu)
    memory = row["memory_bytes"] if speed.memory_gb is None else speed.memory_gb * 1e9
    return Gpu(row["name"], speed.peak or row["flops"], memory, row["usd_per_hour"])


def published_mfu(n_params: int) -> float:
    """MFU of trainings of about N parameters, from `published.training_speeds`.

    Geometric means of published trainings of like size, interpolated in ln N. Above the largest,
    its value. Below the smallest (N = 124M) nothing was found: assumed to fall with √N, as the
    matmuls get smaller and the fixed time of each operation does not.
    """
    sizes, shares = _curve()
    N = np.log(n_params)
    return float(np.exp(np.interp(N, sizes, shares) + min(0.0, N - sizes[0]) / 2))


def assumed(speed: AssumedSpeed, device: Gpu, placement: Placement) -> Speed:
    """Speed of a GPU that is not here, at a fraction of its peak.

    Without a fraction each run has that of `published_mfu` for its N, less where memory leaves a
    micro-step fewer than 8,192 tokens; the range is a factor of 1.4 either way.
    """
    ranks = placement.ranks

    def timing(run: PlannedRun) -> Timing:
        model, train = run.run.model, run.run.train
        share, spread = speed.mfu, 1.0
        if share is None:
            tokens = micro_batch_rows(run, placement, device.memory_bytes) * train.seq_len
            share = published_mfu(run.n_params) * min(1.0, tokens / _FULL_MICRO_STEP)
            spread = SPREAD
        rate = device.flops * share * ranks
        step = train_flops(model, train.seq_len, train.batch_tokens) / rate
        per_token = forward_flops_per_sequence(model, train.seq_len) / train.seq_len
        return Timing(
            step_s=step,
            blocks=(step / spread, step, step * spread),
            warm_s=0.0,
            eval_s_per_token=per_token / rate,
            checkpoint_s=0.0,
        )

    share = "the share that published trainings of each size reach"
    if speed.mfu is not None:
        share = f"MFU {speed.mfu:g}"
    basis = (
        f"assuming {share} of the {device.name}'s dense bf16 peak of "
        f"{device.flops / 1e12:,.0f} TFLOP/s; start-up, compilation and checkpoints are not "
        "included"
    )
    return Speed(timing=timing, start_s=0.0, around_s=0.0, basis=basis)


def micro_batch_rows(run: PlannedRun, placement: Placement, gpu_bytes: float) -> int:
    """Rows of a rank's micro-step on a GPU with this memory: as many as are wanted and fit."""
    model, train = run.run.model, run.run.train
    rows = max(1, train.batch_tokens // train.seq_len // placement.ranks)
    if placement.micro_batch_rows is not None:
        rows = min(rows, placement.micro_batch_rows)
    eager = placement.attention == "eager"
    budget = gpu_bytes * MEMORY_SHARE
    return rows_that_fit(model, train, placement, rows=rows, eager=eager, budget=budget)


@cache
def _curve() -> tuple[np.ndarray, np.ndarray]:
    """ln N and ln MFU of the published trainings, those of one size averaged."""
    table = published.training_speeds().sort("n_params")
    groups: list[list[tuple[float, float]]] = []
    for row in table.iter_rows(named=True):
        N = row["n_params"]
        # Counted as this project counts: attention over the causal half.
        flops = 6 * N + 6 * row["n_layers"] * row["seq_len"] * row["d_model"]
        mfu = flops * row["tokens_per_s"] / published.device(row["device"])["flops"]
        point = (np.log(N), np.log(mfu))
        if groups and point[0] - groups[-1][0][0] < np.log(_ONE_SIZE):
            groups[-1].append(point)
        else:
            groups.append([point])
    means = np.array([np.mean(group, axis=0) for group in groups])
    return means[:, 0], means[:, 1]
