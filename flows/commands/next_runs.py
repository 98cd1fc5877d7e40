"""Command next: which small runs sharpen N* and the loss at a budget most, and whether they pay."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.commands.common import (
    Json,
    Level,
    Report,
    fail,
    refusals,
)
from flows.commands.options import BestOf, Mapping, Pool, Statuses, TableName, Where
from flows.commands.tables import find_table, meeting_all, names_in, read_runs

if TYPE_CHECKING:
    from flows.answers.next_runs import Next


def next_runs(
    file: TableName,
    /,
    *,
    flops: str,
    budget: Annotated[
        str | None,
        Parameter(
            help="FLOPs that the runs may cost together, counted ones after a sweep; a third of "
            "the target's unless given"
        ),
    ] = None,
    candidates: Annotated[
        str | None,
        Parameter(
            help="runs to choose from: a table with N and D, or SIZES@RATIOS, sizes and tokens per "
            "parameter, as 20M,50M@10,40; for a sweep WIDTHS@RATIOS, as 64,96@10,40. Else "
            "sizes and ratios inside the table and up to twice beyond it, of a sweep its "
            "widths and their neighbours"
        ),
    ] = None,
    runs: int = 5,
    to: Annotated[
        Path | None,
        Parameter(
            help="write the runs to this file: for a sweep a spec that isoflop sweep takes "
            "(.yaml), else a table (.csv)"
        ),
    ] = None,
    level: Level = 0.9,
    where: Where = None,
    mapping: Mapping = None,
    include_status: Statuses = None,
    best_of: BestOf = None,
    pool: Pool = False,
    json: Json = None,
    report: Report = None,
) -> None:
    """The runs that sharpen N* and the loss at a budget most per FLOP, and whether they pay.

    Args:
        flops: the target's budget C = 6·N·D.
        runs: how many to choose, at most.
    """
    with refusals():
        source = find_table(file)

    from analysis.forecast.points import read_option
    from flows.answers.next_runs import Choosing, check_to, has_plan, next_after
    from flows.answers.rows import Rows
    from flows.commands.output import show

    with refusals():
        target = read_option("--flops", flops, "flops", "1e20")
        most = None if budget is None else read_option("--budget", budget, "flops", "1e20")
        how = Choosing(target, most, candidates, runs, level)
        if to is not None:
            check_to(to, sweep=has_plan(source))
        runs_so_far = read_runs(source, mapping, include_status)
        rows = Rows(None, meeting_all(where), tuple(names_in(best_of)), pool)
        answer = next_after(runs_so_far, how, rows)
        if to is not None:
            _write(answer, to)
    show(answer, lambda answer: _print(answer, to), json, report)


def _print(answer: "Next", to: Path | None) -> None:
    from analysis.next_runs.text import answer_lines
    from flows.commands.output import width

    for line in answer_lines(answer.answer, width()):
        print(line)
    _print_how_to_train(answer, to)


def _write(answer: "Next", to: Path) -> None:
    try:
        answer.to(to)
    except OSError as error:
        fail(f"cannot write --to {to}: {error.strerror or error}.")


def _print_how_to_train(answer: "Next", to: Path | None) -> None:
    sweep = answer.plan is not None
    if to is None:
        kind = "spec of a sweep: --to next.yaml" if sweep else "table: --to next.csv"
        print(f"Write these runs as a {kind}")
    elif sweep:
        print(f"See what they cost: isoflop plan {to}; train them: isoflop sweep {to}")
    else:
        print(f"The runs are in {to}")
