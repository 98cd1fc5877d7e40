"""Command next: which small runs sharpen N* and the loss at a budget most, and whether they pay."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.commands.common import (
    Json,
    Level,
    Report,
    check_destinations,
    fail,
    find_plan,
    open_to_read,
    refusals,
    write_report,
)
from flows.commands.options import BestOf, Mapping, Pool, Statuses, TableName, Where
from flows.commands.tables import names_in, read_runs

if TYPE_CHECKING:
    from analysis.next_runs.answer import NextRuns
    from sweeps.next_cells import NextCell
    from sweeps.plan import Plan


def next_runs(
    file: TableName,
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
    from analysis.next_runs.answer import next_runs as choose_runs
    from analysis.table.selection import one_law, split
    from flows.answers.runs import open_source
    from flows.commands.output import emit
    from flows.plans.next_candidates import SHARE, of_sweep, of_table

    if runs < 1:
        fail(f"--runs {runs} is less than one.")
    with refusals():
        check_destinations(json, report)
        target = _flops("--flops", flops)
        most = SHARE * target if budget is None else _flops("--budget", budget)
        source = open_source(file)
        planned = None if source.sweep is None else _whole(file)
        _check_kind(to, planned)
        runs_so_far = read_runs(file, mapping, include_status)
        [(_, table)] = split(runs_so_far.table, where=where, by=None)
        table = one_law(table, best_of=names_in(best_of), pool=pool, named=True)
        cells: list[NextCell] = []
        if planned is not None:
            cells, offered = of_sweep(planned, table, candidates, most)
        else:
            offered = of_table(table, candidates, most)
        answer = choose_runs(table, offered, target, most, runs, level=level)
    if to is not None:
        _write(answer, planned, cells, to)
    if report is not None:
        from analysis.next_runs.page import next_page

        write_report(next_page(answer, title=f"Next runs after {Path(file).name}"), report)
    if json is not None:
        from analysis.next_runs.document import next_json

        emit(next_json(answer), json)
    if json != "-":
        from analysis.next_runs.text import answer_lines
        from flows.commands.output import width

        for line in answer_lines(answer, width()):
            print(line)
        _print_how_to_train(planned, to)


def _flops(option: str, text: str) -> float:
    from analysis.forecast.points import read_number
    from analysis.table.observations import TableError

    try:
        return read_number(text, "flops")
    except TableError as error:
        raise TableError(
            f"{option} {text!r} should be a positive number, for example {option} 1e20."
        ) from error


def _whole(name: str) -> "Plan":
    """The plan of a sweep, with the runs of those it continues."""
    from flows.plans.joined import joined

    home = open_to_read()
    return joined(find_plan(name, home), home).plan


def _check_kind(to: Path | None, planned: "Plan | None") -> None:
    """Refuse a file whose name promises what is not written.

    Raises:
        ValueError: another ending, or no such folder.
    """
    if to is None:
        return
    endings, what = ((".yaml", ".yml"), "a spec") if planned else ((".csv",), "a table")
    if to.suffix.lower() not in endings:
        raise ValueError(f"--to {to}: the runs are written as {what}; name it *{endings[0]}.")
    if not to.absolute().parent.is_dir():
        raise ValueError(f"--to {to}: there is no folder {to.absolute().parent}.")


def _write(answer: "NextRuns", planned: "Plan | None", cells: "list[NextCell]", to: Path) -> None:
    from flows.files import write_whole

    if planned is None:
        text = _as_table(answer)
    else:
        import yaml

        from sweeps.next_cells import next_spec

        spec = next_spec(planned, [cells[run.candidate] for run in answer.runs])
        text = yaml.safe_dump(spec.model_dump(), sort_keys=False)
    try:
        write_whole(to, text)
    except OSError as error:
        fail(f"cannot write --to {to}: {error.strerror or error}.")


def _as_table(answer: "NextRuns") -> str:
    import polars as pl

    frame = pl.DataFrame(
        {
            "n_params": [round(run.n_params) for run in answer.runs],
            "tokens": [round(run.tokens) for run in answer.runs],
            "flops_6nd": [run.flops for run in answer.runs],
            "forecast": [run.loss for run in answer.runs],
            "forecast_lower": [run.loss_interval[0] for run in answer.runs],
            "forecast_upper": [run.loss_interval[1] for run in answer.runs],
        }
    )
    return frame.write_csv()


def _print_how_to_train(planned: "Plan | None", to: Path | None) -> None:
    if to is None:
        kind = "table: --to next.csv" if planned is None else "spec of a sweep: --to next.yaml"
        print(f"Write these runs as a {kind}")
    elif planned is not None:
        print(f"See what they cost: isoflop plan {to}; train them: isoflop sweep {to}")
    else:
        print(f"The runs are in {to}")
