"""The page of one answer of `isoflop frontier`: its words and its tables."""

from analysis.frontier.answer import Advice
from analysis.frontier.figures import draw_life, draw_regret, life_data, regret_data
from analysis.frontier.text import (
    BATCH_HEADER,
    DOLLAR_HEADER,
    RULE_HEADER,
    SPREAD_HEADER,
    batch_rows,
    choice_table,
    decoding,
    demand_sentences,
    dollar_rows,
    lead_sentences,
    menu_table,
    rule_rows,
    spread_rows,
    stock_sentence,
    warnings,
)
from analysis.page import Page
from analysis.words import frontier_counts, short

NOT_MODELLED = (
    "Serving is a roofline of weights, key-value cache and arithmetic. Not modelled: prefix "
    "caching, speculative decoding, losses between GPUs, queueing, idle capacity (divide by "
    "occupancy), mixtures of experts. Prices are list prices and change every month."
)


def frontier_page(advice: Advice) -> Page:
    """One answer: the choice, its bill, how certain it is, and what a wrong guess costs."""
    loss, planned = advice.frontier.loss, short(advice.planned)
    page = Page(f"Which N and D for loss {loss:.4f} and {planned} tokens")
    add_answer(page, advice)
    add_reasons(page, advice)
    return page


def add_answer(page: Page, advice: Advice) -> None:
    """What to read first, and the choice in a sentence."""
    for warning in warnings(advice):
        page.text(warning, role="warn")
    lead, *more = lead_sentences(advice)
    page.text(lead, role="lead")
    for sentence in more:
        page.text(sentence)


def add_reasons(page: Page, advice: Advice) -> None:
    """The bill of the choice, how certain it is, and what a wrong guess costs."""
    answer, served = advice.frontier, advice.served
    if served is not None:
        page.heading("In dollars")
        page.table(DOLLAR_HEADER, dollar_rows(advice, served))
        page.text(decoding(served))
        page.text("The cheapest size at other batches, all else the same:")
        page.table(BATCH_HEADER, batch_rows(served))
        page.text(
            "Published shapes, priced for the same loss. Llama-2-70B and Llama 3 share keys and "
            "values between heads, so serving them reads less than the sizes above do:"
        )
        page.table(*menu_table(served))
    page.heading("In FLOPs")
    page.table(*choice_table(advice))
    page.text(" ".join([frontier_counts(advice.law.n_counts), *demand_sentences(advice)]))
    page.heading("Where the bill is least")
    page.text(
        "Every size below reaches the same loss. A small model needs more data; a large one "
        "costs more for every token it serves."
    )
    life = life_data(advice.law, answer.loss, advice.planned)
    page.figure(draw_life(life), name="life", data=life)
    if advice.planned > 0:
        page.heading("What a wrong guess of demand costs")
        page.text(
            "Rows are the tokens served in fact, columns those planned for, cells the extra "
            "lifetime FLOPs over the best choice for the tokens served."
        )
        wrong = regret_data(advice.regret_demands, advice.regret)
        page.figure(draw_regret(wrong), name="regret", data=wrong)
    _other_laws(page, advice)
    if sentence := stock_sentence(advice):
        page.heading("With the data there is")
        page.text(sentence)
    page.heading("Sources")
    page.text(f"Law: {advice.law.source}.", role="soft")
    page.text(NOT_MODELLED, role="soft")


def _other_laws(page: Page, advice: Advice) -> None:
    page.heading("The same question under other laws")
    page.text(
        "Laws fitted to other data and tokenizers disagree by more than one law's "
        "interval. Each is taken at its own loss for the same budget or model."
    )
    page.table(SPREAD_HEADER, spread_rows(advice))
    if rules := rule_rows(advice):
        page.text("And training alone at that budget, by rules that give no loss law:")
        page.table(RULE_HEADER, rules)
