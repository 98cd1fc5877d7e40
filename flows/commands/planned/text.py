"""A plan as tables and lines for people."""

from rich.console import Console

from analysis.words import flops, rate, short
from flows.commands.output import print_line, table
from flows.commands.planned.lines import brief, duration, shared_trunks, shown, span, summary
from flows.commands.planned.mixtures import print_mixtures
from flows.commands.planned.variants import print_variants
from flows.cost.quote import Cost
from flows.plans.precision import measured_here
from flows.runs.directory import RunDir
from flows.runs.state import run_state
from flows.settings import Home
from flows.tuning.check import tuned, tuned_lines
from llama_core.corpus.prepared import PreparedCorpus
from sweeps.coverage import coverage
from sweeps.grid import IsoflopGrid
from sweeps.plan import Plan, members
from sweeps.spec import PlannedRun


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
    for line in summary(plan, corpus, cost):
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
    columns = [_columns(planned, home, cost) for planned in shown(plan)]
    for row, share in zip(columns, shared_trunks(plan), strict=False):
        row["trunk%"] = f"{share:.2%}".rstrip("%")
    hidden = {"D/N"} if isinstance(plan.spec.grid, IsoflopGrid) else set()
    if plan.spec.mixtures is not None or {row["state"] for row in columns} == {"planned"}:
        hidden.add("state")
    header = [name for name in columns[0] if name not in hidden]
    rows = [[row[name] for name in header] for row in columns]
    each = " (of each mixture)" if plan.spec.mixtures is not None else ""
    title = f"sweep {plan.spec.name}: {plan.spec.description}".removesuffix(": ") + each
    table(title, header, rows, spare=("steps", "trunk%"), tight=True)


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
            flops(row.budget),
            len(row.kept),
            span([brief(ratio) for ratio in sorted(row.kept.values())]),
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


def _columns(planned: PlannedRun, home: Home, cost: Cost | None) -> dict[str, str]:
    """A run's numbers by the head of their column."""
    N = planned.n_params
    tokens = [cell.tokens for cell in planned.cells]
    columns = {
        "run": planned.name,
        "N": short(N),
        "D": span([brief(count) for count in tokens]),
        "D/N": span([brief(count / N) for count in tokens]),
        "steps": short(planned.steps),
        "FLOPs": flops(planned.flops_spent),
        "lr": rate(planned.run.train.optimizer.lr),
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
