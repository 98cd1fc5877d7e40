"""Two cheap runs that show whether the learning rate of a size is near its best."""

import shlex

from llama_core.config import Wsd
from sweeps.load import load_spec, presets
from sweeps.plan import Plan
from sweeps.spec import PlannedRun, Timescale

# Half and twice the rate cost 0.01 to 0.04 nats on the demo's corpus, above the noise of a seed.
FACTORS = (0.5, 2.0)


def extremes(plan: Plan) -> list[PlannedRun]:
    """The run of the smallest and of the largest model; the shortest, if a model has several."""
    by_width: dict[int, PlannedRun] = {}
    for run in plan.runs:
        width = run.run.model.d_model
        known = by_width.get(width)
        if known is None or run.cells[0].tokens < known.cells[0].tokens:
            by_width[width] = run
    return [by_width[width] for width in sorted({min(by_width), max(by_width)})]


def check_runs(run: PlannedRun) -> list[PlannedRun]:
    """The run, only to its shortest budget, with half and with twice its learning rate."""
    train, cell = run.run.train, run.cells[0]
    schedule = train.schedule
    if isinstance(schedule, Wsd):
        schedule = schedule.model_copy(update={"horizons": (cell.tokens,)})
    checks = []
    for factor in FACTORS:
        optimizer = train.optimizer.model_copy(update={"lr": train.optimizer.lr * factor})
        changed = train.model_copy(update={"optimizer": optimizer, "schedule": schedule})
        checks.append(
            run.model_copy(
                update={
                    "name": f"{run.name}-lr-x{factor:g}",
                    "run": run.run.model_copy(update={"train": changed}),
                    "cells": (cell,),
                }
            )
        )
    return checks


def check_command(plan: Plan, check: PlannedRun) -> str:
    """The command that trains a check run, with the same id.

    If the sweep is not a shipped preset, the command says `SPEC` for its spec and overrides.
    """
    spec, train = plan.spec, check.run.train
    # The timescale would ask for another weight decay at this one budget.
    by_timescale = isinstance(spec.weight_decay, Timescale)
    decay = [f"weight_decay={train.optimizer.weight_decay!r}"] if by_timescale else []
    settings = [
        f"name={spec.name}-{check.name}".replace(".", "_")[:69],
        f"ladder.widths=[{check.run.model.d_model}]",
        f"grid={{kind: tokens, tokens: [{check.cells[0].tokens}]}}",
        f"recipe={{kind: fixed, lr: {train.optimizer.lr!r}, batch_tokens: {train.batch_tokens}}}",
        *decay,
        f"seeds=[{train.seed}]",
    ]
    shipped = spec.name in presets() and load_spec(spec.name) == spec
    words = [f"--set {shlex.quote(setting)}" for setting in settings]
    return " ".join(["isoflop sweep", spec.name if shipped else "SPEC", *words])
