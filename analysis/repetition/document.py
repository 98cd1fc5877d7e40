"""A law of repeated data as plain data, for the document of a fit."""

from dataclasses import asdict
from typing import Any

from analysis.repetition.answer import RepeatedFit


def repeated_json(fit: RepeatedFit) -> dict[str, Any]:
    """The form chosen with its constants and intervals, and every form's error on rows held out."""
    choice = fit.choice
    return {
        "warnings": fit.warnings,
        "rows": {"used": fit.rows, "repeating": fit.repeating, "most_epochs": fit.most_epochs},
        "law": None if fit.law is None else fit.law.model_dump(mode="json", exclude={"draws"}),
        "reason": fit.reason or None,
        "intervals": {"level": fit.level, **(fit.intervals or {})},
        "fitted_percent": fit.fitted_percent,
        "costs": [asdict(cost) for cost in fit.costs],
        "rolling_origin": None
        if choice is None
        else {
            "folds": choice.folds,
            "predictions": len(choice.fresh.errors),
            "error_percent": {str(each.form.name): each.percent for each in choice.scores},
            "fresh_percent": choice.fresh.percent,
            "chosen": choice.chosen.form.name,
            "as_good": [each.form.name for each in choice.as_good],
        },
        "laws": {name: law.constants for name, law in fit.laws.items()},
    }
