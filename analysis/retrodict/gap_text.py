"""What beat GPT-3, PaLM and Chinchilla: in sentences, a table and JSON."""

from collections.abc import Sequence
from math import log10
from typing import Any

from analysis.retrodict.gap import Gap, Pair, Ratio, benchmarks
from analysis.words import flops

HEADER = ("model / rival", "law", "loss", "rival's loss", "worth", "left for the rest")
NOTE = (
    "Loss: of each one's N and D under the law. Worth: compute-optimal training for the rival's "
    "loss over that for the model's; above 1 the rival should be better. Left: worth over the "
    "block's multiplier. A star: one of them lies outside the law's data."
)
_UNBUILT = "this project does not build its block (relative positions)"

CANNOT = (
    "Losses on different texts and tokenizers do not compare, so no published loss enters: the "
    "losses here are a law's, for N and D on the law's own text. Benchmark results do compare.",
    "How the rest divides into text, tokenizer, epochs and recipe is not known: no model was "
    "trained with one of them exchanged.",
    "A lead on benchmarks is no number of FLOPs: at least means as good as the rival, no better.",
    "Fitted on other text: the laws disagree on what the same N and D are worth. Read the range.",
)


def lines(gaps: Sequence[Gap], pair: Pair) -> list[str]:
    """A pair in three sentences: who won, what allocation gives, what is left."""
    mine = [gap for gap in gaps if gap.pair == pair]
    first, counts = mine[0], benchmarks(pair)
    worths = [gap.worth.value for gap in mine]
    back = _span([gap.won_back for gap in mine])
    apart = [gap.losses[1] - gap.losses[0] for gap in mine]
    if min(worths) > 1:
        still = f"by N and D alone {pair.rival} should still be the better model under every law"
    elif max(worths) < 1:
        still = f"by N and D alone {pair.model} should be the better model under every law"
    else:
        still = "the laws disagree on which should be the better model by N and D alone"
    return [
        f"{pair.model} leads {pair.rival} in {counts.led} of {counts.count} published results "
        f"({counts.points:+.1f} points on average) with {first.parameters:.1f} times fewer "
        f"parameters and {first.spent:.2f} times less training compute.",
        f"Allocation, under {len(mine)} laws: {pair.rival} spent {first.spent:.2f} times the "
        f"compute, and {pair.model}'s better N and D make up a factor {back} of that"
        + (" (below 1: its N and D are the worse)" if min(gap.won_back for gap in mine) < 1 else "")
        + f". So {pair.rival}'s training is worth {_span(worths)} times {pair.model}'s, and its "
        f"loss less {pair.model}'s is {min(apart):+.3f} to {max(apart):+.3f}: {still}.",
        *_block_lines(mine),
    ]


def rows(gaps: Sequence[Gap]) -> list[list[str]]:
    """Each pair and law under `HEADER`."""
    return [
        [
            f"{gap.pair.model} / {gap.pair.rival}",
            gap.law + ("*" if gap.extrapolated else ""),
            f"{gap.losses[0]:.4f}",
            f"{gap.losses[1]:.4f}",
            _ratio(gap.worth),
            "block not measured" if gap.rest is None else _ratio(gap.rest),
        ]
        for gap in gaps
    ]


def gap_json(gap: Gap) -> dict[str, Any]:
    """A pair under a law as plain data."""
    counts = benchmarks(gap.pair)
    return {
        "rival": gap.pair.rival,
        "parameters_ratio": gap.parameters,
        "spent_ratio": gap.spent,
        "loss": gap.losses[0],
        "rival_loss": gap.losses[1],
        "loss_gap_by_allocation": gap.losses[1] - gap.losses[0],
        "worth": _ratio_json(gap.worth),
        "won_back_by_allocation": gap.won_back,
        "block": None
        if gap.block is None
        else {
            **_ratio_json(gap.block.worth),
            "flops": list(gap.block.flops),
            "source": gap.block.source,
        },
        "loss_by_block": gap.block_loss,
        "data_tokenizer_recipe_at_least": None if gap.rest is None else _ratio_json(gap.rest),
        "benchmarks": {"count": counts.count, "led": counts.led, "mean_lead": counts.points},
        "extrapolated": gap.extrapolated,
    }


def _block_lines(gaps: Sequence[Gap]) -> list[str]:
    """What the block is worth, and what is left for data, tokenizer and recipe."""
    first, pair = gaps[0], gaps[0].pair
    if first.block is None:
        why = _UNBUILT if pair.block is None else "no sweep of ours is recorded for it"
        worths = [gap.worth.value for gap in gaps]
        return [
            f"Block: not measured; {why}. Block, data, tokenizer and recipe of {pair.model} "
            f"together must be worth {_least(worths)} to match {pair.rival}."
        ]
    rests = [gap.rest for gap in gaps if gap.rest is not None]
    ends = [end for rest in rests for end in (rest.low, rest.high) if end is not None]
    low, high = first.block.flops
    decades = log10(first.flops / high)
    spread = f" ({_span(ends)} with intervals)" if ends else ""
    lowered = _span([gap.block_loss for gap in gaps if gap.block_loss is not None])
    return [
        f"Block: {_ratio(first.block.worth)} times less compute, {lowered} of loss, measured from "
        f"{flops(low)} to {flops(high)} FLOPs; whether it holds {decades:.0f} decades further up "
        f"is not known. If it did, data, tokenizer and recipe of {pair.model} must be worth "
        f"{_least([rest.value for rest in rests])}{spread} to match {pair.rival}."
    ]


def _least(values: Sequence[float]) -> str:
    """What the rest must be worth, over the laws."""
    low, high = min(values), max(values)
    if high <= 1:
        return "nothing more"
    return f"at least {_span(values)} times compute" + (
        " (below 1: nothing under the laws that say so)" if low < 1 else ""
    )


def _span(values: Sequence[float]) -> str:
    low, high = (f"{value:.2f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _ratio(ratio: Ratio) -> str:
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.2f}"
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def _ratio_json(ratio: Ratio) -> dict[str, float | None]:
    return {"value": ratio.value, "lower": ratio.low, "upper": ratio.high}
