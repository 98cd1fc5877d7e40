"""What `isoflop frontier` and `isoflop retrodict` print for a person."""

from collections.abc import Sequence

import polars as pl

from analysis.frontier.answer import Advice
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
from analysis.retrodict.answer import range_over_laws
from analysis.retrodict.gap import PAIRS, Gap
from analysis.retrodict.gap_text import CANNOT, HEADER, NOTE, lines, rows
from analysis.words import counted, frontier_counts, short
from flows.commands.output import print_wrapped, table


def print_advice(advice: Advice) -> None:
    """The answer, how certain it is, other laws' choices, and what a wrong guess costs."""
    answer, served = advice.frontier, advice.served
    for line in (*warnings(advice), *lead_sentences(advice)):
        print_wrapped(line)
    if served is not None:
        print_wrapped(decoding(served))
        table("\nIn dollars", DOLLAR_HEADER, dollar_rows(advice, served))
        table("\nAt another batch", BATCH_HEADER, batch_rows(served))
        table("\nPublished shapes for the same loss", *menu_table(served))
    title = f"In FLOPs, by {advice.law.name}: loss {answer.loss:.4f}"
    table(f"\n{title}, {short(advice.planned)} tokens served", *choice_table(advice))
    print()
    print_wrapped(frontier_counts(advice.law.n_counts))
    for line in demand_sentences(advice):
        print_wrapped(line)
    print()
    table("The same question under other laws", SPREAD_HEADER, spread_rows(advice))
    if rules := rule_rows(advice):
        without_source = [row[:3] for row in rules]
        print()
        table("Training alone, by other rules", RULE_HEADER[:3], without_source)
    demands = advice.regret_demands
    if len(demands) > 1:
        print()
        table(
            "Extra lifetime FLOPs when demand differs from the plan",
            ("true \\ planned", *map(short, demands)),
            [
                (short(true), *(f"{extra:.1%}" for extra in row))
                for true, row in zip(demands, advice.regret, strict=True)
            ],
        )
    if sentence := stock_sentence(advice):
        print()
        print_wrapped(sentence)


def print_retrodiction(rows: pl.DataFrame) -> None:
    """A line a model: the demand for which its builders chose best, law by law."""
    drawn = rows.filter(pl.col("draws").is_not_null())
    spread = {row["model"]: row for row in range_over_laws(rows).to_dicts()}
    table(
        "Inference bill over training bill for which each model is the cheapest of its loss",
        (
            "model",
            "D/N",
            "bill",
            "interval",
            counted(rows["law"].n_unique(), "law"),
            "tokens",
            "pays at",
        ),
        [
            (
                row["model"],
                short(row["tokens"] / row["n_params"]),
                f"{row['spend_ratio']:.2f}",
                f"{row['spend_ratio_low']:.2f} to {row['spend_ratio_high']:.2f}",
                f"{spread[row['model']]['spend_ratio_least']:.2f} to "
                f"{spread[row['model']]['spend_ratio_most']:.2f}",
                short(row["implied_inference_tokens"]),
                short(row["break_even_tokens"]) if row["break_even_tokens"] else "never",
            )
            for row in drawn.to_dicts()
        ],
    )
    print()
    print_wrapped(
        f"Bill, tokens and break-even under {drawn['law'][0]}. Below zero no demand explains the "
        "model. The spread over laws is wider than any one law's interval: read it first."
    )


def print_gaps(gaps: Sequence[Gap]) -> None:
    """What beat GPT-3, PaLM and Chinchilla: allocation, block, and what is left."""
    print("\nWhat beat GPT-3, PaLM and Chinchilla")
    for pair in PAIRS:
        print()
        for line in lines(gaps, pair):
            print_wrapped(line)
    print()
    table("What N and D are worth, law by law", HEADER, rows(gaps))
    print_wrapped(NOTE)
    print()
    for sentence in CANNOT:
        print_wrapped(sentence)
