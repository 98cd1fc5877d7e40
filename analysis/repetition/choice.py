"""Which form a table follows: by its errors on runs that cost more or repeat more than its own.

A fold is fitted on the cheaper runs and predicts the next ones that repeat, or on those that
repeat less and predicts the next.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.law import Array
from analysis.repetition.fitting import Data, fit_form, log_residuals
from analysis.repetition.forms import FORMS, FRESH, Form

# Folds along each of the two orders, at most.
_FOLDS = 3
# Epochs or costs closer than this are one level.
_SAME = 0.05
# Repeating rows that a fold must know, and rows in all: the largest form has nine constants. A fold
# of less than half the rows says little of forms that are fitted to all: where no run repeats often
# the exponents of a penalty are anything.
_FEWEST_KNOWN, _FEWEST_ROWS, _KNOWN_SHARE = 3, 12, 0.5


@dataclass(frozen=True, slots=True)
class Score:
    """A form's errors on rows held out.

    Attributes:
        errors: of ln L, each row of each fold that holds it out (k,).
    """

    form: Form
    errors: Array

    @property
    def percent(self) -> float:
        """Root mean square error, % of the loss."""
        return 100 * float(np.sqrt((self.errors**2).mean()))

    def as_good_as(self, other: "Score") -> bool:
        """Whether it is not worse than the other by more than a standard error."""
        worse = self.errors**2 - other.errors**2
        return bool(worse.mean() <= worse.std() / np.sqrt(len(worse)))


@dataclass(frozen=True, slots=True)
class Choice:
    """What rolling origins say.

    Attributes:
        folds: how many there are.
        observed: the losses that they hold out, in the order of the scores' errors (k,).
        fresh: of the law that counts every token as fresh.
        scores: of the forms, as `FORMS` has them.
    """

    folds: int
    observed: Array
    fresh: Score
    scores: tuple[Score, ...]

    @property
    def chosen(self) -> Score:
        """The least error, or a form of fewer constants that is as good."""
        best = min(self.scores, key=lambda score: score.percent)
        return next(score for score in self.scores if score.as_good_as(best))

    @property
    def as_good(self) -> tuple[Score, ...]:
        """Forms that these errors do not tell from the chosen one."""
        chosen = self.chosen
        others = (score for score in self.scores if score is not chosen)
        return tuple(score for score in others if score.as_good_as(chosen))

    @property
    def costs_nothing(self) -> bool:
        """Whether counting every token as fresh predicts as well."""
        return self.fresh.as_good_as(self.chosen)


def choose(data: Data) -> Choice | None:
    """Fit every form on the folds' known rows; None where rows are too few for a fold."""
    pairs = folds(data)
    if not pairs:
        return None
    weights = np.array([known for known, _ in pairs], float)

    def score(form: Form) -> Score:
        residuals = log_residuals(form, data, fit_form(form, data, weights))
        held = (row[next_] for row, (_, next_) in zip(residuals, pairs, strict=True))
        return Score(form, np.concatenate(list(held)))

    observed = np.concatenate([data.rows.loss[next_] for _, next_ in pairs])
    return Choice(len(pairs), observed, score(FRESH), tuple(score(form) for form in FORMS))


def folds(data: Data) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """The rows known and the rows to predict, fold by fold."""
    made = []
    cost = np.log(data.N * data.D)
    for order in (np.log(data.epochs), cost):
        levels = _levels(order[data.repeats])
        for low, high in itertools.pairwise(levels):
            known = order < low
            next_ = (order >= low) & (order < high) & data.repeats
            fewest = max(_FEWEST_ROWS, _KNOWN_SHARE * len(known))
            enough = (known & data.repeats).sum() >= _FEWEST_KNOWN and known.sum() >= fewest
            if enough and next_.any():
                made.append((known, next_))
    return made


def _levels(order: Array) -> Sequence[float]:
    """Where blocks of rows begin after the first, in rising order, and where the last ends."""
    values = np.sort(order)
    begins = values[np.flatnonzero(np.diff(values) > _SAME) + 1]
    if len(begins) > _FOLDS:
        begins = begins[np.linspace(0, len(begins) - 1, _FOLDS + 1).astype(int)[1:]]
    return [*(begins - _SAME / 2), np.inf]
