"""A forecast as JSON: the contract of `isoflop forecast --json`, floats with every digit."""

from dataclasses import asdict
from typing import Any

from analysis.forecast.answer import Answer, ForecastOptimum, ForecastPoint
from analysis.forecast.record import Cut
from analysis.forecast.text import first_lines
from analysis.law import CONSTANTS


def answer_json(answer: Answer) -> dict[str, Any]:
    """A forecast as JSON; docs/forecasting.md explains the keys."""
    factor = answer.data.bytes_factor
    learnt, data, law = answer.posterior, answer.data, answer.law
    return {
        "warnings": first_lines(answer),
        "status": answer.status,
        "level": answer.level,
        "points": [_point(point, factor) for point in answer.points],
        "optimum": [optimum_json(each, factor) for each in answer.optimum],
        "record": {"level": answer.level, "cuts": [_cut(cut) for cut in answer.record]},
        "law": {"form": answer.form, **{name: getattr(law, name) for name in CONSTANTS}},
        "scales": {
            "sigma": learnt.sigma,
            "tau": learnt.tau,
            "weight_of_largest_tau": learnt.weight_of_largest_tau,
            "replicated_sd": learnt.rows.replicated_sd,
        },
        "data": {
            "rows": data.rows,
            "copies": data.copies,
            "left_out": data.left_out,
            "places": data.places,
            "sizes": data.sizes,
            "flops": list(data.flops),
            "tokens_per_param": list(data.ratio),
        },
        "n_counts": law.n_counts,
        "c_counts": law.c_counts,
        "loss_unit": law.loss_unit,
        "bars": list(answer.bars),
        "doubts": [*answer.doubts, *(doubt for each in answer.optimum for doubt in each.doubts)],
    }


def optimum_json(each: ForecastOptimum, factor: float | None) -> dict[str, Any]:
    """N* and D* at a budget; `factor` times the loss is bits per byte, None without them."""
    best = each.best
    (n_lower, n_upper), (d_lower, d_upper) = best.n_interval, best.d_interval
    ends = {
        end: {"loss": best.loss * rise, "flops_share": wasted}
        for end, rise, wasted in zip(
            ("n_lower", "n_upper"), best.rise, best.regret_flops, strict=True
        )
    }
    return {
        "flops": best.flops,
        "n_opt": best.n_opt,
        "n_lower": n_lower,
        "n_upper": n_upper,
        "d_opt": best.d_opt,
        "d_lower": d_lower,
        "d_upper": d_upper,
        "loss": best.loss,
        "loss_lower": best.loss_interval[0],
        "loss_upper": best.loss_interval[1],
        **_bits(factor, loss=best.loss, lower=best.loss_interval[0], upper=best.loss_interval[1]),
        "regret": ends,
        "beyond": asdict(each.beyond),
        "calibrated": each.calibrated,
        "reason": each.reason,
        "others": [asdict(other) for other in each.others],
    }


def _point(point: ForecastPoint, factor: float | None) -> dict[str, Any]:
    return {
        "n_params": point.n_params,
        "tokens": point.tokens,
        "flops": point.flops,
        "loss": point.loss,
        "lower": point.lower,
        "upper": point.upper,
        **_bits(factor, loss=point.loss, lower=point.lower, upper=point.upper),
        "beyond": asdict(point.beyond),
        "shares": asdict(point.shares),
        "calibrated": point.calibrated,
        "reason": point.reason,
    }


def _bits(factor: float | None, *, loss: float, lower: float, upper: float) -> dict[str, Any]:
    if factor is None:
        return {}
    named = {"loss": loss, "lower": lower, "upper": upper}
    return {"bits_per_byte": {name: value * factor for name, value in named.items()}}


def _cut(cut: Cut) -> dict[str, Any]:
    return {
        "factor": cut.factor,
        "learnt": cut.learnt,
        "rows": cut.rows,
        **asdict(cut.forecast),
        "approach_3": None if cut.approach_3 is None else asdict(cut.approach_3),
    }
