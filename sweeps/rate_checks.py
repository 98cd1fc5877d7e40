"""The two cheap runs that would show whether a size's learning rate is near its best."""

import shlex

from llama_core.config import Wsd
from sweeps.load import load_spec, presets
from sweeps.plan import Plan
from sweeps.spec import PlannedRun

# Half and twice: on the demo's corpus that costs 0.01 to 0.04 nats, above the noise of a seed.
FACTORS = (0.5, 2.0)


def extremes(plan: Plan) -> list[PlannedRun]:
    """The run of the smallest and of the largest model; its shortest training, of several."""
    by_width: dict[int, PlannedRun] = {}
    for run in plan.runs:
        width = run.run.model.d_model
        known = by_width.get(width)
        if known is None or run.cells[0].tokens < known.cells[0].tokens:
            by_width[width] = run
    return [by_width[width] for width in sorted({min(by_width), max(by_width)})]


def check_runs(run: PlannedRun) -> list[PlannedRun]:
    """The run at its shortest budget alone, with half and with twice its learning rate."""
    train, cell = run.run.train, run.cells[0]
    schedule = train.schedule
    if isinstance(schedule, Wsd):
        schedule = schedule.model_copy(update={"horizons": (cell.tokens,)})
    found = []
    for factor in FACTORS:
        optimizer = train.optimizer.model_copy(update={"lr": train.optimizer.lr * factor})
        changed = train.model_copy(update={"optimizer": optimizer, "schedule": schedule})
        found.append(
            run.model_copy(
                update={
                    "name": f"{run.name}-lr-x{factor:g}",
                    "run": run.run.model_copy(update={"train": changed}),
                    "cells": (cell,),
                }
            )
        )
    return found


def check_command(plan: Plan, check: PlannedRun) -> str:
    """What to type to train a check run; it has the same id.

    `SPEC` stands for whatever the sweep was planned from, with its overrides, where that is not a
    preset as it is shipped.
    """
    spec, train = plan.spec, check.run.train
    settings = [
        f"name={spec.name}-{check.name}".replace(".", "_")[:69],
        f"ladder.widths=[{check.run.model.d_model}]",
        f"grid={{kind: tokens, tokens: [{check.cells[0].tokens}]}}",
        f"recipe={{kind: fixed, lr: {train.optimizer.lr!r}, batch_tokens: {train.batch_tokens}}}",
        f"seeds=[{train.seed}]",
    ]
    shipped = spec.name in presets() and load_spec(spec.name) == spec
    words = [f"--set {shlex.quote(setting)}" for setting in settings]
    return " ".join(["isoflop sweep", spec.name if shipped else "SPEC", *words])
