"""The forecast that the answer of a fit begins with: N*, D* and loss at the fit's target."""

from dataclasses import dataclass, replace
from typing import Any

from analysis.fit.identifiability import doubted
from analysis.fit.records import GroupFit
from analysis.forecast.answer import Answer, Question, answer, disagreements, forecast
from analysis.forecast.beside import Other, approach_2
from analysis.forecast.document import optimum_json
from analysis.forecast.text import lead_words
from analysis.table.observations import Table, TableError


@dataclass(frozen=True, slots=True)
class Lead:
    """A forecast at the fit's target, or the reason why there is none.

    Attributes:
        table: the rows of the fit, from which the forecast learnt.
        doubts: raised where methods disagree on N*.
    """

    table: Table
    answer: Answer | None
    reason: str = ""
    doubts: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The forecast, or why there is none; empty where the fit's warnings say so already.

        It begins with why it cannot be trusted, if it cannot.
        """
        if self.answer is None:
            return f"No forecast: {self.reason}" if self.reason else ""
        best = self.answer.optimum[0]
        doubt = f"NOT CALIBRATED: {best.reason}. " if best.reason else ""
        return doubt + lead_words(best, self.answer.level)


def lead(group: GroupFit, *, record: bool = False) -> Lead:
    """The forecast at a fit's target, from the rows of the fit.

    Args:
        record: also forecast the table's own largest runs, and fit both forms of approach 3.
    """
    law = group.fit.law
    table = Table(group.used, law.n_counts, law.c_counts, law.loss_unit, read=group.read)
    if not group.optimal:
        return Lead(table, None)
    if law.form == "data_constrained":
        return Lead(table, None, "it takes every token for a fresh one, and this law does not.")
    target = group.optimal[-1]
    question = Question(
        budgets=(target.flops,), level=group.fit.intervals.level, anyway=bool(law.trust.bars)
    )
    try:
        learnt = answer(table, question) if record else forecast(table, question)
    except TableError as error:
        return Lead(table, None, str(error))
    if not learnt.optimum:
        return Lead(table, None, learnt.bars[0])
    best = learnt.optimum[0]
    others = best.others or (
        *approach_2(group.isoflop, target.flops),
        Other(f"approach 3, {law.form}", target.n_opt, target.d_opt, target.loss),
    )
    return Lead(table, learnt, doubts=disagreements(best.best, others))


def led(group: GroupFit, *, record: bool = False) -> tuple[GroupFit, Lead]:
    """A fit with its `lead`; N* on which methods disagree is not called identified.

    The law itself says so too, for whoever reads N* off it later.
    """
    first = lead(group, record=record)
    if first.doubts:
        reason = "methods disagree on it, as the first lines say."
        verdicts = doubted(group.verdicts, ("n_opt", "d_opt"), reason)
        fit = replace(group.fit, law=group.fit.law.with_warnings(*first.doubts))
        group = replace(group, fit=fit, verdicts=verdicts)
    return group, first


def lead_json(lead: Lead) -> dict[str, Any]:
    """The lead as JSON, for the document of a fit."""
    if lead.answer is None:
        return {"optimum": None, "reason": lead.reason or "the law bars N*", "doubts": []}
    learnt = lead.answer
    return {
        "optimum": optimum_json(learnt.optimum[0], learnt.data.bytes_factor),
        "level": learnt.level,
        "reason": None,
        "doubts": list(lead.doubts),
    }
