"""The answer of `isoflop fit`: laws of a table's runs, group by group."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from analysis.fit.answer import fit_table
from analysis.fit.document import envelope_json, group_json
from analysis.fit.envelope import EnvelopeFit, fit_envelope
from analysis.fit.options import DEFAULT, FitOptions
from analysis.fit.page import add_envelope, fit_page
from analysis.fit.records import GroupFit
from analysis.forecast.lead import Lead, lead_json, led
from analysis.law import LossLaw
from analysis.page import Page
from analysis.solver.objective import Objective, ObjectiveName
from flows.answers.rows import ALL, Rows, check_level
from flows.answers.runs import Runs
from flows.answers.shown import Shown


@dataclass(frozen=True, repr=False)
class Fit(Shown):
    """A loss law of a table, or one for each value of a column.

    Attributes:
        groups: each law with its intervals, optima, verdicts, doubts and rows; one without `by`.
        leads: for each group the forecast at its target, or why there is none.
        envelope: of a sweep its training curves and approach 1.
    """

    name: str
    groups: tuple[GroupFit, ...]
    leads: tuple[Lead, ...]
    envelope: tuple[pl.DataFrame, EnvelopeFit] | None

    @cached_property
    def laws(self) -> dict[Any, LossLaw]:
        """The law of each group, by the value of `by`; by None without."""
        return {group.group: group.fit.law for group in self.groups}

    @property
    def group(self) -> GroupFit:
        """The only group.

        Raises:
            ValueError: there are several.
        """
        if len(self.groups) > 1:
            names = ", ".join(str(group.group) for group in self.groups)
            raise ValueError(f"there are {len(self.groups)} laws, of {names}: take one of groups.")
        return self.groups[0]

    @property
    def law(self) -> LossLaw:
        """The law of the only group: constants, what N and C count, draws of the bootstrap.

        Raises:
            ValueError: there are several.
        """
        return self.group.fit.law

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be read before any number."""
        return tuple(line for group in self.groups for line in group.warnings)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What else the checks of the table found."""
        return tuple(doubt for group in self.groups for doubt in group.doubts)

    def json(self) -> dict[str, Any]:
        """What `isoflop fit --json` writes; docs/fitting/output.md has the keys."""
        document: dict[str, Any] = {
            "groups": [
                {**group_json(group), "forecast": lead_json(each)}
                for group, each in zip(self.groups, self.leads, strict=True)
            ]
        }
        if self.envelope is not None:
            document["envelope"] = envelope_json(self.envelope[1])
        return document

    def _drawn_page(self) -> Page:
        leads = [each.sentence for each in self.leads]
        page = fit_page(self.groups, title=f"Loss law of {Path(self.name).name}", leads=leads)
        if self.envelope is not None:
            add_envelope(page, *self.envelope)
        return page


def fit_runs(runs: Runs, options: FitOptions = DEFAULT, rows: Rows = ALL) -> Fit:
    """Fit a law to runs, and read the forecast at its target beside it.

    Raises:
        ValueError: an option out of range, or rows that no fit can use; see `fit_table`.
    """
    _check_numbers(options)
    repeated = options.form == "data_constrained"
    groups = fit_table(
        runs.with_repetition() if repeated else runs.table,
        options,
        by=rows.by,
        where=rows.where,
        pool=rows.pool,
        best_of=rows.best_of,
        source=runs.source.name,
    )
    envelope = _envelope(runs.source.sweep, options.level)
    laws, leads = zip(*map(led, groups), strict=True)
    return Fit(runs.source.name, laws, leads, envelope)


def objective_of(name: ObjectiveName, delta: float) -> Objective:
    """What is summed over rows.

    Raises:
        ValueError: delta is not positive.
    """
    if not delta > 0:
        raise ValueError(f"--delta {delta} must be positive.")
    return Objective(name, delta)


def _check_numbers(options: FitOptions) -> None:
    check_level(options.level)
    target = options.target_flops
    if options.bootstrap < 0 or options.seed < 0:
        raise ValueError(
            f"--bootstrap {options.bootstrap} and --seed {options.seed} must not be negative."
        )
    if target is not None and not 0 < target < float("inf"):
        raise ValueError(f"--target-flops {target} must be positive.")


def _envelope(sweep: Path | None, level: float) -> tuple[pl.DataFrame, EnvelopeFit] | None:
    """Approach 1; None without training curves."""
    if sweep is None or not (sweep / "curves.parquet").is_file():
        return None
    curves = pl.read_parquet(sweep / "curves.parquet", glob=False)
    return (curves, fit_envelope(curves, level=level)) if curves.height else None
