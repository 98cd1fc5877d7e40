"""Next runs as JSON: the contract of `isoflop next --json`, floats with every digit."""

from dataclasses import asdict
from typing import Any

from analysis.forecast.text import first_lines
from analysis.next_runs.answer import NextRun, NextRuns
from analysis.next_runs.text import verdict


def next_json(answer: NextRuns) -> dict[str, Any]:
    """Next runs as JSON; docs/next_runs.md explains the keys."""
    best, today = answer.target, answer.forecast
    return {
        "warnings": first_lines(today),
        "verdict": verdict(answer),
        "worthwhile": answer.worthwhile,
        "flops": best.flops,
        "level": today.level,
        "n_opt": best.n_opt,
        "n_lower": best.n_interval[0],
        "n_upper": best.n_interval[1],
        "today": asdict(answer.today),
        "runs": [_run(run) for run in answer.runs],
        "budget": answer.budget,
        "candidates": len(answer.candidates),
        "unaffordable": int(answer.unaffordable.sum()),
    }


def _run(run: NextRun) -> dict[str, Any]:
    low, high = run.loss_interval
    return {
        "n_params": run.n_params,
        "tokens": run.tokens,
        "flops": run.flops,
        "spent": run.spent,
        "loss": run.loss,
        "loss_lower": low,
        "loss_upper": high,
        "alone": asdict(run.alone),
        "together": asdict(run.together),
        "saves_flops": run.saves,
    }
