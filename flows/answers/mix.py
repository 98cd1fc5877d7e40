"""The answer of `isoflop mix`: what each source is worth, and the shares of least loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from analysis.forecast.points import read_option
from analysis.mixtures.answer import Answer
from analysis.mixtures.answer import mix as answer_of
from analysis.mixtures.document import mix_json
from analysis.mixtures.page import mix_page
from analysis.mixtures.question import Question, read_stock, read_target
from analysis.mixtures.rows import read_mixtures, read_points
from analysis.page import Page
from analysis.table.observations import TableError
from flows.answers.rows import check_level
from flows.answers.shown import Shown
from flows.answers.source import TableSource
from flows.plans.stored import read_plan
from flows.results.mixtures import asked as asked_by_spec


@dataclass(frozen=True, repr=False)
class Mix(Shown):
    """The law of losses by source, and the best shares for a target.

    Attributes:
        answer: laws tried and chosen, the best mixture with intervals, effects of each source.
    """

    name: str
    answer: Answer

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be read before any number."""
        return (*self.answer.bars, *self.answer.warnings)

    def json(self) -> dict[str, Any]:
        """What `isoflop mix --json` writes."""
        return mix_json(self.answer)

    def _drawn_page(self) -> Page:
        return mix_page(self.answer, title=f"Mixtures of {Path(self.name).name}")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as options have it; None for what the sweep's spec asks, or the default."""

    target: str | None = None
    stock: str | None = None
    epochs: float | None = None
    params: str | float | None = None
    tokens: str | float | None = None
    anywhere: bool = False
    level: float = 0.9


@dataclass(frozen=True, slots=True)
class Columns:
    """How a table of mixtures is read.

    Attributes:
        mapping: isoflop's name for a column to the table's.
        where: polars SQL filter.
        include_status: states whose rows are taken, besides finished ones.
    """

    mapping: Mapping[str, str]
    where: str | None = None
    include_status: Sequence[str] = ()


def mix_source(
    source: TableSource, asked: Asked, columns: Columns, points: TableSource | None = None
) -> Mix:
    """Fit losses by source to the mixtures of a table, and search the best one.

    Args:
        points: mixtures whose losses to foretell.

    Raises:
        ValueError: an option is out of range, or the table gives no law.
    """
    question = _question(asked, source)
    table = read_mixtures(
        source.contents(),
        mapping=columns.mapping,
        where=columns.where,
        include_status=columns.include_status,
    )
    foretold = None
    if points is not None:
        try:
            foretold = read_points(points.contents(), columns.mapping, table)
        except TableError as error:
            raise TableError(f"--points {points.name}: {error}") from error
    with threadpool_limits(1, "blas"):
        return Mix(source.name, answer_of(table, question, foretold))


def _question(asked: Asked, source: TableSource) -> Question:
    check_level(asked.level)
    if asked.epochs is not None and not asked.epochs > 0:
        raise ValueError(f"--epochs {asked.epochs:g} should be a positive number.")
    own = _of_sweep(source)
    return Question(
        own.target if asked.target is None else read_target(asked.target),
        own.stock if asked.stock is None else read_stock(asked.stock),
        own.epochs if asked.epochs is None else asked.epochs,
        _count("--params", asked.params),
        own.tokens if asked.tokens is None else _count("--tokens", asked.tokens),
        asked.anywhere,
        asked.level,
    )


def _of_sweep(source: TableSource) -> Question:
    """What the spec of a sweep of mixtures asks; of any other table nothing."""
    planned = read_plan(source.home, source.name) if source.home is not None else None
    if source.home is None or planned is None or not planned.spec.mixtures:
        return Question()
    return asked_by_spec(planned, source.home)


def _count(option: str, number: str | float | None) -> float | None:
    return None if number is None else read_option(option, number, "count", "1B")
