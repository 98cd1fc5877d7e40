"""The advice in rows and sentences that terminal and page share."""

from collections.abc import Callable, Iterator

import numpy as np
import polars as pl

from analysis.frontier.allocation import Allocation
from analysis.frontier.answer import Advice
from analysis.frontier.data_stock import Stock
from analysis.frontier.decision import Quantity
from analysis.frontier.priced import ServedAdvice
from analysis.law import Array
from analysis.repetition.text import WORDS
from analysis.words import between, bracket, dollars, flops, short

_QUANTITIES: dict[Quantity, Callable[[float], str]] = {
    "N": short,
    "D": short,
    "tokens_per_param": short,
    "train_flops": flops,
    "inference_flops": flops,
    "total": flops,
}
CHOICE_HEADER = ("", "N", "D", "D/N", "training", "serving", "lifetime")
DOLLAR_HEADER = ("", "N", "D", "training", "serving", "lifetime")
BATCH_HEADER = ("batch", "N", "D", "a million generated tokens", "lifetime")
SPREAD_HEADER = ("law", "compute-optimal N", "N", "D", "D/N", "saving")
RULE_HEADER = ("rule", "N", "D", "source")
MENU_HEADER = ("model", "tokens", "GPUs", "training", "serving", "lifetime", "why not")


def lead_sentences(advice: Advice) -> list[str]:
    """The answer: what to train, and what it rests on; in dollars where a GPU was named."""
    if advice.served is not None:
        return _in_dollars(advice, advice.served)
    answer = advice.frontier
    best, baseline = answer.optimum, answer.compute_optimal
    size, tokens = (
        short(getattr(best, name).item())
        + bracket(_numbers(answer.interval(name, advice.level)), short)
        for name in ("N", "D")
    )
    level = f" ({advice.level:.0%} intervals)" if answer.drawn is not None else ""
    train = f"Train {size} parameters on {tokens} tokens"
    if advice.planned == 0:
        return [
            f"{train} for a loss of {answer.loss:.4f}{level}. Nothing is to be served, so the "
            "compute-optimal choice is the cheapest.",
            *_asked(advice),
        ]
    saving = f"{answer.saving.item():.1%}"
    saving += bracket(_numbers(answer.saving_interval(advice.level)), "{:.1%}".format)
    return [
        f"{train}, to serve {short(advice.planned)}: over its life it takes {saving} fewer FLOPs "
        f"than the compute-optimal {short(baseline.N.item())} on {short(baseline.D.item())} of the "
        f"same loss, {answer.loss:.4f}{level}.",
        *_asked(advice),
    ]


def demand_sentences(advice: Advice) -> list[str]:
    """The demand that repays a smaller model, and the one planned for where bounds are given."""
    low, high = advice.demand.bounds
    if high == 0:
        return []
    pays = "No demand repays a smaller model."
    if np.isfinite(advice.break_even):
        pays = f"Pays once {short(advice.break_even)} tokens are served."
    if low == high:
        return [pays]
    return [
        pays,
        f"Demand {between(low, high)}: planned for {short(advice.planned)}, where the worst regret "
        "is least.",
    ]


