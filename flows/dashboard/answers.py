"""What the dashboard computes in the background. Each is a function of a table alone."""

from collections.abc import Mapping

from analysis.compare.comparable import Named
from analysis.compare.variants import Variants, compare_variants
from analysis.fit.answer import fit_table
from analysis.fit.conventions import counted_as
from analysis.fit.options import DEFAULT
from analysis.forecast.answer import Answer, Question, forecast
from analysis.forecast.design import Candidates
from analysis.forecast.lead import led
from analysis.law import CCounts
from analysis.next_runs.answer import NextRuns, next_runs
from analysis.own_runs.outcome import Interval
from analysis.sweep.answer import Findings, find
from analysis.table.observations import Table, TableError


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


def learn(table: Table) -> Answer | str:
    """The forecast from a table that a frontier is read off, or why there is none."""
    try:
        return forecast(table, Question(anyway=True))
    except TableError as error:
        return str(error)


def compared(tables: list[Named]) -> Variants | str:
    """Sweeps beside the first of them, or why they do not compare."""
    try:
        return compare_variants(tables[0], tables[1:])
    except TableError as error:
        return str(error)


def chosen(
    table: Table, candidates: Candidates, flops: float, budget: float, runs: int
) -> NextRuns | str:
    """The runs to train next, or why there are none."""
    try:
        return next_runs(table, candidates, flops, budget, runs)
    except TableError as error:
        return str(error)
