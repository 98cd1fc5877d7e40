"""What is asked of a table of mixtures: the target's weights, stocks, and the size to mix for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from analysis.forecast.points import read_number
from analysis.law import Array
from analysis.table.numbers import Kind
from analysis.table.observations import TableError, nearest
from analysis.words import short

# A share this little above its limit keeps it.
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        target: weights of the losses by name; none for their mean.
        stock: unique tokens of a source.
        epochs: how often a source of limited stock may be read.
        params, tokens: N and D of the training to mix for; the largest of the table unless given.
        anywhere: search all mixtures, not only averages of those tried.
        level: of every interval.
        draws: of the law, for the intervals of the shares.
    """

    target: Mapping[str, float] = field(default_factory=dict)
    stock: Mapping[str, float] = field(default_factory=dict)
    epochs: float = 4.0
    params: float | None = None
    tokens: float | None = None
    anywhere: bool = False
    level: float = 0.9
    draws: int = 100


def read_target(text: str | None) -> dict[str, float]:
    """Weights of losses from NAME, NAME,NAME or NAME=WEIGHT,…; none for the mean of all.

    Raises:
        TableError: a weight is no positive number, or a name comes twice.
    """
    return _pairs("--target", text, "plain", "--target code=2,prose=1", bare=True)


def read_stock(text: str | None) -> dict[str, float]:
    """Unique tokens of sources from NAME=TOKENS,….

    Raises:
        TableError: a stock is no positive number, or a name comes twice.
    """
    return _pairs("--stock", text, "count", "--stock code=20B,wiki=3B", bare=False)


def target_weights(target: Mapping[str, float], names: Sequence[str]) -> Array:
    """Weights of the losses, which sum to 1.

    Raises:
        TableError: there is no loss of that name.
    """
    for name in target:
        if name not in names:
            raise TableError(
                f"--target {name}: the table has no loss of {name!r}.{nearest(name, names)} It has "
                f"{', '.join(names)}."
            )
    weights = np.array([target.get(name, 0.0) if target else 1.0 for name in names])
    return np.asarray(weights / weights.sum())


def share_limits(question: Question, sources: Sequence[str], tokens: float | None) -> Array:
    """The largest share of each source: its stock, as often as it may be read, over the tokens.

    Args:
        tokens: of the training to mix for; None where neither table nor question has them.

    Raises:
        TableError: there is no such source, or the limits leave less than a whole.
    """
    limits = np.ones(len(sources))
    for name, stock in question.stock.items():
        if name not in sources:
            raise TableError(
                f"--stock {name}: the table has no source {name!r}.{nearest(name, sources)} It "
                f"has {', '.join(sources)}."
            )
        if tokens is None:
            raise TableError(
                "--stock limits shares only at known tokens: say how many the training takes, for "
                "example --tokens 1T."
            )
        limits[list(sources).index(name)] = min(1.0, stock * question.epochs / tokens)
    if limits.sum() < 1 - ROUNDING:
        raise TableError(
            f"--stock: all sources together give {limits.sum():.3g} of the {short(tokens)} tokens "
            f"at {question.epochs:g} epochs. Allow more with --epochs, or train fewer --tokens."
        )
    return limits


def _pairs(
    option: str, text: str | None, kind: Kind, example: str, *, bare: bool
) -> dict[str, float]:
    pairs: dict[str, float] = {}
    for part in (text or "").split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not name and not equals:
            continue
        if not name or not (value or (bare and not equals)):
            raise TableError(f"{option} {text!r} should read NAME=NUMBER, for example {example}.")
        if name in pairs:
            raise TableError(f"{option} {text!r} names {name!r} twice.")
        try:
            pairs[name] = read_number(value, kind) if equals else 1.0
        except TableError as error:
            raise TableError(f"{option} {part.strip()}: {error} For example {example}.") from error
    return pairs
