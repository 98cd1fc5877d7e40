"""Commands show, export, report, runs."""

import time
from collections import Counter
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from flows.commands.common import (
    Json,
    busy,
    failures,
    open_all_to_read,
    open_to_read,
    refusals,
    say,
)
from flows.commands.options import RunName, SweepName, Where
from flows.commands.tables import meeting_all
from flows.runs.words import RunState

if TYPE_CHECKING:
    from flows.results.report import SweepReport
    from flows.settings import Home, Settings
    from sweeps.plan import Plan


_HERE = Path()
_LABEL = 13  # columns of what stands before a line of a run
_SHOWN = 50  # runs of a list, unless all are wanted
_SORTED_BY = {
    "N": "n_params",
    "D": "tokens",
    "C": "train_flops",
    "lr": "lr",
    "loss": "val_loss",
}


def show(run: RunName, /, *, json: Json = None) -> None:
    """Print everything known about a run: state, losses, attempts, provenance, files."""
    from flows.commands.output import emit
    from flows.plans.find import find_run
    from flows.results.show import run_document

    with refusals():
        home = open_to_read()
        document = run_document(find_run(run, home), home)
    if json is not None:
        emit(document, json)
    else:
        _print_run(document)


def export(
    sweep: SweepName,
    /,
    *,
    format: Literal["parquet", "csv", "json"] = "parquet",
    to: Annotated[Path, Parameter(help="folder for the files; made if missing")] = _HERE,
    json: Json = None,
) -> None:
    """Write a sweep's observations and curves as Parquet, CSV or JSON; `isoflop fit` reads them.

    Args:
        format: of both files.
    """
    from flows.plans.find import find_plan

    with refusals():
        home = open_to_read()
        planned = find_plan(sweep, home)

    from flows.commands.output import emit
    from flows.results.export import export_sweep

    with refusals():
        written = export_sweep(planned, home, to, format)
    if json is not None:
        emit({"sweep": sweep, "files": [str(path) for path in written]}, json)
    else:
        for path in written:
            print(path)


def _print_run(document: dict[str, Any]) -> None:
    from flows.commands.output import table

    _print_facts(document)
    print()
    _print_losses(document["losses"])
    if document["evaluations"]:
        from flows.commands.evaluate import print_doubts
        from flows.evaluation.table import HEADER, row_of
        from flows.runs.evaluations import Evaluation

        print()
        scores = [Evaluation(**row) for row in document["evaluations"]]
        rows = [[score.tokens, *row_of(score)] for score in scores]
        table("benchmarks", ["D tokens", *HEADER], rows)
        print_doubts(scores)
    if document["attempts"]:
        print()
        table("attempts", _ATTEMPT_HEADER, [_attempt(row) for row in document["attempts"]])
    print()
    for line in _provenance_lines(document["provenance"]):
        _print_beside(line[:_LABEL], line[_LABEL:])
    print()
    folder, *files = document["files"].items()
    print(f"{'files':<{_LABEL}}{folder[1]}")
    _print_beside("", ", ".join(name for name, _ in files))
    for place, command in enumerate(document["next"]):
        print(f"{'' if place else 'next':<{_LABEL}}{command}")


def _print_facts(document: dict[str, Any]) -> None:
    from analysis.words import flops, rate

    reason = f": {document['reason']}" if document["reason"] else ""
    print(f"run {document['id']}  {', '.join(document['sweeps'])}/{document['name']}")
    print(f"state        {document['state']}{reason}")
    print(
        f"N            {document['n_params']:,} ({document['n_params_total']:,} with the input "
        "embedding)"
    )
    print(
        f"steps        {document['steps_done']:,} of {document['steps']:,}, "
        f"{document['batch_tokens']:,} tokens each"
    )
    print(
        f"C            {flops(document['train_flops'])} counted FLOPs; spent "
        f"{flops(document['spent']['flops'])} in {document['spent']['device_s']:.0f} s"
    )
    print(f"peak lr      {rate(document['lr'])} ({document['lr_source']}), seed {document['seed']}")
    if (choice := document["compile"]) is not None:
        print(f"compiled     {'yes' if choice['compiled'] else 'no'}: {choice['reason']}")
    if (stack := document["stack"]) is not None:
        how = "as one program" if stack["stacked"] else "not as one program"
        print(f"together     {how} with {stack['runs'] - 1} of its shape: {stack['reason']}")


