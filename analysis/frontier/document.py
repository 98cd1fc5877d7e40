"""The advice as plain data: the contract of `isoflop frontier --json`."""

from dataclasses import asdict
from typing import Any, get_args

import numpy as np

from analysis.frontier.allocation import Allocation
from analysis.frontier.answer import Advice, StockedAdvice
from analysis.frontier.decision import Quantity
from analysis.frontier.priced import ServedAdvice
from analysis.frontier.text import warnings


def advice_json(advice: Advice) -> dict[str, Any]:
    """The answer as plain numbers, FLOPs and tokens unscaled; null where a part has no answer."""
    answer = advice.frontier
    optimum, baseline = answer.optimum, answer.compute_optimal
    low, high = advice.demand.bounds
    draws = len(next(iter(advice.law.draws.values()), ()))
    return {
        "warnings": warnings(advice),
        "law": advice.law.model_dump(exclude={"draws": True, "repeated": {"draws"}})
        | {"draws": draws},
        "goal": {"kind": type(advice.goal).__name__} | asdict(advice.goal),
        "loss": answer.loss,
        "demand": {
            "low": low,
            "high": high,
            "planned": advice.planned,
            "prompt_tokens": advice.demand.split(advice.planned)[0],
            "generated_tokens": advice.demand.split(advice.planned)[1],
        },
        "compute_optimal": _allocation(baseline, answer.loss),
        "optimum": _allocation(optimum, answer.loss) | {"saving": answer.saving.item()},
        "asked": None if advice.asked is None else _allocation(advice.asked, answer.loss),
        "intervals": _intervals(advice),
        "spread_over_laws": advice.laws.to_dicts(),
        "training_rules": advice.training_rules.to_dicts(),
        "support": _support(advice),
        "regret": {
            "true": advice.regret_demands,
            "planned": advice.regret_demands,
            "extra": advice.regret.tolist(),
        },
        "break_even_tokens": advice.break_even if np.isfinite(advice.break_even) else None,
        "same_bill": _allocation(advice.same_bill, advice.same_bill.loss.item()),
        "stock": _stocked(advice.stocked, answer.loss, advice.level),
        "serving": _serving(advice.served),
    }


def _allocation(choice: Allocation, loss: float) -> dict[str, float]:
    values = {name: np.asarray(getattr(choice, name)).item() for name in get_args(Quantity)}
    return values | {"loss": loss}


def _intervals(advice: Advice) -> dict[str, Any] | None:
    answer = advice.frontier
    saving = answer.saving_interval(advice.level)
    if saving is None or answer.drawn is None:
        return None
    ends: dict[str, Any] = {
        "level": advice.level,
        "method": "forecast" if advice.foretold else "bootstrap",
        "draws": answer.drawn.N.shape[0],
        "unreachable": answer.unreachable,
        "saving": [end.item() for end in saving],
    }
    for name in get_args(Quantity):
        interval = answer.interval(name, advice.level)
        assert interval is not None
        ends[name] = [end.item() for end in interval]
    return ends


def _support(advice: Advice) -> dict[str, Any]:
    """The box of the law's data, and whether the answer lies in it; null where unknown."""
    support, outside = advice.law.support, advice.extrapolated
    baseline = advice.frontier.compute_optimal
    if support is None or outside is None:
        return {"box": None, "compute_optimal_inside": None, "extrapolation": None}
    inside = support.contains(baseline.N, baseline.D, baseline.train_flops)
    return {
        "box": support.model_dump(),
        "compute_optimal_inside": bool(inside),
        "extrapolation": outside,
    }


def _stocked(stocked: StockedAdvice | None, loss: float, level: float) -> dict[str, Any] | None:
    if stocked is None:
        return None
    drawn, intervals = stocked.drawn, None
    if drawn is not None:
        intervals = {
            "level": level,
            "draws": len(drawn.choice.N),
            "unreachable": drawn.unreachable,
            "repetition_drawn": stocked.stock.costs_drawn,
            **{name: list(ends) for name, ends in drawn.intervals(level).items()},
        }
    return _allocation(stocked.choice, loss) | {
        "unique_tokens": stocked.stock.U,
        "epochs": stocked.epochs,
        "over_fresh": stocked.over_fresh,
        "half_lives_borrowed": stocked.stock.borrowed,
        "form": stocked.stock.form,
        "chosen_on": None if stocked.stock.own is None else stocked.stock.own.source,
        "intervals": intervals,
    }


def _serving(served: ServedAdvice | None) -> dict[str, Any] | None:
    if served is None:
        return None
    choice = served.choice
    return asdict(choice) | {
        "total_usd": choice.total_usd,
        "saving": choice.saving,
        "spend_ratio": choice.spend_ratio,
        "condition_residual": served.condition_residual,
        "intervals": {name: list(ends) for name, ends in served.intervals.items()} or None,
        "assumed": asdict(served.serving),
        "batches": served.batches.to_dicts(),
        "asked_usd": served.asked_usd,
        "menu": served.menu.to_dicts(),
    }
