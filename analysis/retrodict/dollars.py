"""The bill in dollars: serving setups and what a point of a benchmark costs."""

import polars as pl

from analysis import published
from analysis.frontier.overtraining import implied_spend_ratio
from analysis.frontier.page import NOT_MODELLED
from analysis.frontier.serving import Device, Serving, Shape
from analysis.page import Page
from analysis.retrodict.dollar_figures import (
    TASKS,
    draw_results,
    draw_serving,
    price_of_a_point,
    results_data,
    serving_data,
)
from analysis.words import dollars, short

# The model the page is about.
MODEL = "LLaMA-7B"


def add_serving(page: Page, device: Device) -> None:
    """Add the section on the inference bill in dollars, by how the model is served."""
    N, D = published_size(MODEL)
    law = published.law("besiroglu")
    loss = float(law.loss(N, D))
    hours = published.models().filter(pl.col("model") == MODEL)["gpu_hours"][0]
    training = hours * device.usd_per_hour
    bill = float(implied_spend_ratio(law, N, D)) * training
    shape = Shape.published(MODEL)
    page.heading("4  The same question in dollars")
    page.text(
        f"{MODEL} took {hours:,} A100-hours; at {dollars(device.usd_per_hour)} an hour that is "
        f"{dollars(training)}, and the implied inference bill is {dollars(bill)}. How many "
        "generated tokens that buys depends on how they are served. One sequence at a time, a GPU "
        "mostly waits for weights; together, sequences share them."
    )
    table = []
    for batch in (1, 8, 32):
        serving = Serving(device, batch=batch)
        price = float(serving.usd_per_generated_token(shape))
        table.append(
            (
                f"{batch}",
                dollars(1e6 * price),
                dollars(1e6 * float(serving.usd_per_prompt_token(shape))),
                f"{float(serving.decode_mfu(shape)):.1%}",
                short(bill / price),
            )
        )
    page.table(
        (
            "batch",
            "a million generated tokens",
            "a million prompt tokens",
            "share of peak while decoding",
            "tokens the bill buys",
        ),
        table,
    )
    page.text(
        f"And which size is best? Below, for {MODEL}'s loss and 1T tokens served, a quarter of "
        "them prompt. Eta is the elasticity of the serving bill in N; below 1, part of the bill "
        "does not shrink with the model."
    )
    data = serving_data(law, loss, prompt_tokens=0.25e12, generated_tokens=0.75e12, device=device)
    page.figure(draw_serving(data), name="serving", height=420)
    page.table(
        ("serving", "best N", "best D", "eta", "inference ÷ training", "lifetime bill", "saved"),
        [
            (
                row["serving"],
                short(row["N"]),
                short(row["D"]),
                f"{row['eta']:.3f}",
                f"{row['spend_ratio']:.2f}",
                dollars(row["total_usd"]),
                f"{row['saving']:.1%}",
            )
            for row in data.iter_rows(named=True)
        ],
    )
    page.text(NOT_MODELLED, role="soft")


def add_results(page: Page, device: Device) -> None:
    """Add the section on the price of a point of accuracy."""
    data = results_data(device)
    page.heading("7  What a point of accuracy costs to train, and to serve")
    page.text(
        "Published scores of the same systems over five task families, against training FLOPs on "
        "the left and against the price of a million generated tokens on the right (A100, batch "
        "8, context 1024). GPT-3 and LLaMA-33B cost about the same to train; on the right they "
        "lie far apart, and the more expensive one scores lower. That is the choice the paper made."
    )
    page.figure(draw_results(data), name="results", height=1080)
    page.text(
        "What one more point costs inside the LLaMA family, on a log-linear fit of its four sizes:"
    )
    page.table(
        ("task family", "benchmarks averaged", "more training FLOPs", "more $ a served token"),
        [
            (
                TASKS[row["task"]][0],
                ", ".join(TASKS[row["task"]][1]),
                f"+{row['more_training']:.0%}",
                f"+{row['more_serving']:.0%}",
            )
            for row in price_of_a_point(data).iter_rows(named=True)
        ],
    )
    page.text(
        "Scores as printed in Touvron et al. 2023, Tables 3, 4, 6, 7 and 8: zero-shot for common "
        "sense, reading and closed-book questions; greedy for mathematics; pass@1 for code. A "
        "model appears where it has all of a family's benchmarks and a published number of "
        "tokens. Data, tokenizer and recipe differ too, not only N and D.",
        role="soft",
    )


def published_size(name: str) -> tuple[float, float]:
    """N and D of a published model."""
    row = published.models().row(by_predicate=pl.col("model") == name, named=True)
    return float(row["n_params"]), float(row["tokens"])