def _print_losses(losses: list[dict[str, Any]]) -> None:
    from flows.commands.output import table
    from flows.results.show import LOSSES_HEADER, POOLED, SOURCES_HEADER, loss_rows, source_rows

    table("losses", LOSSES_HEADER, loss_rows(losses))
    if by_source := source_rows(losses):
        print()
        table("losses by source", SOURCES_HEADER, by_source)
        print(POOLED)


def _print_beside(label: str, text: str) -> None:
    """Print a text beside its label, broken between words where that is a terminal."""
    from textwrap import wrap

    from flows.commands.output import width

    lines = wrap(text, width() - _LABEL, break_long_words=False, break_on_hyphens=False)
    for place, line in enumerate(lines):
        print(f"{'' if place else label:<{_LABEL}}{line}")


_ATTEMPT_HEADER = ["", "started", "s", "steps", "ended", "host", "device", "commit"]


def _attempt(row: dict[str, Any]) -> list[object]:
    environment = row["environment"]
    return [
        row["number"],
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["started_at"])),
        f"{row['seconds']:.0f}",
        f"{row['steps_from']:,}–{row['steps_to']:,}",
        row["how"],
        environment["host"],
        environment["device_name"] or environment["processor"],
        _short(environment["git_commit"]) + ("+" if environment["git_dirty_sha256"] else ""),
    ]


def _provenance_lines(provenance: dict[str, Any] | None) -> list[str]:
    if provenance is None:
        return ["provenance   was not recorded"]
    dirty = (
        f", with uncommitted changes {_short(provenance['git_dirty_sha256'])}"
        if provenance["git_dirty_sha256"]
        else ""
    )
    main = ("torch", "numpy", "isoflop")
    packages = provenance["packages"]
    versions = [f"{name} {packages[name]}" for name in main if name in packages]
    return [
        f"commit       {provenance['git_commit'] or 'none: not run from a git checkout'}{dirty}",
        f"packages     {len(packages)}, lock {_short(provenance['lock_sha256'])}; "
        f"Python {provenance['python']}, {', '.join(versions)}",
        f"data         {_short(provenance['data_sha256'])}, tokenizer "
        f"{_short(provenance['tokenizer_sha256'])}",
        f"machine      {provenance['host']}, "
        f"{provenance['device_name'] or provenance['processor']}",
    ]


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "unknown"


def report(sweep: SweepName, /, *, json: Json = None) -> None:
    """Write a sweep's observations, law and report again from its run directories.

    Where the home cannot be written, only the verdict is printed.
    """
    from flows.plans.find import find_plan

    with refusals():
        settings, home = open_all_to_read()
        planned = find_plan(sweep, home)

    from flows.commands.output import emit, print_wrapped
    from flows.mirror.publish import Mirror
    from flows.results.report import find_law, finish_sweep
    from flows.settings import is_writable
    from llama_core.corpus.documents import CorpusError

    if not is_writable(home):
        verdict, numbers = find_law(planned, home)
        say(f"isoflop: {home.root} cannot be written: no file of the report was made")
        if json is not None:
            emit(numbers, json)
        else:
            print_wrapped(verdict)
        return
    with busy("fitting the law and writing the report"), failures(CorpusError):
        written = finish_sweep(planned, home, Mirror(settings, home))
    if json is not None:
        emit(written.document, json)
    else:
        print_verdict(planned, written, settings, home, None)


