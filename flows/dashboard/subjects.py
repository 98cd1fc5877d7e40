"""What a law is asked of: a sweep of the home, or a table that a person has dropped."""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from analysis.frontier.answer import Advice
from analysis.law import CCounts
from analysis.page import Page
from analysis.sweep.answer import Findings
from analysis.table.observations import Table
from analysis.table.runs import own_table
from flows.dashboard import answers
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


class Subject(ABC):
    """Runs to which a law is fitted.

    Attributes:
        name: what people call it.
        key: its kind, and what it is known by among those of the kind.
        state: what changes when its table does.
        own_counts: what its N and C count without a switch.
        door: the call of `isoflop` that names its runs.
        door_runs, door_fit: those that read them, and that fit them.
        before: a line that these need.
    """

    desk: Desk
    name: str
    key: tuple[str, str]
    state: Hashable
    own_counts: Counts
    door: str
    door_runs: str
    door_fit: str
    before = ""

    @abstractmethod
    def table(self) -> Table:
        """Its runs, N and C counted as they came."""

    @abstractmethod
    def findings(self, counts: Counts) -> Outcome[Findings]:
        """Its answer under counts of N and C."""

    def asked(self, counts: Counts) -> Outcome[Findings] | None:
        """Its answer if somebody has asked for it; None where nobody has."""
        return self.desk.fits.peek((*self.key, counts), self.state)

    def forecast(self) -> Outcome[answers.Learnt | str]:
        """The forecast from it that isoflop frontier takes, or why there is none."""
        question = ("forecast", *self.key)
        return self.desk.fits.get(question, self.state, answers.learn, lambda: (self.table(),))


class SweepSubject(Subject):
    """A sweep of the home."""

    def __init__(self, desk: Desk, sweep: SweepSeen) -> None:
        self.desk, self.sweep, self.name = desk, sweep, sweep.name
        self.key, self.state, self.own_counts = ("sweep", sweep.name), sweep.losses, OWN
        self.door = f"isoflop.sweep({self.name!r}, home={str(desk.library.home.root)!r})"
        self.door_fit, self.door_runs = self.door, f"{self.door}.runs"
        if not sweep.reported:
            self.before = f"# its losses are newer than its report: isoflop report {self.name}\n"

    def table(self) -> Table:
        """Its runs and those of the sweeps that it continues, C counted."""
        runs, home = self.sweep.whole.plan.runs, self.desk.library.home
        return self.desk.tables.get(
            self.name, self.sweep.stamp, lambda: own_table(observations_frame(runs, home))
        )

    def findings(self, counts: Counts) -> Outcome[Findings]:
        """Its answer, as its report has it."""

        def arguments() -> tuple[Any, ...]:
            registered = said_before(self.sweep.plan, self.desk.library.home)
            return self.table(), counts, f"sweep {self.name}", registered

        question = (*self.key, counts)
        return self.desk.fits.get(question, self.state, answers.sweep_findings, arguments)


class TableSubject(Subject):
    """A table that a person has dropped on a page; `digest` is of its file."""

    def __init__(self, desk: Desk, digest: str, name: str, rows: Table) -> None:
        self.desk, self.name, self._rows = desk, name, rows
        # A table does not change.
        self.key, self.state = ("table", digest), digest
        self.own_counts = ("n_params", rows.c_counts)
        self.door = self.door_runs = f"isoflop.read({name!r})"
        self.door_fit = f"isoflop.fit({name!r})"

    def table(self) -> Table:
        """Its runs."""
        return self._rows

    def findings(self, counts: Counts) -> Outcome[Findings]:
        """Its answer, as isoflop fit has it."""
        return self.desk.fits.get(
            (*self.key, counts),
            self.state,
            answers.table_findings,
            lambda: (self._rows, counts, self.name),
        )
