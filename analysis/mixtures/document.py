"""A mixture's answer as JSON: the contract of `isoflop mix --json`, floats with every digit."""

from dataclasses import asdict
from typing import Any

import numpy as np

from analysis.law import Array
from analysis.mixtures.answer import Answer, Foretold
from analysis.mixtures.choice import CrossValidation
from analysis.mixtures.measured import Measured
from analysis.mixtures.text import first_lines


def mix_json(answer: Answer) -> dict[str, Any]:
    """The answer as JSON; docs/mixtures.md explains the keys."""
    table, best = answer.table, answer.best
    intervals = zip(table.sources, answer.intervals.tolist(), strict=True)
    return {
        "warnings": first_lines(answer),
        "law": {"name": answer.score.law.name, "formula": answer.score.law.formula},
        "cross_validation": _score(answer, answer.score)
        | {"laws": {score.law.name: _score(answer, score) for score in answer.scores}},
        "level": answer.question.level,
        "target": dict(zip(table.targets, answer.weights.tolist(), strict=True)),
        "size": answer.size,
        "loss_unit": table.loss_unit,
        "best": {
            "shares": _by(table.sources, best.shares),
            "intervals": {name: {"lower": low, "upper": high} for name, (low, high) in intervals},
            "limits": {
                name: limit
                for name, limit in _by(table.sources, answer.limits).items()
                if limit < 1
            },
            **_foretold(answer, best),
            "gain_over_best_tried": asdict(answer.gain),
        },
        "points": [_foretold(answer, point) for point in answer.points],
        **_measured(answer.measured),
        "effects": [
            {
                "source": effect.source,
                "share": effect.share,
                "factor": effect.factor,
                "loss": {
                    name: asdict(loss)
                    for name, loss in zip(table.targets, effect.losses, strict=True)
                },
            }
            for effect in answer.effects
        ],
        "rows": len(table),
        "mixtures": int(table.mixture.max()) + 1,
        "notes": list(answer.notes),
    }


def _score(answer: Answer, score: CrossValidation) -> dict[str, Any]:
    targets = answer.table.targets
    return {
        "rank": _number(score.mean_rank),
        "r2": _number(score.mean_r2),
        "pooled_rank": _number(score.pooled_rank),
        "pooled_r2": _number(score.pooled_r2),
        "by_loss": {
            name: {"rank": _number(float(rank)), "r2": _number(float(r2))}
            for name, rank, r2 in zip(targets, score.rank, score.r2, strict=True)
        },
    }


def _foretold(answer: Answer, point: Foretold) -> dict[str, Any]:
    return {
        "loss": {
            name: asdict(loss)
            for name, loss in zip(answer.table.targets, point.losses, strict=True)
        },
        "pooled": asdict(point.pooled),
        "outside": point.outside,
    }


def _measured(measured: Measured | None) -> dict[str, Any]:
    """How well the law predicts the points' own losses; empty values where they have none."""
    if measured is None:
        return {"points_rank": {}, "points_choice": None}
    choice = measured.choice
    ranks = dict(measured.ranks)
    if measured.pooled is not None:
        ranks["pooled"] = measured.pooled
    return {
        "points_rank": ranks,
        "points_choice": None if choice is None else asdict(choice) | {"regret": choice.regret},
    }


def _by(names: tuple[str, ...], values: Array) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))


def _number(value: float) -> float | None:
    """JSON has no nan."""
    return value if np.isfinite(value) else None