def runs(
    sweep: SweepName | None = None,
    /,
    *,
    state: Annotated[
        tuple[RunState, ...], Parameter(help="only runs of this state; repeatable")
    ] = (),
    where: Where = None,
    sort: Annotated[
        Literal["N", "D", "C", "lr", "loss"] | None,
        Parameter(help="the least first; else as planned"),
    ] = None,
    all: Annotated[bool, Parameter(help="also the older of many runs")] = False,
    json: Json = None,
) -> None:
    """List the runs of a sweep, or of all sweeps, with their losses: of many, the newest.

    The JSON has all of them, with the columns that --where may name.
    """
    from flows.plans.find import find_plan
    from flows.plans.stored import read_plans

    with refusals():
        home = open_to_read()
        plans = [find_plan(sweep, home)] if sweep is not None else read_plans(home)

    from flows.commands.output import emit
    from flows.runs.table import observations

    rows = [row for planned in plans for row in observations(planned.runs, home)]
    if state:
        rows = [row for row in rows if row["status"] in state]
    if (condition := meeting_all(where)) is not None:
        with refusals():
            rows = _rows_where(rows, condition)
    if sort is not None:
        column = _SORTED_BY[sort]
        rows.sort(key=lambda row: inf if row[column] is None else row[column])
    if json is not None:
        emit(rows, json)
    elif rows:
        _print_list(rows, home, cut=not all)
    else:
        print("no run is like that" if plans else "no sweep was started in this home yet")


def _print_list(rows: list[dict[str, Any]], home: "Home", *, cut: bool) -> None:
    """Print observations in a table; where they are to be cut, those of the newest runs alone."""
    from analysis.words import counted, flops, rate, short
    from flows.commands.output import print_wrapped, table
    from flows.runs.state import newest

    states = {row["parent_run_id"]: row["status"] for row in rows}
    cut = cut and len(states) > _SHOWN
    kept = newest(states, home, _SHOWN) if cut else states.keys()
    header = ["sweep", "run", "id", "N", "D", "C", "lr", "loss", "state"]
    shown = [
        [
            *(row[key] for key in ("sweep", "name", "parent_run_id")),
            *(short(row[key]) for key in ("n_params", "tokens")),
            flops(row["train_flops"]),
            rate(row["lr"]),
            "–" if row["val_loss"] is None else f"{row['val_loss']:.4f}",
            row["status"],
        ]
        for row in rows
        if row["parent_run_id"] in kept
    ]
    title = counted(len(shown), "observation")
    if cut:
        title += f" of the {_SHOWN} newest runs"
    table(f"{title}; loss in nats per token", header, shown, spare=("lr", "C", "id"))
    if cut:
        counts = [f"{count:,} {name}" for name, count in Counter(states.values()).most_common()]
        print_wrapped(f"of {counted(len(states), 'run')}: {', '.join(counts)}")
        print("the others: --all, --state failed, --where 'val_loss < 3', or --json FILE")


def _rows_where(rows: list[dict[str, Any]], where: str) -> list[dict[str, Any]]:
    import polars as pl

    from analysis.table.observations import SCHEMA
    from analysis.table.selection import rows_where

    frame = pl.DataFrame(rows, schema_overrides=SCHEMA, infer_schema_length=None)
    return [row for row, keep in zip(rows, rows_where(frame, where), strict=True) if keep]


def print_verdict(
    planned: "Plan",
    report: "SweepReport",
    settings: "Settings",
    home: "Home",
    flow_run: str | None,
) -> None:
    from flows.commands.output import print_wrapped
    from flows.mirror.publish import Mirror
    from flows.stack.servers import server_answers

    chart = Mirror(settings, home).chart_path(planned.spec.name)
    print()
    print_wrapped(report.verdict)
    print()
    print(f"report   {report.page.as_uri()}")
    print(f"MLflow   {settings.mlflow_address}{chart}")
    run_page = f"/runs/flow-run/{flow_run}" if flow_run else "/runs"
    print(f"Prefect  {settings.prefect_address}{run_page}")
    if not server_answers(settings):
        print("         (both pages are there after: isoflop up)")
