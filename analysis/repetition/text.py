"""A law of repeated data in rows and sentences that terminal and page share."""

from collections.abc import Iterator

from analysis.law import RepeatedLaw
from analysis.layout import table_lines, wrapped
from analysis.repetition.answer import RepeatedFit
from analysis.repetition.forms import FORMS
from analysis.words import bracket, short

FORM_HEADER = ("form", "rows held out", "all rows", "law of all rows")
COST_HEADER = ("epochs", "costs")
WORDS = {form.name: form.words for form in FORMS}


def facts_sentence(fit: RepeatedFit) -> str:
    """How many rows repeat, and which form they choose."""
    facts = (
        f"{fit.repeating} of {fit.rows} rows read their tokens again, up to "
        f"{fit.most_epochs:.3g} times in all; only the laws here are fitted to them."
    )
    if fit.law is None or fit.choice is None:
        return facts
    chosen = fit.choice.chosen
    return (
        f"{facts} Chosen: {chosen.form.words}, which predicts rows of more epochs or compute than "
        f"those it was fitted to, to {chosen.percent:.2g} % (rms)."
    )


def form_rows(fit: RepeatedFit) -> list[list[str]]:
    """Each form, its errors on rows held out and on all, and its law; then that of fresh tokens."""
    if fit.choice is None:
        return []
    rows = [
        [
            score.form.words,
            f"{score.percent:.2g} %",
            f"{fit.fitted_percent[name]:.2g} %",
            repeated_formula(fit.laws[name]),
        ]
        for score in fit.choice.scores
        if (name := score.form.name) is not None
    ]
    fresh = fit.choice.fresh
    return [*rows, [fresh.form.words, f"{fresh.percent:.2g} %", "–", ""]]


def cost_sentence(fit: RepeatedFit) -> str:
    """What the costs are of; empty where there are none."""
    if not fit.costs:
        return ""
    first = fit.costs[0]
    return (
        f"Loss above that of as many fresh tokens, for {short(first.n_params)} parameters and "
        f"{short(first.unique_tokens)} unique tokens:"
    )


def cost_rows(fit: RepeatedFit) -> list[list[str]]:
    """Epochs, and what they cost with its interval."""
    show = "{:.4f}".format
    return [
        [str(cost.epochs), show(cost.excess) + bracket(cost.interval, show)] for cost in fit.costs
    ]


def repeated_formula(law: RepeatedLaw) -> str:
    """The law with its constants to four digits."""
    c = {name: f"{value:.4g}" for name, value in law.constants.items()}
    if law.form == "bounded":
        return (
            f"L = {c['E']} + ({c['L0']} - {c['E']})·h/(1 + h), h = {c['a']}/N^{c['alpha']} + "
            f"{c['b']}/D^{c['beta']} + {c['c']}·N^{c['gamma']}/U^{c['delta']}"
        )
    if law.form == "half_lives":
        return (
            f"L = {c['E']} + {c['A']}/N'^{c['alpha']} + {c['B']}/D'^{c['beta']}, "
            f"R_D = {c['R_D']}, R_N = {c['R_N']}"
        )
    return (
        f"L = {c['E']} + {c['A']}/N^{c['alpha']} + {c['B']}/D^{c['beta']} + "
        f"{c['P']}·(D/U - 1)^{c['delta']}·(N/U)^{c['kappa']}"
    )


def repeated_lines(fit: RepeatedFit, width: int) -> Iterator[str]:
    """The section of a fit's answer, for the terminal."""
    yield ""
    yield "Repeated data"
    yield from wrapped(facts_sentence(fit), width, "   ")
    if fit.law is not None:
        yield from wrapped(repeated_formula(fit.law), width, "   ")
    if rows := form_rows(fit):
        yield from table_lines(FORM_HEADER[:3], [row[:3] for row in rows], width=width)
    if fit.costs:
        yield from wrapped(cost_sentence(fit), width, "   ")
        yield from table_lines(COST_HEADER, cost_rows(fit), width=width)
