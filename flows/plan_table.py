"""A plan as a table for people and as JSON."""

from typing import Any

from rich.console import Console

from flows.calibrate import Estimate
from flows.output import table
from flows.rundir import RunDir
from flows.settings import Home
from flows.status import run_state
from flows.tuned import tuned, tuned_lines
from llama_core.corpus import PreparedCorpus
from llama_core.counting import count_params
from sweeps.plan import Plan
from sweeps.spec import PlannedRun, tokens_spent


def print_plan(
    plan: Plan, corpus: PreparedCorpus, home: Home, *, cost: Estimate | None, slots: int
) -> None:
    """Print the runs, what they cost together, and the warnings."""
    header = ["run", "N", "D in M", "D/N", "losses", "steps", "FLOPs", "peak lr", "state"]
    if cost is not None:
        header.insert(-1, "time s")
    rows = [_row(planned, home, cost) for planned in plan.runs]
    table(f"sweep {plan.spec.name}: {plan.spec.description}", header, rows)
    console = Console(highlight=False)
    console.print(
        f"{len(plan.runs)} trainings give {plan.observations} losses for {plan.flops_spent:.3g} "
        f"counted FLOPs; the corpus has {corpus.train_tokens / 1e6:.2f}M tokens"
    )
    if cost is not None:
        console.print(f"about {cost.elapsed_s / 60:.1f} minutes with {slots} trainings at once")
    sources = sorted({planned.lr_source for planned in plan.runs})
    console.print(f"peak learning rate: {'; '.join(sources)}")
    for warning in plan.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)
    # A sweep that starts now has a report to say this; a dry run has not.
    for line in tuned_lines(tuned(plan, home)) if cost is not None else ():
        console.print(line, style="yellow", markup=False, soft_wrap=True)


def plan_json(plan: Plan, corpus: PreparedCorpus, cost: Estimate, home: Home) -> dict[str, Any]:
    """The plan with everything the table shows."""
    return {
        "sweep": plan.spec.name,
        "spec": plan.spec.model_dump(mode="json"),
        "corpus": {"digest": corpus.digest, "train_tokens": corpus.train_tokens},
        "runs": [
            {
                "id": planned.id,
                "name": planned.name,
                "state": run_state(RunDir(home.runs / planned.id)),
                "n_params": count_params(planned.run.model).multiplying,
                "steps": tokens_spent(planned.run.train) // planned.run.train.batch_tokens,
                "batch_tokens": planned.run.train.batch_tokens,
                "lr": planned.run.train.optimizer.lr,
                "lr_source": planned.lr_source,
                "flops_spent": planned.flops_spent,
                "time_s": cost.per_run_s[planned.id],
                "cells": [cell.model_dump(mode="json") for cell in planned.cells],
            }
            for planned in plan.runs
        ],
        "flops_spent": plan.flops_spent,
        "observations": plan.observations,
        "elapsed_s": cost.elapsed_s,
        "warnings": list(plan.warnings),
        "tuned": tuned(plan, home).as_json(),
    }


def _row(planned: PlannedRun, home: Home, cost: Estimate | None) -> list[object]:
    N = count_params(planned.run.model).multiplying
    tokens = [cell.tokens for cell in planned.cells]
    row: list[object] = [
        planned.name,
        N,
        _span([f"{count / 1e6:.2f}" for count in tokens]),
        _span([f"{count / N:.3g}" for count in tokens]),
        len(tokens),
        tokens_spent(planned.run.train) // planned.run.train.batch_tokens,
        f"{planned.flops_spent:.3g}",
        f"{planned.run.train.optimizer.lr:.2e}",
        run_state(RunDir(home.runs / planned.id)),
    ]
    if cost is not None:
        row.insert(-1, f"{cost.per_run_s[planned.id]:.0f}")
    return row


def _span(values: list[str]) -> str:
    return values[0] if len(values) == 1 else f"{values[0]}–{values[-1]}"
