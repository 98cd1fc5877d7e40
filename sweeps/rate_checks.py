"""Two cheap runs that show whether the learning rate of a size is near its best."""

import json
import shlex

from llama_core.config import Wsd
from sweeps.ladder import GIVEN_BY
from sweeps.load import load_spec, presets
from sweeps.plan import Plan
from sweeps.shapes import only
from sweeps.spec import PlannedRun

# Half and twice the rate cost 0.01 to 0.04 nats on the demo's corpus, above the noise of a seed.
FACTORS = (0.5, 2.0)


def extremes(plan: Plan) -> list[PlannedRun]:
    """The run of the smallest and of the largest model; the shortest, if a model has several."""
    by_size: dict[int, PlannedRun] = {}
    for run in plan.runs:
        known = by_size.get(run.n_params)
        if known is None or run.cells[0].tokens < known.cells[0].tokens:
            by_size[run.n_params] = run
    return [by_size[N] for N in sorted({min(by_size), max(by_size)})]


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
    settings = [
        f"name={spec.name}-{check.name}".replace(".", "_")[:69],
        _ladder(plan, check),
        f"grid={{kind: tokens, tokens: [{check.cells[0].tokens}]}}",
        f"recipe={{kind: fixed, lr: {train.optimizer.lr!r}, batch_tokens: {train.batch_tokens}}}",
        f"seeds=[{train.seed}]",
    ]
    shipped = spec.name in presets() and load_spec(spec.name) == spec
    words = [f"--set {shlex.quote(setting)}" for setting in settings]
    return " ".join(["isoflop sweep", spec.name if shipped else "SPEC", *words])


def _ladder(plan: Plan, check: PlannedRun) -> str:
    """The override that leaves the ladder its one size."""
    ladder = only(plan.spec.ladder, [check.run.model])
    [given] = [name for name in GIVEN_BY if hasattr(ladder, name)]
    values = ladder.model_dump(mode="json", exclude_none=True)[given]
    return f"ladder.{given}={json.dumps(values)}"
