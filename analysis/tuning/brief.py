"""A study in one line of a list: its doubt, and the best rate and batch of its largest model."""

from collections.abc import Callable
from dataclasses import dataclass

from analysis.tuning.study_law import FittedLaws
from analysis.tuning.surface import Optimum
from analysis.words import short


@dataclass(frozen=True, slots=True)
class StudyBrief:
    """The least that a study says.

    Attributes:
        verdict: its first doubt, or that it has none.
        N, D: of the largest model at its largest budget, where `lr` and `batch` are best.
        batch: None where it was not searched.
    """

    verdict: str
    N: float
    D: float
    lr: Optimum | None
    batch: Optimum | None


def study_brief(laws: FittedLaws) -> StudyBrief:
    """A study's laws in brief."""
    largest = max(laws.optima, key=lambda optimum: (optimum.N, optimum.D))
    doubts = (*laws.doubts, *laws.refusals, *laws.advice)
    verdict = doubts[0] if doubts else "supports a rate and a batch"
    return StudyBrief(verdict, largest.N, largest.D, largest.lr, largest.batch_tokens)


def optimum_words(optimum: Optimum | None, number: Callable[[float], str]) -> str:
    """A minimum and its interval: 1.20e-02 [1.02e-02 to 1.41e-02].

    Args:
        number: how its value is written, `analysis.words.rate` or `short`.
    """
    if optimum is None:
        return "–"
    return f"{number(optimum.value)} [{interval_words(optimum, number)}]"


def interval_words(optimum: Optimum, number: Callable[[float], str] = short) -> str:
    """The interval of a minimum; an end that the trials do not bound is left open."""
    low, high = optimum.interval
    if low is None:
        return "not bounded" if high is None else f"up to {number(high)}"
    return f"from {number(low)}" if high is None else f"{number(low)} to {number(high)}"
