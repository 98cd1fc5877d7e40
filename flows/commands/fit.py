"""Command fit: a law, its intervals and its verdicts from a table of finished runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from flows.commands.common import (
    Anyway,
    Json,
    Level,
    Report,
    check_destinations,
    fail,
    refusals,
    shown_from_log,
    write_report,
)
from flows.commands.options import (
    FIT,
    BestOf,
    Bootstrap,
    By,
    Mapping,
    Pool,
    Statuses,
    TableName,
    Where,
)
from flows.commands.tables import names_in, read_runs, sweep_folder

if TYPE_CHECKING:
    import polars as pl

    from analysis.fit.envelope import EnvelopeFit
    from analysis.fit.records import GroupFit
    from analysis.forecast.lead import Lead


def fit(
    file: TableName,
    *,
    form: Annotated[
        Literal["chinchilla", "gamma", "tied", "kaplan", "data_constrained"],
        Parameter(
            group=FIT,
            help="chinchilla E + A/N^alpha + B/D^beta; gamma raises the sum of powers to gamma; "
            "tied sets alpha = beta; kaplan has no E; data_constrained needs unique_tokens",
        ),
    ] = "chinchilla",
    objective: Annotated[
        Literal["huber_log", "lad_log", "mse_log", "mse"], Parameter(group=FIT)
    ] = "huber_log",
    delta: Annotated[float, Parameter(group=FIT)] = 1e-3,
    by: By = None,
    where: Where = None,
    mapping: Mapping = None,
    include_status: Statuses = None,
    best_of: BestOf = None,
    pool: Pool = False,
    bootstrap: Bootstrap = 1000,
    seed: Annotated[int, Parameter(group=FIT)] = 0,
    level: Level = 0.9,
    target_flops: Annotated[float | None, Parameter(group=FIT)] = None,
    anyway: Anyway = False,
    json: Json = None,
    report: Report = None,
) -> None:
    """Fit a loss law to a table of runs or a sweep.

    Args:
        objective: what is summed over rows.
        delta: where Huber's penalty turns from squares to absolute values.
        seed: of the resampling.
        target_flops: budget for the profiles of N* and D*; ten times the table's largest.
    """
    from analysis.fit.answer import fit_table
    from analysis.fit.options import FitOptions
    from analysis.forecast.lead import lead
    from analysis.solver.objective import Objective
    from flows.commands.output import emit

    _check_numbers(bootstrap, seed, delta, target_flops)
    with refusals(), shown_from_log("analysis.fit"):
        check_destinations(json, report)
        groups = fit_table(
            read_runs(file, mapping, include_status, repetition=form == "data_constrained"),
            FitOptions(
                form, Objective(objective, delta), bootstrap, seed, level, anyway, target_flops
            ),
            by=by,
            where=where,
            pool=pool,
            best_of=names_in(best_of),
            source=file,
        )
        envelope = _envelope(sweep_folder(file), level)
    leads = [lead(group) for group in groups]
    if report is not None:
        _write_page(groups, leads, envelope, report, title=f"Loss law of {Path(file).name}")
    if json is not None:
        emit(_document(groups, leads, envelope), json)
    if json != "-":
        _print(groups, leads, envelope)


def _check_numbers(bootstrap: int, seed: int, delta: float, target_flops: float | None) -> None:
    if bootstrap < 0 or seed < 0:
        fail(f"--bootstrap {bootstrap} and --seed {seed} must not be negative.")
    if not delta > 0:
        fail(f"--delta {delta} must be positive.")
    if target_flops is not None and not 0 < target_flops < float("inf"):
        fail(f"--target-flops {target_flops} must be positive.")


def _envelope(sweep: Path | None, level: float) -> "tuple[pl.DataFrame, EnvelopeFit] | None":
    """Approach 1; None without training curves."""
    import polars as pl

    from analysis.fit.envelope import fit_envelope

    if sweep is None or not (sweep / "curves.parquet").is_file():
        return None
    curves = pl.read_parquet(sweep / "curves.parquet", glob=False)
    return (curves, fit_envelope(curves, level=level)) if curves.height else None


def _write_page(
    groups: "list[GroupFit]",
    leads: "list[Lead]",
    envelope: "tuple[pl.DataFrame, EnvelopeFit] | None",
    report: Path,
    *,
    title: str,
) -> None:
    from analysis.fit.page import add_envelope, fit_page

    page = fit_page(groups, title=title, leads=[each.lines for each in leads])
    if envelope is not None:
        add_envelope(page, *envelope)
    write_report(page, report)


def _document(
    groups: "list[GroupFit]",
    leads: "list[Lead]",
    envelope: "tuple[pl.DataFrame, EnvelopeFit] | None",
) -> dict[str, Any]:
    from analysis.fit.document import envelope_json, group_json
    from analysis.forecast.lead import lead_json

    document: dict[str, Any] = {
        "groups": [
            {**group_json(group), "forecast": lead_json(each)}
            for group, each in zip(groups, leads, strict=True)
        ]
    }
    if envelope is not None:
        document["envelope"] = envelope_json(envelope[1])
    return document


def _print(
    groups: "list[GroupFit]",
    leads: "list[Lead]",
    envelope: "tuple[pl.DataFrame, EnvelopeFit] | None",
) -> None:
    from analysis.fit.text import envelope_line, group_lines
    from flows.commands.output import print_wrapped, width

    for place, (group, each) in enumerate(zip(groups, leads, strict=True)):
        if place:
            print()
        for line in group_lines(group, each.lines, width()):
            print(line)
    if envelope is not None:
        print()
        print_wrapped(envelope_line(envelope[1]))
