"""The answer of `isoflop frontier`: N and D for a goal and a demand, and what they cost."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from analysis.frontier.allocation import Allocation
from analysis.frontier.answer import Advice, advise
from analysis.frontier.decision import Goal
from analysis.frontier.document import advice_json
from analysis.frontier.page import frontier_page
from analysis.frontier.text import warnings
from analysis.law import LossLaw
from analysis.page import Page
from flows.answers.law import law_for, law_of_runs
from flows.answers.question import Priced
from flows.answers.rows import check_level
from flows.answers.runs import Runs
from flows.answers.shown import Shown


@dataclass(frozen=True, repr=False)
class Frontier(Shown):
    """Compute-optimal and inference-optimal N and D, what they cost, and how sure that is.

    Attributes:
        advice: the whole answer; its `law` is the one answered under.
    """

    advice: Advice

    @property
    def compute_optimal(self) -> Allocation:
        """N (parameters), D (tokens) and bills (FLOPs) of the cheapest training."""
        return self.advice.frontier.compute_optimal

    @property
    def optimum(self) -> Allocation:
        """The same of the cheapest life: training, and serving the demand."""
        return self.advice.frontier.optimum

    @property
    def law(self) -> LossLaw:
        """The law that was answered under."""
        return self.advice.law

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What must be read before any number."""
        return tuple(warnings(self.advice))

    def json(self) -> dict[str, Any]:
        """What `isoflop frontier --json` writes."""
        return advice_json(self.advice)

    def _drawn_page(self) -> Page:
        return frontier_page(self.advice)


def frontier(
    law: str | Runs | LossLaw, goal: Goal, priced: Priced, *, level: float, anyway: bool = False
) -> Frontier:
    """Choose N and D for a goal and a demand.

    Args:
        law: by its name or that of its table, of runs, or itself.
        level: of every interval.
        anyway: answer also under a law that bars N*.

    Raises:
        ValueError: there is no such law, it bars N*, or the question has no answer.
    """
    check_level(level)
    if priced.unique_tokens == math.inf:
        raise ValueError("--unique-tokens inf: leave the option out where all tokens are fresh.")
    foretold = False
    if isinstance(law, LossLaw):
        chosen, name = law, law.name
    elif isinstance(law, Runs):
        chosen = law_of_runs(law, goal, priced)
        foretold, name = True, law.source.name
    else:
        (chosen, foretold), name = law_for(law, goal, priced), law
    if chosen.trust.bars and not anyway:
        bars = " ".join(f"{bar.rstrip('.')}." for bar in chosen.trust.bars)
        raise ValueError(f"{name}: {bars} --anyway answers under this law.")
    advice = advise(
        chosen,
        goal,
        priced.demand,
        serving=priced.serving,
        days=priced.days,
        unique_tokens=priced.unique_tokens,
        level=level,
    )
    return Frontier(replace(advice, foretold=foretold))
