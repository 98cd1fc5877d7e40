"""A plan as a table for people and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from analysis.words import COUNTS, short
from flows.commands.mixtures_text import mixture_json, mixture_lines, print_mixtures
from flows.commands.output import print_line, table
from flows.commands.time_text import duration, time_lines
from flows.commands.variants_text import power, print_variants, scan_lines
from flows.cost.quote import Cost
from flows.plans.precision import measured_here
from flows.plans.preparing import known_tokens, preparing
from flows.runs.directory import RunDir
from flows.runs.state import run_state
from flows.settings import Home
from flows.tuning.check import tuned, tuned_lines
from llama_core.corpus.prepared import PreparedCorpus
from llama_core.counting import count_params
from sweeps.cap import amount, in_words
from sweeps.coverage import asked, coverage, name_of
from sweeps.plan import Plan, members
from sweeps.spec import IsoflopGrid, PlannedRun
from sweeps.trunk_cost import BASIS, left_by_run


def print_plan(
    plan: Plan,
    corpus: PreparedCorpus | None,
    home: Home,
    *,
    cost: Cost | None,
    given: str | None = None,
) -> None:
    """Print the runs, what they cost together, and the warnings.

    Args:
        corpus: None where it is not prepared.
        given: how the plan's spec was named on the command line, with its overrides; None where
            a report will say how well the recipe is tuned.
    """
    print_runs(plan, home, cost)
    if plan.spec.variants:
        print_variants(plan)
    if plan.spec.mixtures is not None:
        print_mixtures(plan, corpus, home)
    print_budgets(plan)
    console = Console(highlight=False)
    for line in _summary(plan, corpus, cost):
        print_line(console, line)
    if (precision := measured_here(plan, home)) is not None:
        print_line(console, precision)
    if corpus is not None:
        print_notes(corpus, console)
    for warning in (*plan.warnings, *(cost.warnings if cost is not None else ())):
        print_line(console, f"warning: {warning}", style="yellow")
    advised = given is not None and not plan.spec.variants
    for line in tuned_lines(tuned(plan, home, given or "")) if advised else ():
        print_line(console, line, style="yellow")


def print_runs(plan: Plan, home: Home, cost: Cost | None) -> None:
    """Print the runs in columns that fit 80 characters.

    Omitted are D/N, if the table of budgets shows it, and the state, if no run has begun.
    """
    shown = _shown(plan)
    columns = [_columns(planned, home, cost) for planned in shown]
    for row, share in zip(columns, _shared_trunks(plan), strict=False):
        row["trunk%"] = f"{share:.2%}".rstrip("%")
    hidden = {"D/N"} if isinstance(plan.spec.grid, IsoflopGrid) else set()
    if plan.spec.mixtures is not None or {row["state"] for row in columns} == {"planned"}:
        hidden.add("state")
    header = [name for name in columns[0] if name not in hidden]
    rows = [[row[name] for name in header] for row in columns]
    each = " (of each mixture)" if plan.spec.mixtures is not None else ""
    table(f"sweep {plan.spec.name}: {plan.spec.description}{each}", header, rows, tight=True)


def _shown(plan: Plan) -> Sequence[PlannedRun]:
    """The runs in the table: none of a scan, and of mixtures those of the first."""
    first = next(iter(plan.spec.shares), "")
    own = [run for run in plan.runs if run.rate_factor is None and run.mixture == first]
    return own or plan.runs


def print_budgets(plan: Plan) -> None:
    """Print the sizes that each budget keeps and those that a bound leaves out of it.

    Variants with the same sizes have one table.
    """
    tables: list[tuple[list[str], list[list[object]]]] = []
    for name, member in (members(plan) if plan.spec.variants else {"": plan}).items():
        rows = _budgets(member)
        same = next((names for names, others in tables if others == rows), None)
        if same is not None:
            same.append(name)
        elif rows:
            tables.append(([name], rows))
    for names, rows in tables:
        of = f" of {', '.join(names)}" if len(tables) > 1 else ""
        table(f"sizes at each budget{of}", ["C", "sizes", "D/N", "left out by a bound"], rows)


def _budgets(plan: Plan) -> list[list[object]]:
    return [
        [
            power(row.budget),
            len(row.kept),
            _span([_brief(ratio) for ratio in sorted(row.kept.values())]),
            "; ".join(f"{', '.join(names)}: {bound}" for bound, names in row.bounds.items()),
        ]
        for row in coverage(plan.spec, plan.runs)
    ]


def print_notes(corpus: PreparedCorpus, console: Console) -> None:
    """Print what preparation left out of the text, large shares as warnings."""
    for note in corpus.notes:
        style = "yellow" if note.serious else None
        line = f"warning: {note.text}" if note.serious else note.text
        print_line(console, line, style=style)


def plan_json(
    plan: Plan,
    corpus: PreparedCorpus | None,
    cost: Cost | None,
    home: Home,
    given: str = "",
) -> dict[str, Any]:
    """The plan as JSON: everything the table shows, and more.

    Without the corpus the runs have no ids, and without a cost no times.
    """
    return {
        "sweep": plan.spec.name,
        "spec": plan.spec.model_dump(mode="json"),
        "corpus": corpus_json(plan, corpus),
        "runs": [
            _run_json(planned, home, cost)
            | {"trunk_cost": left_by_run(plan.spec, planned)}
            | mixture_json(plan, planned, corpus)
            for planned in plan.runs
        ],
        "asked": [
            {"n_params": size.asked, "name": name_of(plan.spec, size.model)}
            for size in asked(plan.spec)
        ],
        "budgets": [
            {
                "flops_budget": row.budget,
                "sizes": list(row.kept),
                "left_out": [asdict(each) for each in row.left_out],
            }
            for row in coverage(plan.spec, plan.runs)
        ],
        "flops_spent": plan.flops_spent,
        "observations": plan.observations,
        **_cost_json(cost),
        "warnings": [
            *(note.text for note in (corpus.notes if corpus else ()) if note.serious),
            *plan.warnings,
            *(cost.warnings if cost is not None else ()),
        ],
        "tuned": None if plan.spec.variants else tuned(plan, home, given).as_json(),
    }


def corpus_json(plan: Plan, corpus: PreparedCorpus | None) -> dict[str, Any]:
    """The corpus of a plan, or what preparing it takes."""
    if corpus is None:
        work = [asdict(each) for each in preparing(plan.spec.corpus)]
        return {"digest": None, "train_tokens": None, "notes": [], "preparing": work}
    return {
        "digest": corpus.digest,
        "path": str(corpus.path),
        "vocab_size": corpus.vocab_size,
        "train_tokens": corpus.train_tokens,
        "val_tokens": corpus.val_tokens,
        "notes": [note.text for note in corpus.notes],
    }


def _cost_json(cost: Cost | None) -> dict[str, Any]:
    if cost is None:
        return {"elapsed_s": None, "device_s": None, "usd": None}
    estimate = cost.estimate
    return {
        "flops_left": sum(time.left_flops for time in estimate.runs.values()),
        "elapsed_s": estimate.elapsed_s,
        "elapsed_range_s": list(estimate.elapsed_range_s),
        "device_s": estimate.device_s,
        "idle_share": estimate.idle_share,
        "usd": cost.usd(estimate.device_s),
        "usd_per_hour": cost.usd_per_hour,
        "slots": estimate.slots,
        "basis": estimate.basis,
        "left_out_by_cap": cost.refusal,
    }


def _run_json(planned: PlannedRun, home: Home, cost: Cost | None) -> dict[str, Any]:
    N, train = planned.n_params, planned.run.train
    document = {
        "id": planned.id if planned.run.data.digest else None,
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
        "cells": [cell.model_dump(mode="json") for cell in planned.cells],
    }
    if cost is None:
        return document
    time = cost.estimate.runs[planned.id]
    compiled = cost.estimate.compiled.get(planned.id)
    stacked = next((how for group, how in cost.estimate.stacked if planned.id in group), None)
    return document | {
        "flops_left": time.left_flops,
        "memory_gib": cost.memory_gib[planned.id],
        "time_s": time.whole_s,
        "time_left_s": time.left_s,
        "usd_left": cost.usd(time.left_s),
        "compile": compiled.model_dump() if compiled is not None else None,
        "stack": stacked.model_dump() if stacked is not None else None,
    }


def _summary(plan: Plan, corpus: PreparedCorpus | None, cost: Cost | None) -> list[str]:
    batches = sorted({planned.run.train.batch_tokens for planned in plan.runs})
    lines = [
        f"{len(plan.runs)} trainings give {plan.observations} losses for {plan.flops_spent:.3g} "
        f"counted FLOPs, {_span([f'{count:,}' for count in batches])} tokens a step"
        + (f"; the corpus has {corpus.train_tokens / 1e6:.2f}M tokens" if corpus else ""),
        *scan_lines(plan),
        *mixture_lines(plan, corpus),
        *_asked(plan),
        *_rates(plan),
    ]
    if _shared_trunks(plan):
        lines.append(
            "trunk%: share of the loss that one rate and batch for all horizons of a run leave on "
            f"the table, at its worst horizon; {BASIS}"
        )
    if corpus is None:
        lines += _unprepared(plan, timed=cost is not None)
    if cost is not None:
        lines += time_lines(plan, cost)
    if plan.spec.cap is not None:
        cap = plan.spec.cap
        refusal = cost.refusal if cost is not None else None
        lines.append(refusal or f"cap: {in_words(cap, amount(cap))}")
    return lines


def _unprepared(plan: Plan, *, timed: bool) -> list[str]:
    """What a plan without its corpus leaves open, and what preparing it will take."""
    config = plan.spec.corpus
    size = "the text's size unchecked"
    if known_tokens(config) is not None:
        size = "the text's size checked by its publisher's figure"
    lines = [
        f"the corpus is not prepared: planned for the vocabulary asked for, "
        f"{config.vocab_size:,} pieces, without run ids, {size}"
    ]
    if not timed:
        lines.append(
            "times are measured on the prepared corpus; --gpu h100 gives those of a GPU now"
        )
    for work in preparing(config):
        time = "in a time not known here"
        if work.seconds is not None:
            least = "at least" if work.at_least else "about"
            time = f"{least} {duration(work.seconds)} of one core's work, shared by all cores"
        tokens = "" if work.tokens is None else f", about {short(work.tokens)} tokens"
        share = f", {work.share:.3g} of the training tokens" if work.share < 1 else ""
        lines.append(f"to prepare {work.name}{share}: {work.read}{tokens}; {work.network}; {time}")
    return lines


def _asked(plan: Plan) -> list[str]:
    """A line on the shapes chosen for the sizes that a ladder asks for."""
    chosen = [
        f"{short(size.asked)} {name_of(plan.spec, size.model)} "
        f"({short(count_params(size.model).n_params)})"
        for size in asked(plan.spec)
    ]
    if not chosen:
        return []
    return [f"nearest shape to each N asked for, {COUNTS['n_params']}: {', '.join(chosen)}"]


def _shared_trunks(plan: Plan) -> list[float]:
    """What sharing a trunk costs the worst horizon of each run; empty where nothing is shared."""
    left = [left_by_run(plan.spec, planned) for planned in _shown(plan)]
    if not any(len(shares or ()) > 1 for shares in left):
        return []
    return [max(shares or [0.0]) for shares in left]


def _rates(plan: Plan) -> list[str]:
    """A line for each source of a learning rate, with the runs that use it."""
    names: dict[str, list[str]] = {}
    for planned in plan.runs if plan.spec.mixtures is None else _shown(plan):
        names.setdefault(planned.lr_source, []).append(planned.name)
    if len(names) == 1:
        return [f"peak learning rate: {next(iter(names))}"]
    return [f"peak learning rate of {', '.join(runs)}: {source}" for source, runs in names.items()]


def _columns(planned: PlannedRun, home: Home, cost: Cost | None) -> dict[str, str]:
    """A run's numbers by the head of their column."""
    N = planned.n_params
    tokens = [cell.tokens for cell in planned.cells]
    columns = {
        "run": planned.name,
        "N": short(N),
        "D": _span([_brief(count) for count in tokens]),
        "D/N": _span([_brief(count / N) for count in tokens]),
        "steps": short(planned.steps),
        "FLOPs": power(planned.flops_spent),
        "lr": power(planned.run.train.optimizer.lr),
    }
    if cost is not None:
        left_s = cost.estimate.runs[planned.id].left_s
        columns["GiB"] = f"{cost.memory_gib[planned.id]:.2g}"
        columns["time"] = duration(left_s)
        usd = cost.usd(left_s)
        if usd is not None:
            digits = 2 if usd < 10 else 1 if usd < 100 else 0
            columns["$"] = "< 0.01" if 0 < usd < 0.005 else f"{usd:,.{digits}f}"
    return columns | {"state": run_state(RunDir(home.runs / planned.id))}


def _brief(value: float) -> str:
    """A number with two digits, for a span of them."""
    return short(float(f"{value:.2g}"))


def _span(values: Sequence[str]) -> str:
    return "–".join(dict.fromkeys((values[0], values[-1]))) if values else "–"
