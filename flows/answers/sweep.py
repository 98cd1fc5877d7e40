"""A sweep of a home, as its last report left it."""

from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path

import polars as pl

from analysis.law import LossLaw
from analysis.page import Page
from analysis.sweep.answer import Findings, find, numbers, verdict
from analysis.sweep.page import sweep_page
from analysis.table.runs import own_table
from analysis.words import counted
from flows.answers.runs import Runs, read_runs
from flows.answers.shown import Shown
from flows.answers.source import TableSource, source_of_sweep
from flows.forecasts.by_sweep import said_before
from flows.plans.find import sweeps_there
from flows.plans.joined import joined
from flows.plans.stored import read_plan
from flows.settings import Home


@dataclass(frozen=True, repr=False)
class Sweep(Shown):
    """A sweep's observations, curves and law.

    Attributes:
        home: where it is.
        source: its table in that home.
    """

    home: Home
    source: TableSource

    @property
    def name(self) -> str:
        """Of the sweep, or of a variant, as in bigger/base."""
        return self.source.name

    @cached_property
    def runs(self) -> Runs:
        """The observations as `fit`, `forecast` and `frontier` take them."""
        return read_runs(self.source)

    @cached_property
    def observations(self) -> pl.DataFrame:
        """Every planned loss, one a row; `excluded_reason` says why a row has none."""
        return pl.read_parquet(self._folder / "observations.parquet", glob=False)

    @cached_property
    def curves(self) -> pl.DataFrame:
        """Every training curve, one row a step: tokens, train_flops, train_loss (nats a token)."""
        return pl.read_parquet(self._folder / "curves.parquet", glob=False)

    @property
    def law(self) -> LossLaw:
        """The law of its report; where that has left none, the one of its observations.

        Raises:
            ValueError: its observations are too few for a law.
        """
        stored = self._folder / "law.json"
        if stored.is_file():
            return LossLaw.load(stored)
        if self.findings.group is None:
            raise ValueError(f"sweep {self.name} has no law: {self.findings.refusal}")
        return self.findings.group.fit.law.model_copy(update={"name": self.name})

    @property
    def verdict(self) -> str:
        """The answer in a few lines, as after `isoflop sweep`."""
        return verdict(self.findings)

    @cached_property
    def findings(self) -> Findings:
        """The fit to its observations and the forecast before it: some seconds, once."""
        planned = read_plan(self.home, self.name)
        whole = joined(planned, self.home).plan if planned is not None else None
        registered = said_before(whole, self.home) if whole is not None else {}
        table = own_table(self.observations)
        return find(table, source=f"sweep {self.name}", registered=registered)

    def json(self) -> dict[str, float]:
        """The numbers of its law."""
        return numbers(self.findings)

    def __repr__(self) -> str:
        frame = self.observations
        reached = frame.filter(pl.col("excluded_reason").is_null())
        sizes, best = reached["n_params"].n_unique(), min(reached["val_loss"], default=None)
        losses = counted(frame.height, "loss", "losses")
        words = f"sweep {self.name}: {reached.height} of {losses}, {counted(sizes, 'size')}"
        return words if best is None else f"{words}, best loss {best:.4f}"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>"

    @property
    def _folder(self) -> Path:
        return self.home.sweeps / self.name

    def _drawn_page(self) -> Page:
        return sweep_page(self.name, self.findings, self.curves, facts=self.source.notes)


def open_sweep(name: str, home: Home) -> Sweep:
    """A sweep of a home.

    Raises:
        ValueError: the home has no observations of that sweep; the message lists its sweeps.
    """
    source = source_of_sweep(name, home)
    if source is None:
        tables = sorted(home.sweeps.glob("**/observations.parquet"))
        known = [table.parent.relative_to(home.sweeps).as_posix() for table in tables]
        raise ValueError(
            f"no sweep {name!r} with observations in {home.root}. {sweeps_there(name, known)}"
        )
    return Sweep(home, source)
