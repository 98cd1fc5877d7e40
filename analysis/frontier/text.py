"""The advice in rows and sentences that terminal and page share."""

from collections.abc import Callable

from analysis.frontier.answer import Advice, ServedAdvice
from analysis.frontier.decision import Quantity
from analysis.words import dollars, flops, short

_QUANTITIES: dict[Quantity, tuple[str, Callable[[float], str]]] = {
    "N": ("parameters N", short),
    "D": ("training tokens D", short),
    "tokens_per_param": ("tokens per parameter", short),
    "train_flops": ("training FLOPs", flops),
    "inference_flops": ("serving FLOPs", flops),
    "total": ("lifetime FLOPs", flops),
}
SPREAD_HEADER = ("law", "compute-optimal N", "N", "D", "tokens per parameter", "saving")
RULE_HEADER = ("rule", "N", "D", "source")
MENU_HEADER = ("model", "tokens", "GPUs", "training", "serving", "lifetime", "why not")


def choice_table(advice: Advice) -> tuple[list[str], list[list[str]]]:
    """Header and rows: each quantity of both choices, with the interval of the second."""
    answer = advice.frontier
    header = ["", "compute-optimal", "inference-optimal"]
    if answer.drawn is not None:
        header.append(f"{advice.level:.0%} interval")
    rows = []
    for name, (words, show) in _QUANTITIES.items():
        choices = (answer.compute_optimal, answer.optimum)
        cells = [words, *(show(getattr(choice, name).item()) for choice in choices)]
        interval = answer.interval(name, advice.level)
        if interval is not None:
            cells.append(" to ".join(show(end.item()) for end in interval))
        rows.append(cells)
    return header, rows


def spread_rows(advice: Advice) -> list[list[str]]:
    """The choice under each published law, under `SPREAD_HEADER`."""
    names = ("compute_optimal_N", "N", "D", "tokens_per_param")
    return [
        [row["law"], *(short(row[name]) for name in names), f"{row['saving']:.1%}"]
        for row in advice.laws.iter_rows(named=True)
    ]


def rule_rows(advice: Advice) -> list[list[str]]:
    """Training alone by rules without a loss law, under `RULE_HEADER`."""
    rules = advice.training_rules.iter_rows(named=True)
    return [[row["rule"], short(row["N"]), short(row["D"]), row["source"]] for row in rules]


def menu_rows(served: ServedAdvice) -> list[list[str]]:
    """Published shapes priced for the same loss, under `MENU_HEADER`."""
    return [
        [
            row["model"],
            short(row["D"]),
            str(row["gpus"] or "–"),
            *(dollars(row[name]) for name in ("train_usd", "inference_usd", "total_usd")),
            row["reason"] or "",
        ]
        for row in served.menu.iter_rows(named=True)
    ]


def warnings(advice: Advice) -> tuple[str, ...]:
    """What must be read before the answer, for its first lines; empty when nothing must."""
    lines = [*advice.law.trust.lines, extrapolation(advice)]
    return tuple(line for line in lines if line)


def extrapolation(advice: Advice) -> str:
    """A warning where the optimum is not known to lie in the law's data; empty where it does.

    A forecast's intervals widen with the distance, and its law's trust says where they were not
    tested.
    """
    if advice.foretold:
        return ""
    outside = advice.frontier.extrapolated
    if outside is None:
        return "The law does not say where its data were: treat the answer as an extrapolation."
    if not outside[0]:
        return ""
    return (
        "EXTRAPOLATION: the optimum lies outside the FLOPs and tokens per parameter of the law's "
        "data. Trust the spread over laws more than the interval."
    )


def stock_sentence(advice: Advice) -> str:
    """The choice when unique data run out; empty without a stock."""
    stocked = advice.stocked
    if stocked is None:
        return ""
    borrowed = " (half-lives borrowed from C4)" if stocked.stock.borrowed else ""
    return (
        f"With {short(stocked.stock.U)} unique tokens the best is "
        f"{short(stocked.choice.N.item())} parameters on {short(stocked.choice.D.item())} tokens, "
        f"{stocked.epochs:.1f} epochs, {stocked.over_fresh:.1%} more lifetime FLOPs than with "
        f"fresh data{borrowed}."
    )


def served_sentences(served: ServedAdvice) -> str:
    """The cheapest size in dollars, its bills, and what decoding reaches."""
    choice = served.choice
    ends = served.intervals.get("N")
    interval = f" [{short(ends[0])}, {short(ends[1])}]" if ends else ""
    cap = ""
    if choice.capped:
        cap = (
            " (the largest that fits the GPUs' memory; one more GB would save "
            f"{dollars(choice.usd_per_gb)})"
        )
    return (
        f"The cheapest size in dollars is {short(choice.N)}{interval}{cap} on {short(choice.D)} "
        f"tokens: {dollars(choice.train_usd)} of training and {dollars(choice.inference_usd)} of "
        f"serving, {choice.saving:.1%} under the compute-optimal model. Decoding reaches "
        f"{choice.decode_mfu:.1%} of the peak: {dollars(choice.usd_per_million_generated)} a "
        f"million generated tokens, {dollars(choice.usd_per_million_prompt)} a million prompt "
        "tokens."
    )