def choice_table(advice: Advice) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and rows in FLOPs: both choices, the interval of the second, the model asked for."""
    answer = advice.frontier
    choices = {"compute-optimal": answer.compute_optimal, "inference-optimal": answer.optimum}
    rows = [[name, *_cells(choice)] for name, choice in choices.items()]
    if answer.drawn is not None:
        ends = [answer.interval(name, advice.level) for name in _QUANTITIES]
        for side, word in enumerate(_ends(advice)):
            shows = zip(ends, _QUANTITIES.values(), strict=True)
            rows.append([word, *(show(pair[side].item()) for pair, show in shows if pair)])
    if advice.asked is not None:
        rows.append([_asked_name(advice.asked), *_cells(advice.asked)])
    return CHOICE_HEADER, rows


def dollar_rows(advice: Advice, served: ServedAdvice) -> list[list[str]]:
    """The same in dollars, under `DOLLAR_HEADER`; nothing where an interval has no such end."""
    choice = served.choice
    price = choice.train_usd / (choice.N * choice.D)
    baseline = advice.frontier.compute_optimal
    train = price * baseline.N.item() * baseline.D.item()
    bills = (train, choice.baseline_usd - train, choice.baseline_usd)
    sizes = [short(baseline.N.item()), short(baseline.D.item())]
    rows = [["compute-optimal", *sizes, *map(dollars, bills)]]
    bills = (choice.train_usd, choice.inference_usd, choice.total_usd)
    rows.append(["cheapest", short(choice.N), short(choice.D), *map(dollars, bills)])
    if served.intervals:
        for side, word in enumerate(_ends(advice)):
            N, D, total = (served.intervals[name][side] for name in ("N", "D", "total_usd"))
            rows.append([word, short(N), short(D), "", "", dollars(total)])
    if advice.asked is not None and served.asked_usd is not None:
        sizes = [short(advice.asked.N.item()), short(advice.asked.D.item())]
        bills = (*served.asked_usd, sum(served.asked_usd))
        rows.append([_asked_name(advice.asked), *sizes, *map(dollars, bills)])
    return rows


def batch_rows(served: ServedAdvice) -> list[list[str]]:
    """The cheapest size at each batch, under `BATCH_HEADER`."""
    rows = []
    for row in served.batches.iter_rows(named=True):
        here = " (assumed)" if row["batch"] == served.serving.batch else ""
        bills = (dollars(row[name]) for name in ("usd_per_million_generated", "total_usd"))
        sizes = ("does not fit", "–") if row["N"] is None else (short(row["N"]), short(row["D"]))
        rows.append([f"{row['batch']}{here}", *sizes, *bills])
    return rows


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


def menu_table(served: ServedAdvice) -> tuple[tuple[str, ...], list[list[str]]]:
    """Published shapes priced for the same loss; why not, where one has no price."""
    rows = [
        [
            row["model"],
            short(row["D"]),
            str(row["gpus"] or "–"),
            *(dollars(row[name]) for name in ("train_usd", "inference_usd", "total_usd")),
            row["reason"] or "",
        ]
        for row in served.menu.iter_rows(named=True)
    ]
    if any(row[-1] for row in rows):
        return MENU_HEADER, rows
    return MENU_HEADER[:-1], [row[:-1] for row in rows]


def warnings(advice: Advice) -> tuple[str, ...]:
    """What must be read before the answer, for its first lines; empty when nothing must."""
    lines = [*advice.law.trust.lines, extrapolation(advice), _out_of_reach(advice)]
    return tuple(line for line in (*lines, *_stock_doubts(advice)) if line)


def extrapolation(advice: Advice) -> str:
    """A warning where the optimum is not known to lie in the law's data; empty where it does.

    A forecast's intervals widen with the distance, and its law's trust says where they were not
    tested.
    """
    if advice.foretold:
        return ""
    outside = advice.extrapolated
    if outside is None:
        return "The law does not say where its data were: treat the answer as an extrapolation."
    if not outside:
        return ""
    return (
        "EXTRAPOLATION: the optimum lies outside the FLOPs and tokens per parameter of the law's "
        "data. Trust the spread over laws more than the interval."
    )


def _out_of_reach(advice: Advice) -> str:
    """A warning where some draws cannot meet the goal; empty where all do."""
    share = advice.frontier.unreachable
    if not share:
        return ""
    return (
        f"MAY BE OUT OF REACH: under {share:.1%} of the draws no N and D reach loss "
        f"{advice.frontier.loss:.4f}; the intervals are of the others."
    )


def stock_sentence(advice: Advice) -> str:
    """The choice when unique data run out; empty without a stock."""
    stocked = advice.stocked
    if stocked is None:
        return ""
    ends = {} if stocked.drawn is None else stocked.drawn.intervals(advice.level)
    N, D = (
        short(getattr(stocked.choice, name).item()) + bracket(ends.get(name), short)
        for name in ("N", "D")
    )
    epochs = f"{stocked.epochs:.1f}{bracket(ends.get('epochs'), '{:.1f}'.format)}"
    more = f"{stocked.over_fresh:.1%}{bracket(ends.get('over_fresh'), '{:.1%}'.format)}"
    level = f"; {advice.level:.0%} intervals" if ends else ""
    return (
        f"With {short(stocked.stock.U)} unique tokens the best is {N} parameters on {D} tokens, "
        f"{epochs} epochs, {more} more lifetime FLOPs than with fresh data "
        f"({_repetition(stocked.stock)}{level})."
    )


def _repetition(stock: Stock) -> str:
    """By which law repetition costs."""
    if stock.own is not None:
        return f"repetition costs as {stock.own.source} has it: {WORDS[stock.own.form]}"
    if stock.borrowed:
        return "half-lives borrowed from C4, Muennighoff et al. 2023"
    return "half-lives of the law"


def _stock_doubts(advice: Advice) -> Iterator[str]:
    """What the law of repeated data, or its lack, has against the choice for a stock."""
    stocked = advice.stocked
    if stocked is None:
        return
    stock, drawn = stocked.stock, stocked.drawn
    if stock.own is not None:
        yield from stock.own.doubts
        most = stock.own.most_epochs
        if stocked.epochs > 1.02 * most:
            yield (
                f"EXTRAPOLATION: the choice for the stock reads it {stocked.epochs:.1f} times, and "
                f"the runs behind its law read theirs {most:.3g} times at most."
            )
    if drawn is None and stocked.epochs > 1:
        why = "under none of its draws does the stock reach the loss"
        why = why if stock.law.draws else "it carries no draws"
        yield f"NO INTERVAL (stock) under the law {stock.law.name}: {why}."
    if drawn is not None and not stock.costs_drawn and stocked.epochs > 1:
        yield (
            "TOO NARROW (stock): what repetition costs has no draws "
            f"({_repetition(stock)}), so the intervals are those of the law of fresh tokens."
        )
    if drawn is not None and drawn.unreachable > 0:
        yield (
            f"DATA MAY RUN OUT: under {drawn.unreachable:.1%} of the draws {short(stock.U)} unique "
            "tokens do not reach the loss at any size, however often they repeat; the intervals "
            "are of the others."
        )


def decoding(served: ServedAdvice) -> str:
    """What decoding reaches, and what tokens cost."""
    choice = served.choice
    return (
        f"Decoding reaches {choice.decode_mfu:.1%} of the peak: "
        f"{dollars(choice.usd_per_million_generated)} a million generated tokens, "
        f"{dollars(choice.usd_per_million_prompt)} a million prompt tokens."
    )


def _in_dollars(advice: Advice, served: ServedAdvice) -> list[str]:
    choice, serving, best = served.choice, served.serving, advice.frontier.optimum
    size = short(choice.N) + bracket(served.intervals.get("N"), short)
    level = f" ({advice.level:.0%} interval)" if served.intervals else ""
    cap = ""
    if choice.capped:
        cap = (
            " This is the largest size that fits the GPUs' memory; one more GB would save "
            f"{dollars(choice.usd_per_gb)}."
        )
    lines = [
        f"Train {size} parameters on {short(choice.D)} tokens, to serve {short(advice.planned)}: "
        f"{dollars(choice.total_usd)} over its life, {choice.saving:.1%} less than the "
        f"compute-optimal {short(choice.baseline_N)} of the same loss, "
        f"{advice.frontier.loss:.4f}{level}.{cap}",
        f"Assumed: {serving.device.name} at {dollars(serving.device.usd_per_hour)} an hour, batch "
        f"{serving.batch}, context {serving.context:,.0f}, {serving.weight_bits:g}-bit weights. "
        + _moved(served),
        *_asked(advice),
        f"In FLOPs alone the best is {short(best.N.item())} on {short(best.D.item())}.",
    ]
    return lines


def _moved(served: ServedAdvice) -> str:
    """How far the batch moves the size and its bill."""
    others = served.batches.drop_nulls("N").filter(pl.col("batch") != served.serving.batch)
    if others.is_empty():
        return "No other batch fits the GPUs."
    each = ", ".join(
        f"{short(row['N'])} for {dollars(row['total_usd'])} at {row['batch']}"
        for row in others.iter_rows(named=True)
    )
    return f"Another batch (--batch) moves it: {each}."


def _asked(advice: Advice) -> list[str]:
    """What the model that the goal names costs beside the answer."""
    if advice.asked is None:
        return []
    name, served = _asked_name(advice.asked), advice.served
    if served is not None and served.asked_usd is not None:
        bill, total = sum(served.asked_usd), served.choice.total_usd
        costs = f"{dollars(bill)} over its life"
    else:
        bill, total = advice.asked.total.item(), advice.frontier.optimum.total.item()
        costs = f"{flops(bill)} FLOPs over its life"
    return [f"{name} itself takes {costs}, {bill / total:.3g} times as much."]


def _asked_name(asked: Allocation) -> str:
    return f"{short(asked.N.item())} on {short(asked.D.item())}"


def _cells(choice: Allocation) -> list[str]:
    return [show(getattr(choice, name).item()) for name, show in _QUANTITIES.items()]


def _numbers(ends: tuple[Array, Array] | None) -> list[float] | None:
    """An interval at one demand."""
    return None if ends is None else [end.item() for end in ends]


def _ends(advice: Advice) -> tuple[str, str]:
    return f"{advice.level:.0%} from", "to"
