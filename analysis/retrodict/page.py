"""The page "The inference bill LLaMA assumed": its words and its tables."""

import polars as pl

from analysis import published
from analysis.frontier.serving import Device
from analysis.page import Page
from analysis.retrodict.answer import range_over_laws
from analysis.retrodict.dollars import MODEL, add_results, add_serving, published_size
from analysis.retrodict.figures import bill_data, contour_data, draw_bill, draw_contour
from analysis.retrodict.gap import PAIRS, gaps
from analysis.retrodict.gap_text import CANNOT, HEADER, NOTE, lines
from analysis.retrodict.gap_text import rows as table_rows
from analysis.retrodict.own_sweep import OwnSweep, add_own_sweep, add_pairs
from analysis.words import between, short

LIFE_DAYS = 730


def retrodict_page(rows: pl.DataFrame, *, level: float, own: OwnSweep | None = None) -> Page:
    """The inference bill behind published models, for a reader who has not read the papers.

    Args:
        rows: of `analysis.retrodict.answer.retrodict`; the first law carries the bootstrap.
    """
    page = Page("The inference bill LLaMA assumed")
    device = Device.named("a100")
    _answer(page, rows, level)
    _bill(page, rows, level)
    _contour(page)
    _break_even(page, rows)
    add_serving(page, device)
    add_own_sweep(page, own)
    add_pairs(page, own)
    add_results(page, device)
    _what_beat(page, level)
    _doubts(page)
    return page


def _row(rows: pl.DataFrame, model: str) -> dict[str, float]:
    """The model's row under the law that carries the bootstrap."""
    return rows.filter((pl.col("model") == model) & (pl.col("law") == rows["law"][0])).row(
        0, named=True
    )


def _answer(page: Page, rows: pl.DataFrame, level: float) -> None:
    model = _row(rows, MODEL)
    spread = range_over_laws(rows).filter(pl.col("model") == MODEL).row(0, named=True)
    page.text(
        "A model can be made as good by making it larger or by training it longer. Training alone "
        "prefers one balance; every token served afterwards pushes towards a smaller model trained "
        "on more data, because a smaller model is cheaper to run. The LLaMA paper chose small "
        "models for that reason and gave no numbers. This page computes them, for LLaMA and for "
        "other models of its time.",
        role="lead",
    )
    page.key_figures(
        [
            (
                f"{model['spend_ratio']:.2f}×",
                f"{MODEL}'s training bill is what serving it must cost for its size to be the best "
                f"choice ({level:.0%} interval {model['spend_ratio_low']:.2f} to "
                f"{model['spend_ratio_high']:.2f}; six laws {spread['spend_ratio_least']:.2f} to "
                f"{spread['spend_ratio_most']:.2f})",
            ),
            (
                between(spread["break_even_tokens_least"], spread["break_even_tokens_most"]),
                f"served tokens repay its extra training, under any of six laws "
                f"({model['training_overhead']:.0%} more than needed under the first of them)",
            ),
            (
                short(model["implied_inference_tokens"]),
                "served tokens would make it exactly the best choice; this number depends on the "
                "law, the one before hardly does",
            ),
        ]
    )


def _bill(page: Page, rows: pl.DataFrame, level: float) -> None:
    first = published.law(rows["law"][0])
    page.heading("1  What each model's builders must have expected to serve")
    page.text(
        "For each model: how large the inference bill must be, as a multiple of the training "
        "bill, for its N and D to be the cheapest way to its loss. Zero is the compute-optimal "
        "(Chinchilla) balance. Left of zero the model is larger than training alone wants, and "
        "no demand justifies that. The number does not depend on prices."
    )
    page.figure(draw_bill(bill_data(rows)), name="bill", height=640)
    page.text(
        f"The coloured dot and its bar are {first.name} with its {level:.0%} interval from "
        f"{len(first.draws['E']):,} bootstrap resamples; the other marks are five other laws. "
        "Click a law in the legend to hide it.",
        role="soft",
    )
    families = {
        name: [_row(rows, model)["spend_ratio"] for model in models]
        for name, models in {
            "LLaMA": ("LLaMA-7B", "LLaMA-13B", "LLaMA-33B", "LLaMA-65B"),
            "Llama 2": ("Llama-2-7B", "Llama-2-13B", "Llama-2-70B"),
        }.items()
    }
    falls = "; ".join(
        f"{name}: {' → '.join(f'{ratio:.2f}' for ratio in ratios)}"
        for name, ratios in families.items()
    )
    page.points(
        [
            "Inside a family the implied bill falls with size under every law "
            f"({falls}). That is not one demand forecast applied to several sizes: it is one stock "
            "of data given to all of them.",
            "GPT-3, Gopher and PaLM-540B lie left of zero: no demand justifies their size at "
            "their loss. All three were planned before the Chinchilla result.",
            "Whether LLaMA 33B and 65B were over- or under-trained is open: the laws disagree on "
            "the sign. The marks of a row spread wider than its bar; trust the spread.",
        ]
    )


