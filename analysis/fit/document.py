"""A group's fit as JSON: the contract of `isoflop fit --json`, floats with every digit."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from analysis.fit.envelope import EnvelopeFit
from analysis.fit.isoflop import IsoflopFit
from analysis.fit.records import GroupFit, OptimalPoint
from analysis.solver.problem import FREE


def group_json(group: GroupFit) -> dict[str, Any]:
    """The keys are explained in docs/fitting/output.md; what is not finite becomes null."""
    fit, law = group.fit, group.fit.law
    names = ["E", "A", "B", "alpha", "beta"]
    if law.form in ("gamma", "kaplan"):
        names.append("gamma")
    constants: dict[str, float] = {name: getattr(law, name) for name in names}
    if law.repetition is not None:
        constants |= {"R_D": law.repetition.R_D, "R_N": law.repetition.R_N}
    document = {
        "group": group.group,
        "form": law.form,
        "law": constants,
        "free": list(FREE[law.form]),
        "n_counts": law.n_counts,
        "c_counts": law.c_counts,
        "loss_unit": law.loss_unit,
        "objective": asdict(fit.objective),
        "status": fit.status,
        "at_bound": list(fit.at_bound),
        "rows": {
            "used": len(fit.rows_used),
            "excluded": [asdict(row) for row in fit.rows_excluded],
            "duplicates": [asdict(pair) for pair in group.duplicates],
        },
        "exponents": {"N": law.exponent_N, "D": law.exponent_D},
        "intervals": {
            "level": fit.intervals.level,
            "method": fit.intervals.method,
            **_lists(fit.intervals.values),
        },
        "standard_errors": dict(fit.intervals.standard_errors),
        "intervals_beside": {
            method: _lists(values) for method, values in fit.intervals.beside.items()
        },
        "verdicts": {name: asdict(judgement) for name, judgement in group.verdicts.items()},
        "optimal": [_optimal(point) for point in group.optimal],
        "profiles": {
            name: {
                "flops": profile.flops,
                "estimate": profile.estimate,
                "interval": list(profile.interval),
                "threshold": profile.threshold,
                "values": profile.values.tolist(),
                "rise": profile.rise.tolist(),
            }
            for name, profile in group.profiles.items()
        },
        "isoflop": _isoflop(group.isoflop),
        "parabola_bias": asdict(group.parabola_bias) if group.parabola_bias else None,
        "conventions": [asdict(convention) for convention in group.conventions],
        "influence": [asdict(row) for row in group.influence],
        "leave_one_out_percent": group.leave_one_out_percent,
        "doubts": list(group.doubts),
        "loss_law": law.model_dump(mode="json"),
    }
    finite = _finite(document)
    assert isinstance(finite, dict)
    return finite


def envelope_json(fit: EnvelopeFit) -> dict[str, Any]:
    """Approach 1: exponents along the envelope of training curves, and the reason for none."""
    document = {
        "exponent_N": fit.N.exponent if fit.N else None,
        "exponent_D": fit.D.exponent if fit.D else None,
        "power_laws": {
            "N": asdict(fit.N) if fit.N else None,
            "D": asdict(fit.D) if fit.D else None,
        },
        "vertices": fit.hull.height,
        "reason": fit.reason,
    }
    finite = _finite(document)
    assert isinstance(finite, dict)
    return finite


def _optimal(point: OptimalPoint) -> dict[str, Any]:
    return {
        "flops": point.flops,
        "n_opt": point.n_opt,
        "d_opt": point.d_opt,
        "tokens_per_param": point.tokens_per_param,
        "loss": point.loss,
        "extrapolation": point.extrapolation,
        "intervals": _lists(point.intervals),
    }


def _isoflop(fit: IsoflopFit) -> dict[str, Any]:
    return {
        "budgets": [asdict(valley) for valley in fit.valleys],
        "exponent_N": fit.N.exponent if fit.N else None,
        "coef_N": fit.N.coef if fit.N else None,
        "exponent_D": fit.D.exponent if fit.D else None,
        "coef_D": fit.D.coef if fit.D else None,
        "reason": fit.reason,
        "level": fit.level,
        "power_laws": {
            name: asdict(law) if law else None
            for name, law in (
                ("N", fit.N),
                ("D", fit.D),
                ("N_weighted", fit.N_weighted),
                ("D_weighted", fit.D_weighted),
                ("N_akima", fit.N_akima),
            )
        },
    }


def _lists(intervals: Mapping[str, tuple[float, float]]) -> dict[str, list[float]]:
    return {name: list(interval) for name, interval in intervals.items()}


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity, and numpy's scalars are not its numbers."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
