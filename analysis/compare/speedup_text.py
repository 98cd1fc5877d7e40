"""What changes are worth in sentences, short tables and JSON, for terminal and page."""

from math import isfinite
from typing import Any

from analysis.compare.speedup import Answer, Multiplier, Projection, Speedup
from analysis.compare.variants import Variants
from analysis.words import flops

RANK_HEADER = ("variant", "compute", "time", "at the target", "verdict")
UNDER_HEADER = ("variant", "irreducible loss", "is", "compute", "at the target", "verdict")
_KINDS = {"shared": "one for both", "free": "one for each", "given": "the given one"}


def lead_lines(variants: Variants) -> list[str]:
    """The answer: the best variant, and how many are shown to need less."""
    known = [each for each in variants.ranked if each.speedup is not None]
    if not known:
        return []
    best = known[0].speedup
    assert best is not None
    lines = [_worth(best, variants.baseline), *_projected(best)]
    if len(known) > 1:
        better = sum(each.speedup.lead.pooled.gain for each in known if each.speedup)
        lines.insert(
            0,
            f"{better} of {len(known)} variants {'is' if better == 1 else 'are'} shown to need "
            f"less compute than {variants.baseline} for the same loss.",
        )
    return lines


def rank_rows(variants: Variants) -> list[list[str]]:
    """Each variant under `RANK_HEADER`, the best first."""
    rows = []
    for each in variants.ranked:
        worth = each.speedup
        if worth is None:
            rows.append([each.name, "–", "–", "–", "none"])
            continue
        rows.append(
            [
                each.name,
                shown(worth.lead.pooled),
                "–" if worth.time is None else shown(worth.time),
                *_ahead(worth.lead.projection),
            ]
        )
    return rows


def budget_table(variants: Variants) -> tuple[list[str], list[list[str]]]:
    """The compute multiplier at each common budget: header and rows.

    A row a variant, or of one variant a row a budget.
    """
    known = [each.speedup for each in variants.ranked if each.speedup is not None]
    columns = sorted({flops(at.flops) for worth in known for at in worth.lead.by_budget}, key=float)
    if len(known) == 1:
        [worth] = known
        by_budget = [[flops(at.flops), shown(at.compute)] for at in worth.lead.by_budget]
        return ["C, FLOPs", worth.name], by_budget
    rows = []
    for worth in known:
        cells = {flops(at.flops): shown(at.compute) for at in worth.lead.by_budget}
        rows.append([worth.name, *(cells.get(column, "–") for column in columns)])
    return ["variant", *(f"C = {column}" for column in columns)], rows


def under_rows(variants: Variants) -> list[list[str]]:
    """Each variant under each assumption about the irreducible loss; see `UNDER_HEADER`."""
    return [
        [
            worth.name,
            _KINDS[answer.asymptote],
            _asymptote(answer),
            shown(answer.pooled),
            *_ahead(answer.projection),
        ]
        for worth in (each.speedup for each in variants.ranked)
        if worth is not None
        for answer in (worth.lead, *worth.others)
    ]


def method(variants: Variants) -> str:
    """How the multipliers and their intervals were made."""
    known = [each.speedup for each in variants.ranked if each.speedup is not None]
    if not known:
        return ""
    matched = {worth.matched for worth in known}
    target = known[0].lead.projection
    ahead = f"; the target is {flops(target.flops)} FLOPs" if target is not None else ""
    timeless = known[0].no_time if known[0].time is None else ""
    return (
        f"Above 1 the variant needs less. {variants.level:.0%} intervals; compute and time are "
        f"over the common budgets{ahead}. Runs of the same size, compute and seed, "
        f"{_range(matched)} in both, have their residuals drawn together, with all horizons of "
        "their trainings." + (f" No time: {timeless}." if timeless else "")
    )


def shown(multiplier: Multiplier) -> str:
    """A multiplier with its interval."""
    value = f"{multiplier.value:.3f}" if isfinite(multiplier.value) else "no limit"
    if multiplier.lower is None:
        return value
    upper = "no limit" if multiplier.upper is None else _digits(multiplier.upper)
    return f"{value} [{_digits(multiplier.lower)}, {upper}]"


