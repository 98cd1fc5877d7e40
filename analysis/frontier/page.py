"""The page of one answer of `isoflop frontier`: its words and its tables."""

from analysis.frontier.answer import Advice
from analysis.frontier.document import advice_json
from analysis.frontier.figures import draw_life, draw_regret, life_data, regret_data
from analysis.page import Page
from analysis.words import frontier_counts, short

NOT_MODELLED = (
    "Serving is a roofline of weights, key-value cache and arithmetic. Not modelled: prefix "
    "caching, speculative decoding, losses between GPUs, queueing, idle capacity (divide by "
    "occupancy), mixtures of experts. Prices are list prices and change every month."
)


def frontier_page(advice: Advice) -> Page:
    """One answer: the choice, its bill, how sure it is, and what a wrong guess costs."""
    told = advice_json(advice)
    best, plain = told["optimum"], told["compute_optimal"]
    page = Page(f"Which N and D for loss {told['loss']:.4g} and {short(advice.planned)} tokens")
    page.text(
        f"Train {short(best['N'])} parameters on {short(best['D'])} tokens. Over its life that "
        f"takes {best['saving']:.0%} fewer FLOPs than the compute-optimal {short(plain['N'])} on "
        f"{short(plain['D'])} tokens, which reaches the same loss.",
        role="lead",
    )
    _warnings(page, told)
    header = ["", "compute-optimal", "inference-optimal"]
    intervals = told["intervals"]
    if intervals:
        header.append(f"{advice.level:.0%} interval")
    words = {
        "N": "parameters",
        "D": "training tokens",
        "tokens_per_param": "tokens per parameter",
        "train_flops": "training FLOPs",
        "inference_flops": "serving FLOPs",
        "total": "lifetime FLOPs",
    }
    table = []
    for name, said in words.items():
        cells = [said, short(plain[name]), short(best[name])]
        if intervals:
            cells.append(" to ".join(short(end) for end in intervals[name]))
        table.append(cells)
    page.table(header, table)
    page.text(frontier_counts(advice.law))
    page.heading("Where the bill is least")
    page.text(
        "Every size below reaches the same loss. A small model must see more data; a large one "
        "costs more for every token it serves."
    )
    page.figure(draw_life(life_data(advice.law, advice.frontier.loss, advice.planned)), name="life")
    if advice.planned > 0:
        page.heading("What a wrong guess of demand costs")
        page.text(
            "Rows are the tokens truly served, columns those planned for, cells the extra "
            "lifetime FLOPs over the best choice for the truth."
        )
        page.figure(draw_regret(regret_data(advice.regret_demands, advice.regret)), name="regret")
    page.heading("The same question under other laws")
    page.text(
        "Laws fitted to other data and tokenizers disagree more than one law's bootstrap tells. "
        "Each is asked for its own quality at the same budget or model."
    )
    page.table(
        ("law", "compute-optimal N", "N", "D", "tokens per parameter", "saving"),
        [
            (
                row["law"],
                *(short(row[name]) for name in ("compute_optimal_N", "N", "D", "tokens_per_param")),
                f"{row['saving']:.0%}",
            )
            for row in told["spread_over_laws"]
        ],
    )
    if told["training_rules"]:
        page.text("And training alone at that budget, by rules that give no loss law:")
        page.table(
            ("rule", "N", "D", "source"),
            [
                (row["rule"], short(row["N"]), short(row["D"]), row["source"])
                for row in told["training_rules"]
            ],
        )
    _priced(page, advice)
    page.heading("Sources")
    page.text(f"Law: {advice.law.source}.", role="soft")
    page.text(NOT_MODELLED, role="soft")
    return page


def _priced(page: Page, advice: Advice) -> None:
    if advice.stocked is not None and advice.stock is not None:
        page.heading("With the data there is")
        epochs = max(1.0, float(advice.stocked.D) / advice.stock.U)
        extra = float(advice.stocked.total) / float(advice.frontier.optimum.total[0]) - 1
        page.text(
            f"With {short(advice.stock.U)} unique tokens the best is "
            f"{short(float(advice.stocked.N))} parameters on {short(float(advice.stocked.D))} "
            f"tokens, {epochs:.1f} epochs, {extra:.0%} dearer than with fresh data."
        )
    if advice.served is None:
        return
    choice = advice.served.choice
    page.heading("In dollars")
    page.text(
        f"On the named GPU the cheapest size is {short(choice.N)} on {short(choice.D)} tokens: "
        f"${choice.train_usd:,.0f} of training and ${choice.inference_usd:,.0f} of serving, "
        f"{choice.saving:.0%} under the compute-optimal model. Decoding uses "
        f"{choice.decode_mfu:.1%} of the peak."
    )
    page.text("Shapes that exist, priced for the same loss:")
    page.table(
        ("model", "tokens", "GPUs", "training $", "serving $", "lifetime $", "why not"),
        [
            (
                row["model"],
                short(row["D"]) if row["D"] else "–",
                str(row["gpus"] or "–"),
                *(_usd(row[name]) for name in ("train_usd", "inference_usd", "total_usd")),
                row["reason"] or "",
            )
            for row in advice.served.menu.to_dicts()
        ],
    )


def _warnings(page: Page, told: dict[str, object]) -> None:
    support = told["support"]
    assert isinstance(support, dict)
    if support["box"] is None:
        page.text(
            "The law does not tell where its data were: take the answer for an extrapolation.",
            role="warn",
        )
    elif support["extrapolation"]:
        page.text(
            "Extrapolation: the answer lies outside the box of FLOPs and tokens per parameter that "
            "the law's data cover. Weigh the spread over laws above the interval.",
            role="warn",
        )


def _usd(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
