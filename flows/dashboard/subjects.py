"""What a law is asked of: a sweep of the home, or a table that a person has dropped."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from analysis.fit.conventions import counted_as
from analysis.forecast.answer import Answer
from analysis.frontier.answer import Advice
from analysis.law import CCounts
from analysis.page import Page
from analysis.sweep.answer import Findings
from analysis.table.observations import Table
from analysis.table.runs import own_table
from flows.dashboard import answers, python_lines
from flows.dashboard.fits import Fits, Outcome
from flows.dashboard.kept import Kept
from flows.dashboard.library import Library
from flows.dashboard.seen import SweepSeen
from flows.forecasts.by_sweep import said_before
from flows.runs.table import observations_frame
from flows.settings import Settings

# What N and C count: a column of the table, and counted FLOPs or 6·N·D.
Counts = tuple[str, CCounts]
OWN: Counts = ("n_params", "train_flops")


@dataclass(frozen=True)
class Desk:
    """What the views of a dashboard share: what is read, computed and drawn once for all."""

    settings: Settings
    library: Library
    fits: Fits
    pages: Kept[Page] = field(default_factory=Kept)
    frontiers: Kept[tuple[Page, Advice | None]] = field(default_factory=Kept)
    tables: Kept[Table] = field(default_factory=Kept)
    trials: Kept[pl.DataFrame] = field(default_factory=Kept)
    dropped: Kept[tuple[str, Table]] = field(default_factory=Kept)


class Subject(Protocol):
    """Runs to which a law is fitted."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def state(self) -> Hashable:
        """What changes when its table does."""

    def table(self) -> Table:
        """Its runs, N and C counted as they came."""

    def findings(self, counts: Counts) -> Outcome[Findings]:
        """Its answer under counts of N and C."""

    def forecast(self) -> Outcome[Answer | str]:
        """The forecast from it, or why there is none."""

    @property
    def own_counts(self) -> Counts:
        """What its N and C count without a switch."""

    def door(self) -> str | None:
        """The word of `isoflop` that gives its runs; None where that would give other losses."""

    def door_fit(self) -> str | None:
        """The same for the answer of its fit."""

    def python(self, counts: Counts) -> str:
        """The lines that read its table."""


@dataclass(frozen=True)
class SweepSubject:
    """A sweep of the home."""

    desk: Desk
    sweep: SweepSeen

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.sweep.name

    @property
    def state(self) -> Hashable:
        """Which runs have ended, and when."""
        return self.sweep.losses

    def table(self) -> Table:
        """Its runs and those of the sweeps that it continues, C counted."""
        runs, home = self.sweep.whole.plan.runs, self.desk.library.home
        return self.desk.tables.get(
            self.name, self.sweep.stamp, lambda: own_table(observations_frame(runs, home))
        )

    def asked(self, counts: Counts) -> Outcome[Findings] | None:
        """Its answer if somebody has asked for it; None where nobody has."""
        return self.desk.fits.peek(("sweep", self.name, counts), self.state)

    def findings(self, counts: Counts) -> Outcome[Findings]:
        """Its answer, as its report has it."""
        known = self.asked(counts)
        if known is not None:
            return known
        registered = said_before(self.sweep.plan, self.desk.library.home)
        arguments = (self.table(), counts, f"sweep {self.name}", registered)
        question = ("sweep", self.name, counts)
        return self.desk.fits.get(question, self.state, answers.sweep_findings, *arguments)

    def forecast(self) -> Outcome[Answer | str]:
        """The forecast that isoflop frontier takes."""
        return _forecast(self, self.desk, ("sweep forecast", self.name))

    @property
    def own_counts(self) -> Counts:
        """Of our own sweeps."""
        return OWN

    def door(self) -> str | None:
        """The sweep, once its report is of all losses."""
        if not self.sweep.reported:
            return None
        return f"isoflop.sweep({self.name!r}, home={str(self.desk.library.home.root)!r})"

    def door_fit(self) -> str | None:
        """The sweep has its answer."""
        return self.door()

    def python(self, counts: Counts) -> str:
        """The lines that read its run directories."""
        return python_lines.of_sweep(self.desk.library.home.root, self.name, counts)


@dataclass(frozen=True)
class TableSubject:
    """A table that a person has dropped on a page; `digest` is of its file."""

    desk: Desk
    digest: str
    name: str
    rows: Table

    @property
    def state(self) -> Hashable:
        """Its file's digest: a table does not change."""
        return self.digest

    def table(self) -> Table:
        """Its runs."""
        return self.rows

    def findings(self, counts: Counts) -> Outcome[Findings]:
        """Its answer, as isoflop fit has it."""
        question = ("table", self.digest, counts)
        arguments = (self.rows, counts, self.name)
        return self.desk.fits.get(question, self.digest, answers.table_findings, *arguments)

    def forecast(self) -> Outcome[Answer | str]:
        """The forecast that isoflop frontier takes."""
        return _forecast(self, self.desk, ("table forecast", self.digest))

    @property
    def own_counts(self) -> Counts:
        """As they came."""
        return ("n_params", self.rows.c_counts)

    def door(self) -> str:
        """A file of that name."""
        return f"isoflop.read({self.name!r})"

    def door_fit(self) -> str:
        """The fit of a file of that name."""
        return f"isoflop.fit({self.name!r})"

    def python(self, counts: Counts) -> str:
        """The lines that read a file of that name."""
        return python_lines.of_table(self.name, counts, counts == self.own_counts)


def _forecast(subject: Subject, desk: Desk, question: Hashable) -> Outcome[Answer | str]:
    known = desk.fits.peek(question, subject.state)
    if known is not None:
        return known
    return desk.fits.get(question, subject.state, answers.learn, subject.table())


def counted(subject: Subject, counts: Counts) -> Table:
    """A subject's table under counts of N and C."""
    return counted_as(subject.table(), *counts)
