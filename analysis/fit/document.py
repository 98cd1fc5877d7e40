"""A group's fit as JSON: the contract of `isoflop fit --json`, floats with every digit."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from analysis.fit.envelope import EnvelopeFit
from analysis.fit.isoflop import IsoflopFit
from analysis.fit.records import GroupFit
from analysis.law import constants_of
from analysis.repetition.document import repeated_json
from analysis.solver.problem import FREE
from analysis.table.sources import read_json


def group_json(group: GroupFit) -> dict[str, Any]:
    """A fit as JSON; docs/fitting/output.md explains the keys. Non-finite numbers become null."""
    fit, law, isoflop = group.fit, group.fit.law, group.isoflop
    constants = {name: getattr(law, name) for name in constants_of(law.form)}
    constants |= law.repetition.model_dump() if law.repetition else {}
    document: dict[str, Any] = {
        "group": group.group,
        "warnings": group.warnings,
        "read": read_json(group.read),
        "form": law.form,
        "law": constants,
        "free": FREE[law.form],
        "n_counts": law.n_counts,
        "c_counts": law.c_counts,
        "loss_unit": law.loss_unit,
        "objective": asdict(fit.objective),
        "status": fit.status,
        "at_bound": fit.at_bound,
        "rows": {
            "used": len(fit.rows_used),
            "excluded": [asdict(row) for row in fit.rows_excluded],
            "duplicates": [asdict(pair) for pair in group.duplicates],
        },
        "exponents": {"N": law.exponent_N, "D": law.exponent_D},
        "intervals": {
            "level": fit.intervals.level,
            "method": fit.intervals.method,
            **fit.intervals.values,
        },
        "standard_errors": fit.intervals.standard_errors,
        "intervals_beside": fit.intervals.beside,
        "verdicts": {
            name: {"verdict": judgement.verdict, "reason": judgement.reason}
            for name, judgement in group.verdicts.items()
        },
        "optimal": [
            {
                **asdict(point),
                "tokens_per_param": point.tokens_per_param,
                "n_opt_isoflop": isoflop.N.at(point.flops) if isoflop.N else None,
                "d_opt_isoflop": isoflop.D.at(point.flops) if isoflop.D else None,
            }
            for point in group.optimal
        ],
        "profiles": {
            name: {key: value for key, value in asdict(profile).items() if key != "quantity"}
            for name, profile in group.profiles.items()
        },
        "isoflop": _isoflop(isoflop),
        "parabola_bias": asdict(group.parabola_bias) if group.parabola_bias else None,
        "conventions": [asdict(convention) for convention in group.conventions],
        "influence": [asdict(row) for row in group.influence],
        "leave_one_out_percent": group.leave_one_out_percent,
        "doubts": group.doubts,
        **({"repeated": repeated_json(group.repeated)} if group.repeated else {}),
        "loss_law": law.model_dump(mode="json"),
    }
    return {key: _finite(value) for key, value in document.items()}


def envelope_json(fit: EnvelopeFit) -> dict[str, Any]:
    """Approach 1: exponents along the envelope of training curves, and the reason for none."""
    document: dict[str, Any] = {
        "exponent_N": fit.N.exponent if fit.N else None,
        "exponent_D": fit.D.exponent if fit.D else None,
        "power_laws": {
            "N": asdict(fit.N) if fit.N else None,
            "D": asdict(fit.D) if fit.D else None,
        },
        "vertices": fit.hull.height,
        "reason": fit.reason,
    }
    return {key: _finite(value) for key, value in document.items()}


def _isoflop(fit: IsoflopFit) -> dict[str, Any]:
    fields = asdict(fit)
    return {
        "budgets": fields["valleys"],
        "exponent_N": fit.N.exponent if fit.N else None,
        "coef_N": fit.N.coef if fit.N else None,
        "exponent_D": fit.D.exponent if fit.D else None,
        "coef_D": fit.D.coef if fit.D else None,
        "reason": fit.reason,
        "level": fit.level,
        "power_laws": {
            name: fields[name] for name in ("N", "D", "N_weighted", "D_weighted", "N_akima")
        },
    }


def _finite(value: Any) -> Any:
    """A value with null for NaN and infinity, and plain numbers for numpy's."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
