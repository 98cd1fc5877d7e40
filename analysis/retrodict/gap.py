"""Why a smaller model beat a larger one: what the laws give N and D, what is left for the rest.

A law's loss of a model's N and D is worth some compute-optimal training. Where the loser's is
worth more than the winner's, allocation does not explain who won: block, data, tokenizer and
recipe of the winner must be worth at least that many times compute.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from analysis import published
from analysis.frontier.decision import extrapolated, quantiles
from analysis.frontier.overtraining import same_loss_optimum
from analysis.law import Array, Constants, Law, LossLaw

# The block that our families are named after.
_OURS = "llama"


@dataclass(frozen=True, slots=True)
class Pair:
    """A model, the larger or costlier one it is held against, and that one's block.

    Attributes:
        block: the rival's, as a spec names it; None where this project does not build it.
    """

    model: str
    rival: str
    block: str | None


PAIRS = (
    Pair("LLaMA-13B", "GPT-3", "gpt3"),
    Pair("LLaMA-33B", "PaLM-62B", "palm"),
    # Gopher's, with relative positions (Hoffmann et al. 2022, section 4; Rae et al. 2021).
    Pair("LLaMA-65B", "Chinchilla", None),
)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A number with an interval where there is one."""

    value: float
    low: float | None = None
    high: float | None = None

    def over(self, other: "Ratio") -> "Ratio":
        """This ratio over another, at the ends that lie furthest apart."""
        if other.low is None or other.high is None:
            return Ratio(self.value / other.value)
        low, high = self.low or self.value, self.high or self.value
        return Ratio(self.value / other.value, low / other.high, high / other.low)


@dataclass(frozen=True, slots=True)
class Block:
    """How many times less our block needs than a rival's, and from which to which C it was so."""

    worth: Ratio
    flops: tuple[float, float]
    source: str


@dataclass(frozen=True, slots=True)
class Gap:
    """A pair under one law.

    Attributes:
        flops: 6·N·D of the model.
        parameters, spent: the rival's parameters and training FLOPs (6·N·D) over the model's.
        losses: of the model's and the rival's N and D under the law, in the law's units.
        worth: compute-optimal training for the rival's loss over that for the model's.
        won_back: spent/worth, how much of the difference in compute the model's allocation wins.
        block: how many times less the model's block needs than the rival's; None: not measured.
        rest: worth over block, what data, tokenizer and recipe must be worth at least.
        block_loss: by how much the block lowers the model's loss under the law.
        extrapolated: whether one of the models lies outside the law's data; None: not known.
    """

    pair: Pair
    law: str
    flops: float
    parameters: float
    spent: float
    losses: tuple[float, float]
    worth: Ratio
    won_back: float
    block: Block | None
    block_loss: float | None
    rest: Ratio | None
    extrapolated: bool | None


@dataclass(frozen=True, slots=True)
class Benchmarks:
    """Published results that both models have: how many, how many the model leads, mean lead."""

    count: int
    led: int
    points: float


def gaps(
    laws: Sequence[LossLaw],
    *,
    level: float = 0.9,
    speedups: pl.DataFrame | None = None,
) -> list[Gap]:
    """Every pair under every law.

    Args:
        level: of the interval of a law that carries draws.
        speedups: a table as of `published.block_speedups`, which is taken unless given.
    """
    speedups = published.block_speedups() if speedups is None else speedups
    sizes = {
        row["model"]: (float(row["n_params"]), float(row["tokens"]))
        for row in published.models().iter_rows(named=True)
    }
    return [
        _gap(pair, law, np.array([sizes[pair.model], sizes[pair.rival]]).T, level, speedups)
        for pair in PAIRS
        for law in laws
    ]


def block_speedup(rival: str | None, speedups: pl.DataFrame) -> Block | None:
    """What our block is worth against the rival's, whichever was the baseline."""
    for row in speedups.iter_rows(named=True):
        if {row["baseline"], row["variant"]} != {rival, _OURS}:
            continue
        worth = Ratio(row["compute"], row["lower"], row["upper"])
        if row["baseline"] == _OURS:
            worth = Ratio(1.0).over(worth)
        return Block(worth, (row["flops_low"], row["flops_high"]), row["source"])
    return None


def benchmarks(pair: Pair) -> Benchmarks:
    """Published results of both under the same metric and shots; averages of others left out."""
    keys = ["family", "benchmark", "metric", "shots"]
    results = published.results().filter(~pl.col("benchmark").str.ends_with("Average"))
    mine, other = (
        results.filter(pl.col("model") == name).select(*keys, "value")
        for name in (pair.model, pair.rival)
    )
    both = mine.join(other, on=keys, suffix="_rival")
    lead = (both["value"] - both["value_rival"]).to_numpy()
    return Benchmarks(len(lead), int((lead > 0).sum()), float(lead.mean()))


def _gap(pair: Pair, law: LossLaw, sizes: Array, level: float, speedups: pl.DataFrame) -> Gap:
    N, D = sizes
    spent = float(N[1] * D[1] / (N[0] * D[0]))
    losses = law.loss(N, D)
    worth = Ratio(float(_worth(law, N, D)[0]))
    if law.draws:
        low, high = quantiles(_worth(Constants.of_draws(law), N, D), level)
        worth = Ratio(worth.value, float(low[0]), float(high[0]))
    block = block_speedup(pair.block, speedups)
    outside = extrapolated(law, N, D)
    block_loss = None
    if block is not None:
        slope = law.alpha * law.beta / (law.alpha + law.beta) * law.gamma
        block_loss = float((losses[0] - law.E) * (1 - block.worth.value**-slope))
    return Gap(
        pair=pair,
        law=law.name,
        flops=float(6 * N[0] * D[0]),
        parameters=float(N[1] / N[0]),
        spent=spent,
        losses=(float(losses[0]), float(losses[1])),
        worth=worth,
        won_back=spent / worth.value,
        block=block,
        block_loss=block_loss,
        rest=None if block is None else worth.over(block.worth),
        extrapolated=None if outside is None else bool(outside.any()),
    )


def _worth(law: Law, N: Array, D: Array) -> Array:
    """Compute-optimal training for the rival's loss over that for the model's, (…, 1)."""
    best_N, best_D = same_loss_optimum(law, N, D)
    product = best_N * best_D
    return np.asarray(product[..., 1:] / product[..., :1])
