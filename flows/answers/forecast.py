"""The answer of `isoflop forecast`: losses of runs not yet trained, N* and D* of a budget."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.forecast.answer import Answer, ForecastOptimum, ForecastPoint, Question, answer
from analysis.forecast.document import answer_json
from analysis.forecast.page import forecast_page
from analysis.forecast.points import read_pair, read_points
from analysis.law import NCounts
from analysis.page import Page
from analysis.table.observations import Table
from analysis.table.selection import of_group, one_law, split
from flows.answers.rows import ALL, Rows, check_level
from flows.answers.runs import Runs
from flows.answers.shown import Shown

# A run to foretell: N and D, as numbers or as "7B,2T".
Pair = str | tuple[float, float]


@dataclass(frozen=True, repr=False)
class Forecast(Shown):
    """A forecast from a table, or one for each value of a column.

    Attributes:
        groups: the value of `by` (None without), the rows learnt from, and the answer.
        by: the column of the groups.
    """

    name: str
    groups: tuple[tuple[Any, Table, Answer], ...]
    by: str | None

    @property
    def answer(self) -> Answer:
        """The answer of the only group.

        Raises:
            ValueError: there are several.
        """
        if len(self.groups) > 1:
            names = ", ".join(str(value) for value, _, _ in self.groups)
            raise ValueError(
                f"there are {len(self.groups)} forecasts, of {names}: take one of groups."
            )
        return self.groups[0][2]

    @property
    def points(self) -> tuple[ForecastPoint, ...]:
        """The runs asked for: n_params, tokens, loss, and its interval from lower to upper."""
        return self.answer.points

    @property
    def optimum(self) -> tuple[ForecastOptimum, ...]:
        """For each budget `best` with n_opt, d_opt, loss and their intervals."""
        return self.answer.optimum

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be read before any number."""
        return tuple(line for _, _, each in self.groups for line in each.warnings)

    def json(self) -> dict[str, Any]:
        """What `isoflop forecast --json` writes."""
        if self.by is None:
            return answer_json(self.groups[0][2])
        return {"groups": [{"group": value, **answer_json(each)} for value, _, each in self.groups]}

    def _drawn_page(self) -> Page:
        return forecast_page(self.groups, title=f"Forecast from {Path(self.name).name}")


def forecast_runs(runs: Runs, question: Question, rows: Rows = ALL) -> Forecast:
    """Foretell losses of runs not yet trained, and the best N and D of budgets.

    Raises:
        ValueError: a level out of range, or rows that no forecast can learn from.
    """
    check_level(question.level)
    groups = []
    for value, part in split(runs.table, where=rows.where, by=rows.by):
        with of_group(rows.by, value):
            part = one_law(part, best_of=rows.best_of, pool=rows.pool, named=rows.by is None)
            groups.append((value, part, answer(part, question)))
    return Forecast(runs.source.name, tuple(groups), rows.by)


def read_pairs(
    at: Iterable[Pair], points: Path | None, n_counts: NCounts
) -> tuple[tuple[float, float], ...]:
    """N and D of the runs to foretell: those given, then the rows of a table of points.

    Args:
        n_counts: what N of the table counts.

    Raises:
        ValueError: they are no positive numbers, or there is no such table.
    """
    pairs = [
        read_pair(pair if isinstance(pair, str) else ",".join(repr(float(each)) for each in pair))
        for pair in at
    ]
    if points is not None:
        if not points.is_file():
            raise ValueError(f"--points {points}: there is no such file.")
        pairs += read_points(points, n_counts)
    return tuple(pairs)
