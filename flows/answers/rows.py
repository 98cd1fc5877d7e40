"""Which rows of a table a question is about."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows that are used, and how they are grouped.

    Attributes:
        by: column; one answer for each of its values.
        where: polars SQL; only rows for which it is true.
        best_of: settings of which only the best is used for each N and D.
        pool: take several experiments, or several settings of one N and D, together.
    """

    by: str | None = None
    where: str | None = None
    best_of: tuple[str, ...] = ()
    pool: bool = False


ALL = Rows()


def check_level(level: float) -> None:
    """Refuse what is no level of an interval.

    Raises:
        ValueError: it does not lie between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"--level {level} must lie between 0 and 1, for example 0.9.")
