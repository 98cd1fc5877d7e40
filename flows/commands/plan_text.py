"""A plan as a table for people and as JSON."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from flows.commands.output import table
from flows.cost.quote import Cost
from flows.runs.directory import RunDir
from flows.runs.state import run_state
from flows.settings import Home
from flows.tuning.check import tuned, tuned_lines
from llama_core.corpus.prepared import PreparedCorpus
from sweeps.cap import amount, in_words
from sweeps.plan import Plan
from sweeps.spec import PlannedRun
from sweeps.trunk_cost import BASIS, left_by_run


def print_plan(
    plan: Plan, corpus: PreparedCorpus, home: Home, *, cost: Cost | None, given: str = ""
) -> None:
    """Print the runs, what they cost together, and the warnings.

    Args:
        given: how the plan's spec was named on the command line, with its overrides.
    """
    header = ["run", "N", "D in M", "D/N", "losses", "steps", "FLOPs", "peak lr", "state"]
    if cost is not None:
        header[-1:] = ["GiB", "time left", "state"]
    if cost is not None and cost.usd_per_hour is not None:
        header.insert(-1, "$ left")
    rows = [_row(planned, home, cost) for planned in plan.runs]
    left = _shared_trunks(plan)
    if left:
        place = header.index("peak lr") + 1
        header.insert(place, "trunk %")
        for row, share in zip(rows, left, strict=True):
            row.insert(place, f"{share:.2%}".rstrip("%"))
    table(f"sweep {plan.spec.name}: {plan.spec.description}", header, rows)
    console = Console(highlight=False)
    for line in _summary(plan, corpus, cost):
        console.print(line, markup=False, soft_wrap=True)
    print_notes(corpus, console)
    for warning in (*plan.warnings, *(cost.warnings if cost is not None else ())):
        console.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)
    # A sweep prints this in its report; `isoflop plan` writes no report.
    for line in tuned_lines(tuned(plan, home, given)) if cost is not None else ():
        console.print(line, style="yellow", markup=False, soft_wrap=True)


def print_notes(corpus: PreparedCorpus, console: Console) -> None:
    """Print what preparation left out of the text, large shares as warnings."""
    for note in corpus.notes:
        style = "yellow" if note.serious else None
        line = f"warning: {note.text}" if note.serious else note.text
        console.print(line, style=style, markup=False, soft_wrap=True)


def plan_json(
    plan: Plan, corpus: PreparedCorpus, cost: Cost, home: Home, given: str = ""
) -> dict[str, Any]:
    """The plan as JSON: everything the table shows, and more."""
    estimate = cost.estimate
    return {
        "sweep": plan.spec.name,
        "spec": plan.spec.model_dump(mode="json"),
        "corpus": {
            "digest": corpus.digest,
            "train_tokens": corpus.train_tokens,
            "notes": [note.text for note in corpus.notes],
        },
        "runs": [
            _run_json(planned, home, cost) | {"trunk_cost": left_by_run(plan.spec, planned)}
            for planned in plan.runs
        ],
        "flops_spent": plan.flops_spent,
        "flops_left": sum(time.left_flops for time in estimate.runs.values()),
        "observations": plan.observations,
        "elapsed_s": estimate.elapsed_s,
        "elapsed_range_s": list(estimate.elapsed_range_s),
        "device_s": estimate.device_s,
        "idle_share": estimate.idle_share,
        "usd": cost.usd(estimate.device_s),
        "usd_per_hour": cost.usd_per_hour,
        "slots": estimate.slots,
        "basis": estimate.basis,
        "left_out_by_cap": cost.refusal,
        "warnings": [
            *(note.text for note in corpus.notes if note.serious),
            *plan.warnings,
            *cost.warnings,
        ],
        "tuned": tuned(plan, home, given).as_json(),
    }


def _run_json(planned: PlannedRun, home: Home, cost: Cost) -> dict[str, Any]:
    N, train = planned.n_params, planned.run.train
    time = cost.estimate.runs[planned.id]
    return {
        "id": planned.id,
        "name": planned.name,
        "state": run_state(RunDir(home.runs / planned.id)),
        "n_params": N,
        "tokens_per_param": [cell.tokens / N for cell in planned.cells],
        "steps": planned.steps,
        "batch_tokens": train.batch_tokens,
        "warmup_tokens": train.warmup_tokens,
        "lr": train.optimizer.lr,
        "lr_source": planned.lr_source,
        "flops_spent": planned.flops_spent,
        "flops_left": time.left_flops,
        "memory_gib": cost.memory_gib[planned.id],
        "time_s": time.whole_s,
        "time_left_s": time.left_s,
        "usd_left": cost.usd(time.left_s),
        "cells": [cell.model_dump(mode="json") for cell in planned.cells],
    }


def _summary(plan: Plan, corpus: PreparedCorpus, cost: Cost | None) -> list[str]:
    batches = sorted({planned.run.train.batch_tokens for planned in plan.runs})
    lines = [
        f"{len(plan.runs)} trainings give {plan.observations} losses for {plan.flops_spent:.3g} "
        f"counted FLOPs, {_span([f'{count:,}' for count in batches])} tokens a step; the corpus "
        f"has {corpus.train_tokens / 1e6:.2f}M tokens",
        *_rates(plan),
    ]
    if _shared_trunks(plan):
        lines.append(
            "trunk %: share of the loss left on the table by one rate and batch for all horizons "
            f"of a run, where most is; {BASIS}"
        )
    if cost is not None:
        lines += _time_lines(cost)
    if plan.spec.cap is not None:
        cap = plan.spec.cap
        refusal = cost.refusal if cost is not None else None
        lines.append(refusal or f"cap: {in_words(cap, amount(cap))}")
    return lines


def _shared_trunks(plan: Plan) -> list[float]:
    """What sharing a trunk costs the worst horizon of each run; empty where nothing is shared."""
    left = [left_by_run(plan.spec, planned) for planned in plan.runs]
    if not any(len(shares or ()) > 1 for shares in left):
        return []
    return [max(shares or [0.0]) for shares in left]


def _rates(plan: Plan) -> list[str]:
    """A line for each source of a learning rate, with the runs that use it."""
    names: dict[str, list[str]] = {}
    for planned in plan.runs:
        names.setdefault(planned.lr_source, []).append(planned.name)
    if len(names) == 1:
        return [f"peak learning rate: {next(iter(names))}"]
    return [f"peak learning rate of {', '.join(runs)}: {source}" for source, runs in names.items()]


def _time_lines(cost: Cost) -> list[str]:
    estimate = cost.estimate
    if not estimate.device_s:
        return ["nothing is left to train"]
    low, high = estimate.elapsed_range_s
    spread = f" ({duration(low)} to {duration(high)})" if low < high else ""
    lines = [
        f"about {duration(estimate.elapsed_s)}{spread} for what is left, {estimate.slots} at once: "
        f"{estimate.basis}"
    ]
    usd = cost.usd(estimate.device_s)
    if usd is not None:
        lines.append(
            f"about ${usd:,.2f}: {estimate.device_s / 3600:.3g} device-hours at "
            f"${cost.usd_per_hour:g} an hour ({cost.price_source}){_idle(cost)}"
        )
    return lines


def _idle(cost: Cost) -> str:
    """What devices cost that wait until the last training ends; empty where few do."""
    share = cost.estimate.idle_share
    usd = cost.usd(cost.estimate.device_s * share / (1 - share))
    if share < 0.01 or usd is None:
        return ""
    return f"; {share:.0%} idle until the last training ends, ${usd:,.2f} more where rented"


def _row(planned: PlannedRun, home: Home, cost: Cost | None) -> list[object]:
    N = planned.n_params
    tokens = [cell.tokens for cell in planned.cells]
    row: list[object] = [
        planned.name,
        N,
        _span([f"{count / 1e6:.2f}" for count in tokens]),
        _span([f"{count / N:.3g}" for count in tokens]),
        len(tokens),
        planned.steps,
        f"{planned.flops_spent:.3g}",
        f"{planned.run.train.optimizer.lr:.2e}",
        run_state(RunDir(home.runs / planned.id)),
    ]
    if cost is None:
        return row
    left_s = cost.estimate.runs[planned.id].left_s
    row[-1:] = [f"{cost.memory_gib[planned.id]:.3g}", duration(left_s), row[-1]]
    usd = cost.usd(left_s)
    if usd is not None:
        row.insert(-1, f"{usd:.2f}" if usd >= 0.01 or not usd else f"{usd:.1e}")
    return row


def duration(seconds: float) -> str:
    """A duration in one unit: 42 s, 5.1 min, 3.2 h, 12 days."""
    for limit, unit, name in ((100, 1, "s"), (6000, 60, "min"), (360_000, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} s" if unit == 1 else f"{seconds / unit:.3g} {name}"
    return f"{seconds / 86400:.3g} days"


def _span(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else f"{values[0]}–{values[-1]}"
