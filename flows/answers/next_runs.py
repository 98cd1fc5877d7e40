"""The answer of `isoflop next`: the runs that sharpen a forecast most per FLOP, as a file too."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from analysis.forecast.text import first_lines
from analysis.next_runs.answer import NextRun, NextRuns, next_runs
from analysis.next_runs.document import next_json
from analysis.next_runs.page import next_page
from analysis.next_runs.text import verdict
from analysis.page import Page
from analysis.table.selection import one_law, split
from flows.answers.rows import ALL, Rows, check_level
from flows.answers.runs import Runs
from flows.answers.shown import Shown
from flows.answers.source import TableSource
from flows.files import write_whole
from flows.plans.find import find_plan
from flows.plans.joined import joined
from flows.plans.next_candidates import SHARE, of_sweep, of_table
from sweeps.next_cells import NextCell, next_spec
from sweeps.plan import Plan


@dataclass(frozen=True, slots=True)
class Choosing:
    """What the runs are chosen for, and from what.

    Attributes:
        flops: the target's budget C = 6·N·D.
        budget: FLOPs that the runs may cost together; None for a third of the target's.
        candidates: a table with N and D, or SIZES@RATIOS (of a sweep WIDTHS@RATIOS); None for
            those around the table's or the sweep's own.
        runs: how many to choose, at most.
    """

    flops: float
    budget: float | None = None
    candidates: str | None = None
    runs: int = 5
    level: float = 0.9

    def __post_init__(self) -> None:
        check_level(self.level)
        if self.runs < 1:
            raise ValueError(f"--runs {self.runs} is less than one.")


@dataclass(frozen=True, repr=False)
class Next(Shown):
    """The runs to train next, the most useful first, and whether they pay.

    Attributes:
        answer: the runs, the candidates, and the intervals at the target today.
        cells: of a sweep, each candidate as a cell of its recipe.
        plan: of a sweep, with the runs of those it continues.
    """

    name: str
    answer: NextRuns
    cells: tuple[NextCell, ...] = ()
    plan: Plan | None = None

    @property
    def runs(self) -> tuple[NextRun, ...]:
        """Each run's n_params, tokens, flops, loss foretold, and what it does to the intervals."""
        return self.answer.runs

    @property
    def worthwhile(self) -> int:
        """How many of the runs, the first ones, save more of the target than they cost."""
        return self.answer.worthwhile

    @property
    def verdict(self) -> str:
        """Whether to train them, in a sentence."""
        return verdict(self.answer)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be read before any number."""
        return tuple(first_lines(self.answer.forecast))

    @property
    def frame(self) -> pl.DataFrame:
        """The runs as a table, one a row."""
        return pl.DataFrame(
            {
                "n_params": [round(run.n_params) for run in self.runs],
                "tokens": [round(run.tokens) for run in self.runs],
                "flops_6nd": [run.flops for run in self.runs],
                "forecast": [run.loss for run in self.runs],
                "forecast_lower": [run.loss_interval[0] for run in self.runs],
                "forecast_upper": [run.loss_interval[1] for run in self.runs],
            }
        )

    def to(self, path: str | Path) -> None:
        """Write the runs as `--to` does: of a sweep a spec (`.yaml`), else a table (`.csv`).

        Raises:
            ValueError: another ending, or no such folder.
        """
        path = Path(path)
        check_to(path, sweep=self.plan is not None)
        if self.plan is None:
            write_whole(path, self.frame.write_csv())
            return
        spec = next_spec(self.plan, [self.cells[run.candidate] for run in self.runs])
        write_whole(path, yaml.safe_dump(spec.model_dump(), sort_keys=False))

    def json(self) -> dict[str, Any]:
        """What `isoflop next --json` writes."""
        return next_json(self.answer)

    def _drawn_page(self) -> Page:
        return next_page(self.answer, title=f"Next runs after {Path(self.name).name}")


def next_after(runs: Runs, how: Choosing, rows: Rows = ALL) -> Next:
    """Choose the runs that sharpen N* and the loss at a budget most per FLOP.

    Raises:
        ValueError: an option out of range, rows that no forecast can learn from, or no candidate
            within the budget.
    """
    budget = SHARE * how.flops if how.budget is None else how.budget
    planned = plan_of(runs.source)
    [(_, table)] = split(runs.table, where=rows.where, by=None)
    table = one_law(table, best_of=rows.best_of, pool=rows.pool, named=True)
    cells: list[NextCell] = []
    if planned is not None:
        cells, offered = of_sweep(planned, table, how.candidates, budget)
    else:
        offered = of_table(table, how.candidates, budget)
    answer = next_runs(table, offered, how.flops, budget, how.runs, level=how.level)
    return Next(runs.source.name, answer, tuple(cells), planned)


def plan_of(source: TableSource) -> Plan | None:
    """The plan of a sweep, with the runs of those it continues; None of any other table.

    A sweep that was recorded without its plan is a table.
    """
    if source.home is None or not has_plan(source):
        return None
    return joined(find_plan(source.name, source.home), source.home).plan


def has_plan(source: TableSource) -> bool:
    """Whether the runs to train next are cells of a sweep's recipe."""
    return source.sweep is not None and (source.sweep / "plan.json").is_file()


def check_to(path: Path, *, sweep: bool) -> None:
    """Refuse a file whose name promises what is not written.

    Raises:
        ValueError: another ending, or no such folder.
    """
    endings, what = ((".yaml", ".yml"), "a spec") if sweep else ((".csv",), "a table")
    if path.suffix.lower() not in endings:
        raise ValueError(f"--to {path}: the runs are written as {what}; name it *{endings[0]}.")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"--to {path}: there is no folder {path.absolute().parent}.")
