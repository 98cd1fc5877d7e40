"""The plan of a study as a table and lines for people, and as JSON."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from analysis.tuning.surface import least_trials
from analysis.words import counted, flops, rate, short
from flows.commands.output import print_line, table
from flows.commands.planned.document import corpus_json, cost_json
from flows.commands.planned.lines import brief, duration, span, time_lines, unprepared
from flows.commands.planned.text import print_notes
from flows.cost.quote import Cost
from flows.runs.directory import RunDir
from flows.settings import Home
from flows.tuning.ranges import search_box
from llama_core.corpus.prepared import PreparedCorpus
from sweeps.cap import amount, in_words
from sweeps.spec import PlannedRun
from sweeps.tune_plan import StudyPlan
from sweeps.tune_spec import Dimension

_HEADS = {"lr": "lr", "batch_tokens": "batch"}


def print_study(
    plan: StudyPlan, corpus: PreparedCorpus | None, home: Home, *, cost: Cost | None
) -> None:
    """Print the widths with their ranges and costs, and what the study costs as a whole."""
    rows = []
    for runs in _widths(plan):
        first = runs[0]
        row = {
            "width": f"d{first.run.model.d_model}",
            "N": short(first.n_params),
            "D": span([brief(tokens) for tokens in plan.spec.tokens]),
            "trials": f"{len(runs)}",
            "ended": f"{_ended(runs, home)}",
        }
        for dimension in _ranges(plan, first):
            row[_HEADS.get(dimension.name, dimension.name)] = _range(dimension)
        row["FLOPs"] = flops(sum(run.flops_spent for run in runs))
        if cost is not None:
            left_s = sum(cost.estimate.runs[run.id].left_s for run in runs)
            row["GiB"] = f"{max(cost.memory_gib[run.id] for run in runs):.2g}"
            row["time"] = duration(left_s)
        rows.append(row)
    table(
        f"study {plan.spec.name}: {plan.spec.description}".removesuffix(": "),
        list(rows[0]),
        [list(row.values()) for row in rows],
        spare=("GiB", "D"),
    )
    console = Console(highlight=False)
    for line in _lines(plan, corpus, cost):
        print_line(console, line)
    if corpus is not None:
        print_notes(corpus, console)
    for warning in _warnings(plan, cost):
        print_line(console, f"warning: {warning}", style="yellow")


def study_json(
    plan: StudyPlan, corpus: PreparedCorpus | None, home: Home, cost: Cost | None
) -> dict[str, Any]:
    """The plan of a study as JSON; without a cost no times."""
    return {
        "study": plan.spec.name,
        "spec": plan.spec.model_dump(mode="json"),
        "corpus": corpus_json(plan.spec.corpus, corpus),
        "widths": [
            {
                "width": runs[0].run.model.d_model,
                "n_params": runs[0].n_params,
                "tokens": list(plan.spec.tokens),
                "trials": len(runs),
                "ended": _ended(runs, home),
                "ranges": {each.name: [each.low, each.high] for each in _ranges(plan, runs[0])},
                "flops_spent": sum(run.flops_spent for run in runs),
                "time_left_s": None
                if cost is None
                else sum(cost.estimate.runs[run.id].left_s for run in runs),
            }
            for runs in _widths(plan)
        ],
        "flops_spent": plan.flops_spent,
        **cost_json(cost),
        "warnings": _warnings(plan, cost),
    }


def _widths(plan: StudyPlan) -> list[list[PlannedRun]]:
    widths: dict[int, list[PlannedRun]] = {}
    for run in plan.runs:
        widths.setdefault(run.run.model.d_model, []).append(run)
    return list(widths.values())


def _ranges(plan: StudyPlan, run: PlannedRun) -> Sequence[Dimension]:
    return search_box(plan.spec, run.run.model)


def _range(dimension: Dimension) -> str:
    write = {"lr": rate, "batch_tokens": brief}.get(dimension.name, "{:.2g}".format)
    return span([write(dimension.low), write(dimension.high)])


def _ended(runs: Sequence[PlannedRun], home: Home) -> int:
    return sum(RunDir(home.runs / run.id).settled() for run in runs)


def _lines(plan: StudyPlan, corpus: PreparedCorpus | None, cost: Cost | None) -> list[str]:
    spec = plan.spec
    lines = [
        f"{counted(len(plan.runs), 'trial')}, each with a loss at "
        f"{counted(len(spec.tokens), 'budget')}: {flops(plan.flops_spent)} counted FLOPs"
    ]
    if spec.trials > spec.startup:
        lines.append(
            f"the first {spec.startup} trials of a width are spread over its ranges; later ones, "
            f"{spec.generation} at a time, go where the losses point, and are reckoned here as "
            "spread evenly too"
        )
    if corpus is None:
        lines += unprepared(spec.corpus, timed=cost is not None)
    if cost is not None:
        lines += time_lines(cost)
    if spec.cap is not None:
        refusal = cost.refusal if cost is not None else None
        lines.append(refusal or f"cap: {in_words(spec.cap, amount(spec.cap))}")
    return lines


def _warnings(plan: StudyPlan, cost: Cost | None) -> list[str]:
    ranges = _ranges(plan, plan.runs[0])
    least = least_trials(len(ranges))
    warnings = list(cost.warnings) if cost is not None else []
    if plan.spec.trials < least:
        names = ", ".join(dimension.name for dimension in ranges)
        warnings.append(
            f"no law of {counted(plan.spec.trials, 'trial')} of a width: a surface over {names} "
            f"needs {least} or more (--set trials={least})."
        )
    return warnings
