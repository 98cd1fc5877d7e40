"""What the dashboard computes in the background. Each is a function of a table alone."""

from collections.abc import Mapping, Sequence

import polars as pl

from analysis.compare.comparable import Named
from analysis.compare.variants import Variants, compare_variants
from analysis.fit.answer import fit_table
from analysis.fit.conventions import counted_as
from analysis.fit.options import DEFAULT
from analysis.forecast.answer import Answer, Question, forecast
from analysis.forecast.beside import Beside, fit_beside
from analysis.forecast.design import Candidates
from analysis.forecast.lead import led
from analysis.law import CCounts
from analysis.next_runs.answer import NextRuns, next_runs
from analysis.own_runs.outcome import Interval
from analysis.sweep.answer import Findings, find
from analysis.table.observations import Table, TableError
from analysis.tuning.answer import LrFit, fit_lr
from analysis.tuning.surface import Axis
from flows.results.mixtures import Mixed, mixed
from flows.results.variants import Compared, scans_frame
from flows.results.variants import compared as compared_variants
from flows.runs.table import observations_frame
from flows.settings import Home
from sweeps.plan import Plan, members

# Scans of learning rates, see `flows.results.variants.scans_frame`, and the comparison.
ComparedVariants = tuple[pl.DataFrame, Compared | None]
# A forecast, and the methods that may disagree with its N*.
Learnt = tuple[Answer, Beside]


def sweep_findings(
    table: Table,
    counts: tuple[str, CCounts],
    source: str,
    registered: Mapping[str, Interval],
) -> Findings:
    """The answer of a sweep as its report has it, under any count of N and C."""
    return find(counted_as(table, *counts), source=source, registered=registered)


def table_findings(table: Table, counts: tuple[str, CCounts], source: str) -> Findings:
    """The answer on somebody's table as `isoflop fit` has it."""
    table = counted_as(table, *counts)
    try:
        [group] = fit_table(table, DEFAULT, source=source)
    except TableError as error:
        return Findings(table, None, str(error))
    group, first = led(group)
    return Findings(table, group, "", first)


def study_fit(trials: pl.DataFrame, ranges: Mapping[int, Sequence[Axis]]) -> LrFit | str:
    """The laws of a study as its report has them, or why there are none."""
    try:
        return fit_lr(trials, ranges=ranges)
    except TableError as error:
        return f"No law yet: {error}"


def mixtures(planned: Plan, home: Home) -> Mixed:
    """The law of a sweep of mixtures and its best shares, as its report has them."""
    return mixed(planned, observations_frame(planned.runs, home), home)


def variants(planned: Plan, home: Home) -> ComparedVariants:
    """The scans of a sweep's variants, and their comparison once one of them is planned."""
    begun = any(member.runs for member in members(planned).values())
    return scans_frame(planned, home), compared_variants(planned, home) if begun else None


def learn(table: Table) -> Learnt | str:
    """The forecast from a table that a frontier is read off, or why there is none."""
    try:
        return forecast(table, Question(anyway=True)), fit_beside(table)
    except TableError as error:
        return str(error)


def compared(tables: list[Named], bits: bool) -> Variants | str:
    """Sweeps beside the first of them, by bits per byte or nats per token, or why not."""
    try:
        return compare_variants(tables[0], tables[1:], bits_per_byte=bits)
    except TableError as error:
        return str(error).replace("--bpb", "choose them above")


def chosen(
    table: Table, candidates: Candidates, flops: float, budget: float, runs: int
) -> NextRuns | str:
    """The runs to train next, or why there are none."""
    try:
        return next_runs(table, candidates, flops, budget, runs)
    except TableError as error:
        return str(error)