def speedup_json(worth: Speedup) -> dict[str, Any]:
    """The multipliers with every digit; null for no interval, and for no limit."""
    lead = worth.lead
    return {
        "compute": _multiplier_json(lead.pooled),
        "time": None if worth.time is None else _multiplier_json(worth.time),
        "no_time": worth.no_time,
        **_answer_json(lead),
        "asymptote": {
            "kind": lead.asymptote,
            **_E_json(lead),
            "others": {
                other.asymptote: {
                    **_E_json(other),
                    "compute": _multiplier_json(other.pooled),
                    **_answer_json(other),
                }
                for other in worth.others
            },
        },
        "matched_runs": worth.matched,
        "drawn_groups": worth.units,
        "doubts": list(worth.doubts),
    }


def _worth(worth: Speedup, baseline: str) -> str:
    pooled = worth.lead.pooled
    spread = shown(pooled)
    if not isfinite(pooled.value):
        text = (
            f"No change is shown: by the fit {worth.name} reaches losses that no compute gives "
            f"{baseline}"
        )
    elif pooled.gain:
        text = f"{worth.name} needs {spread} times less compute than {baseline} for the same loss"
    elif pooled.upper is not None and pooled.lower is not None and pooled.upper < 1:
        text = (
            f"{worth.name} needs {shown(_inverse(pooled))} times more compute than {baseline} for "
            "the same loss"
        )
    elif pooled.lower is None:
        text = (
            f"No change is shown: too few runs for an interval. By the fit alone {worth.name} "
            f"needs {spread} times less compute than {baseline} for the same loss"
        )
    else:
        text = (
            f"No change is shown: {worth.name} needs {spread} times less compute than {baseline} "
            "for the same loss"
        )
    if worth.time is not None:
        more = worth.time.value < 1
        time = _inverse(worth.time) if more else worth.time
        text += f", and {shown(time)} times {'more' if more else 'less'} time"
    return f"{text}."


def _inverse(multiplier: Multiplier) -> Multiplier:
    """How many times more, of how many times less."""
    lower, upper = (
        None if end is None or end == 0 else 1 / end for end in (multiplier.upper, multiplier.lower)
    )
    return Multiplier(1 / multiplier.value, lower, upper)


def _projected(worth: Speedup) -> list[str]:
    ahead = worth.lead.projection
    if ahead is None:
        return []
    apart = [
        f"{answer.projection.verdict} with {_KINDS[answer.asymptote]}"
        for answer in worth.others
        if answer.projection is not None and answer.projection.verdict != ahead.verdict
    ]
    kind = _KINDS[worth.lead.asymptote]
    hangs = f" It hangs on the irreducible loss ({kind}): {', '.join(apart)}." if apart else ""
    value = f"At {flops(ahead.flops)} FLOPs the multiplier is {shown(ahead.compute)}"
    return [f"{value}: {ahead.verdict}.{hangs}"]


def _ahead(projection: Projection | None) -> tuple[str, str]:
    if projection is None:
        return "–", "one budget shows no slope"
    return shown(projection.compute), projection.verdict


def _asymptote(answer: Answer) -> str:
    if answer.asymptote == "free":
        return f"{answer.E[0]:.3f} and {answer.E[1]:.3f}"
    if answer.E_interval is None:
        return f"{answer.E[0]:.3f}"
    return f"{answer.E[0]:.3f} [{answer.E_interval[0]:.3f}, {answer.E_interval[1]:.3f}]"


def _digits(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.3g}"


def _range(counts: set[int]) -> str:
    return f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"


def _answer_json(answer: Answer) -> dict[str, Any]:
    ahead = answer.projection
    return {
        "by_budget": [
            {"flops": at.flops, **_multiplier_json(at.compute)} for at in answer.by_budget
        ],
        "projection": None
        if ahead is None
        else {
            "flops": ahead.flops,
            **_multiplier_json(ahead.compute),
            "verdict": ahead.verdict,
        },
    }


def _E_json(answer: Answer) -> dict[str, Any]:
    low, high = answer.E_interval or (None, None)
    return {"value": answer.E[0], "lower": low, "upper": high, "variant": answer.E[1]}


def _multiplier_json(multiplier: Multiplier) -> dict[str, Any]:
    value = multiplier.value if isfinite(multiplier.value) else None
    return {"value": value, "lower": multiplier.lower, "upper": multiplier.upper}