def _contour(page: Page) -> None:
    N, D = published_size(MODEL)
    law = published.law("besiroglu")
    data = contour_data(law, N, D)
    start = data.filter(pl.col("kind") == "compute-optimal").row(0, named=True)
    page.heading(f"2  The road {MODEL} could have taken")
    page.text(
        f"Every point of the curve is a model of {MODEL}'s quality. Top left is training alone: "
        f"{short(start['N'])} parameters on {short(start['D'])} tokens. Going down makes every "
        "served token cheaper and training more expensive. The labels say for how many served "
        "tokens a point is the best choice."
    )
    page.figure(draw_contour(data, MODEL), name="contour")
    page.text(
        f"Below {short(data['N_min'][0])} parameters no amount of data reaches this loss; close "
        "to it the training bill grows without bound.",
        role="soft",
    )


def _break_even(page: Page, rows: pl.DataFrame) -> None:
    page.heading("3  When the extra training pays for itself")
    page.text(
        "Break-even is the number of served tokens after which the model is cheaper than the "
        f"compute-optimal one of its loss. A day's tokens are over a life of {LIFE_DAYS} days. "
        "The range is over six laws; under a law that gives never the model is not smaller than "
        "the compute-optimal one."
    )
    spread = {row["model"]: row for row in range_over_laws(rows).to_dicts()}
    table = []
    for name in rows["model"].unique(maintain_order=True):
        row, laws = _row(rows, name), spread[name]
        never = int(laws["break_even_tokens_none"])
        known = rows.filter((pl.col("model") == name) & pl.col("break_even_tokens").is_not_null())
        pays = sorted(known["break_even_tokens"].to_list())
        over_laws = between(pays[0], pays[-1]) if pays else "never"
        if pays and never:
            over_laws += f" ({never} of them never)"
        table.append(
            (
                name,
                short(row["tokens"] / row["n_params"]),
                short(row["compute_optimal_N"]),
                f"{row['training_overhead']:+.1%}",
                short(row["break_even_tokens"]) if row["break_even_tokens"] else "never",
                over_laws,
                short(pays[-1] / LIFE_DAYS) if pays else "–",
            )
        )
    page.table(
        (
            "model",
            "tokens per parameter",
            "compute-optimal N",
            "training overhead",
            "break-even tokens",
            "over six laws",
            "tokens a day, at most",
        ),
        table,
    )
    small, large = _row(rows, MODEL), _row(rows, "Llama-3-8B")
    page.text(
        f"{MODEL} had to serve at most "
        f"{short(spread[MODEL]['break_even_tokens_most'] / LIFE_DAYS)} tokens a day for two years "
        f"to repay {small['training_overhead']:.0%} more training. Llama-3-8B, trained on fifteen "
        "times the data, has to serve "
        f"{large['break_even_tokens'] / small['break_even_tokens']:.0f} times as much."
    )


def _what_beat(page: Page, level: float) -> None:
    """Add the section on allocation, block, and what is left for data and tokenizer."""
    worth = gaps(published.six_laws(), level=level)
    page.heading("8  What beat GPT-3, PaLM and Chinchilla")
    page.text(
        "A model that leads with less compute owes it to its N and D, its block, or its data, "
        "tokenizer and recipe. The laws say what N and D are worth, our own sweeps what a block "
        "is; what is left must be the rest."
    )
    for pair in PAIRS:
        for line in lines(worth, pair):
            page.text(line)
    page.table(HEADER, table_rows(worth))
    page.text(NOTE, role="soft")
    page.points(CANNOT)


def _doubts(page: Page) -> None:
    page.heading("How far to trust this")
    page.points(
        [
            "The laws were fitted on other text and tokenizers than LLaMA's; the losses are the "
            "laws' units, not LLaMA's.",
            "What N counts differs between papers by the embeddings. Here N is every parameter.",
            "Best for a demand is an interpretation, not a claim about intent: LLaMA's stock of "
            "1.4T tokens bound its choice.",
            "LLaMA-7B's 148 tokens per parameter are at the edge of the data behind the laws, and "
            "Llama-3-8B's 1.87k five times outside: those rows are extrapolation.",
            "At LLaMA's scale the 47-run law's own compute-optimal ratio is below 4 tokens per "
            "parameter, which is implausible; leaving it out would understate the uncertainty.",
        ]
    )
    page.heading("Sources")
    sources = [f"{law.name}: {law.source}." for law in published.six_laws()]
    page.points(sources)
