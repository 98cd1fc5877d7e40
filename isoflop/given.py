"""What a word is given, as what its command is given: tables, laws, demands, names."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike, fspath
from typing import Any, Protocol, cast, get_args

import polars as pl
from numpy.typing import ArrayLike

from analysis.law import LossLaw
from flows.answers.fit import Fit
from flows.answers.forecast import Pair
from flows.answers.runs import Runs, read_runs
from flows.answers.source import TableSource, open_source, source_of
from flows.answers.sweep import Sweep


class Frame(Protocol):
    """A data frame of polars, pandas or Arrow."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Its columns; each of these libraries has this."""


# What names a table: a path, a sweep, mlflow:EXPERIMENT, optuna:STUDY@STORAGE; or its columns.
Named = str | PathLike[str] | Frame | Mapping[str, ArrayLike] | Sweep
Table = Named | Runs
# Tokens to serve: a number, or the least and the most.
Demand = float | tuple[float, float] | None
Names = str | Sequence[str]


@contextmanager
def in_python() -> Iterator[None]:
    """Say of a message about an option what it is in Python."""
    try:
        yield
    except ValueError as error:
        if "--" in str(error):
            error.add_note(
                "In Python an option is a parameter: --best-of lr is best_of='lr', and "
                "--map NAME=COLUMN is map={'NAME': 'COLUMN'} of isoflop.read."
            )
        raise


def source_given(source: Named) -> TableSource:
    """What names a table, opened."""
    if isinstance(source, Sweep):
        return source.source
    if isinstance(source, str | PathLike):
        return open_source(fspath(source))
    # Not strict: 3 among 2.9 and 2.8 is a loss as well.
    return source_of(pl.DataFrame(source, strict=False))


def runs_given(source: Table) -> Runs:
    """The runs of a table, read unless they are runs already."""
    return source if isinstance(source, Runs) else read_runs(source_given(source))


def law_given(law: Table | LossLaw | Fit) -> str | Runs | LossLaw:
    """A law, the runs to forecast from, or the name of either."""
    if isinstance(law, str | LossLaw):
        return law
    if isinstance(law, Fit):
        return law.law
    return fspath(law) if isinstance(law, PathLike) else runs_given(law)


def check_choice(name: str, value: object, choices: Any) -> None:
    """Refuse what is none of the values that a parameter's type lists, as the command does.

    Raises:
        ValueError: it is none of them.
    """
    if value not in get_args(choices):
        raise ValueError(f"{name}={value!r} is none of {', '.join(get_args(choices))}.")


def several_given(at: Pair | Sequence[Pair]) -> Sequence[Pair]:
    """Pairs of N and D, of which one may be given by itself."""
    alone = isinstance(at, str) or (at and all(isinstance(each, float | int) for each in at))
    return [cast(Pair, at)] if alone else cast(Sequence[Pair], at)


def side_given(source: Table) -> str | Runs:
    """One side of a comparison: the name of a sweep or a file, or runs."""
    if isinstance(source, str | PathLike):
        return fspath(source)
    return runs_given(source)


def names_given(names: Names) -> tuple[str, ...]:
    """Names of columns, also as one text with commas."""
    if isinstance(names, str):
        names = names.split(",")
    return tuple(name.strip() for name in names if name.strip())


def bounds_given(tokens: Demand) -> tuple[float, float] | None:
    """Least and most tokens; equal where one number is given."""
    if tokens is None or isinstance(tokens, tuple):
        return tokens
    return tokens, tokens


def pairs_given(weights: str | Mapping[str, float] | None) -> str | None:
    """Weights by name as the option has them, to be read by the same rules."""
    if weights is None or isinstance(weights, str):
        return weights
    return ",".join(f"{name}={weight!r}" for name, weight in weights.items())
