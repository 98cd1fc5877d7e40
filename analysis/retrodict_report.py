"""The page "The inference bill LLaMA assumed": its words and its tables."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from analysis import published
from analysis.falsifier import equal_loss_pair, observed_pairs
from analysis.frontier import (
    FrontierError,
    compute_optimal,
    compute_optimal_counted,
    inference_optimal,
)
from analysis.frontier_figures import draw_frontier, frontier_data
from analysis.frontier_report import NOT_MODELLED, short
from analysis.law import Array, LossLaw
from analysis.overtraining import implied_spend_ratio
from analysis.page import Page
from analysis.retrodict import range_over_laws
from analysis.retrodict_figures import (
    TASKS,
    bill_data,
    contour_data,
    draw_bill,
    draw_contour,
    draw_results,
    draw_serving,
    price_of_a_point,
    results_data,
    serving_data,
)
from analysis.serving import Device, Serving, Shape

# The model the page is about, and how long it is taken to be served.
MODEL = "LLaMA-7B"
LIFE_DAYS = 730


@dataclass(frozen=True)
class OwnSweep:
    """A sweep of ours to put beside the published models."""

    name: str
    law: LossLaw
    observations: pl.DataFrame


def retrodict_page(rows: pl.DataFrame, *, level: float, own: OwnSweep | None = None) -> Page:
    """The inference bill behind published models, for a reader who has not read the papers.

    Args:
        rows: of `analysis.retrodict.retrodict`; the first law carries the bootstrap.
    """
    page = Page("The inference bill LLaMA assumed")
    device = Device.named("a100")
    _answer(page, rows, level)
    _bill(page, rows, level)
    _contour(page)
    _break_even(page, rows)
    _serving(page, device)
    _own(page, own)
    _falsifier(page, own)
    _results(page, device)
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
        "models for that reason and gave no sum. This page does the sum, for LLaMA and for the "
        "models around it.",
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
                f"{short(spread['break_even_tokens_least'])}–"
                f"{short(spread['break_even_tokens_most'])}",
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
        "no demand makes up for that. No price enters this number."
    )
    page.figure(draw_bill(bill_data(rows)), name="bill", height=640)
    page.text(
        f"The coloured dot and its bar are {first.name} with an {level:.0%} interval from "
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
            "GPT-3, Gopher and PaLM-540B lie left of zero: no served token justifies their size at "
            "their loss. All three were planned before the Chinchilla result.",
            "Whether LLaMA 33B and 65B were over- or under-trained is open: the laws disagree on "
            "the sign. The marks of one row spread wider than its bar; believe the spread.",
        ]
    )


def _contour(page: Page) -> None:
    N, D = _model(MODEL)
    law = published.law("besiroglu")
    data = contour_data(law, N, D)
    start = data.filter(pl.col("kind") == "compute-optimal").row(0, named=True)
    page.heading(f"2  The road {MODEL} could have taken")
    page.text(
        f"Every point of the curve is a model of {MODEL}'s quality. Top left is training alone: "
        f"{short(start['N'])} parameters on {short(start['D'])} tokens. Going down makes every "
        "served token cheaper and training dearer. The labels tell for how many served tokens a "
        "point is the best choice."
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
        "The range is over six laws; where a law says never, the model is not smaller than that "
        "law's compute-optimal one."
    )
    spread = {row["model"]: row for row in range_over_laws(rows).to_dicts()}
    table = []
    for name in rows["model"].unique(maintain_order=True):
        row, laws = _row(rows, name), spread[name]
        never = int(laws["break_even_tokens_none"])
        known = rows.filter((pl.col("model") == name) & pl.col("break_even_tokens").is_not_null())
        pays = sorted(known["break_even_tokens"].to_list())
        said = f"{short(pays[0])} to {short(pays[-1])}" if pays else "never"
        if pays and never:
            said += f" ({never} say never)"
        table.append(
            (
                name,
                _ratio(row["tokens"] / row["n_params"]),
                short(row["compute_optimal_N"]),
                f"{row['training_overhead']:+.1%}",
                short(row["break_even_tokens"]) if row["break_even_tokens"] else "never",
                said,
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


def _serving(page: Page, device: Device) -> None:
    N, D = _model(MODEL)
    law = published.law("besiroglu")
    loss = float(law.loss(N, D))
    hours = published.models().filter(pl.col("model") == MODEL)["gpu_hours"][0]
    training = hours * device.usd_per_hour
    bill = float(implied_spend_ratio(law, N, D)) * training
    shape = Shape.published(MODEL)
    page.heading("4  The same question in dollars")
    page.text(
        f"{MODEL} took {hours:,} A100-hours; at ${device.usd_per_hour:.2f} an hour that is "
        f"${training:,.0f}, and the implied inference bill is ${bill:,.0f}. How many generated "
        "tokens that buys depends on how they are served. One sequence at a time, a GPU mostly "
        "waits for weights; together, sequences share them."
    )
    cells = []
    for batch in (1, 8, 32):
        serving = Serving(device, batch=batch)
        price = float(serving.usd_per_generated_token(shape))
        cells.append(
            (
                f"{batch}",
                f"{1e6 * price:.2f}",
                f"{1e6 * float(serving.usd_per_prompt_token(shape)):.3f}",
                f"{float(serving.decode_mfu(shape)):.1%}",
                short(bill / price),
            )
        )
    page.table(
        (
            "batch",
            "$ a million generated",
            "$ a million prompt",
            "share of peak while decoding",
            "tokens the bill buys",
        ),
        cells,
    )
    page.text(
        f"And which size is best? Below, for {MODEL}'s quality and 1T tokens served, a quarter of "
        "them prompt. Eta says how steeply the bill follows N; below 1, part of it does not shrink "
        "with the model."
    )
    data = serving_data(law, loss, prompt_tokens=0.25e12, generated_tokens=0.75e12, device=device)
    page.figure(draw_serving(data), name="serving", height=420)
    page.table(
        ("serving", "best N", "best D", "eta", "inference ÷ training", "lifetime $", "saved"),
        [
            (
                row["serving"],
                short(row["N"]),
                short(row["D"]),
                f"{row['eta']:.3f}",
                f"{row['spend_ratio']:.2f}",
                f"{row['total_usd']:,.0f}",
                f"{row['saving']:.0%}",
            )
            for row in data.iter_rows(named=True)
        ],
    )
    page.text(NOT_MODELLED, role="soft")


def _own(page: Page, own: OwnSweep | None) -> None:
    page.heading("5  The same analysis on our own sweep")
    if own is None:
        page.text(
            "No sweep was named. isoflop retrodict --report PAGE.html --experiment NAME puts the "
            "law of one of your sweeps here, through the same code."
        )
        return
    law = own.law
    data = frontier_data(law)
    page.text(
        f"Sweep {own.name}: {own.observations.height} observations, loss = {law.E:.4g} + "
        f"{law.A:.4g}/N^{law.alpha:.3g} + {law.B:.4g}/D^{law.beta:.3g} ({law.form}). N counts "
        f"{law.n_counts}, C counts {law.c_counts}."
    )
    page.figure(draw_frontier(data), name="own")
    if law.support is not None:
        low, high = law.support.flops
        page.text(
            f"The runs cover {low:.2g} to {high:.2g} FLOPs and "
            f"{law.support.tokens_per_param[0]:.3g} to {law.support.tokens_per_param[1]:.3g} "
            "tokens per parameter. What lies outside is extrapolation.",
            role="warn",
        )
    C = law.support.flops[1] if law.support else 1e21
    N0, D0 = (float(value) for value in compute_optimal(law, C))
    table = []
    for ratio in (0.0, 1.0, 3.0, 10.0):
        best = inference_optimal(law, loss=float(law.loss(N0, D0)), inference_tokens=ratio * D0)
        plain = 6 * N0 * D0 + 2 * N0 * ratio * D0
        table.append(
            (
                "none" if ratio == 0 else f"{ratio:g} × {short(D0)}",
                short(float(best.N)),
                short(float(best.D)),
                f"{float(best.tokens_per_param):.3g}",
                f"{abs(1 - float(best.total) / plain):.0%}",
            )
        )
    page.table(("tokens served", "best N", "best D", "tokens per parameter", "saved"), table)
    _counted(page, own, C, N0)


def _counted(page: Page, own: OwnSweep, C: float, N0: float) -> None:
    """What counting FLOPs instead of 6·N·D does to the compute-optimal size."""
    if "train_flops" not in own.observations.columns:
        return
    per_token, sizes = counted_flops_per_token(own.observations)
    try:
        N, D = compute_optimal_counted(own.law, C, per_token, sizes=sizes)
    except FrontierError as error:
        page.text(f"Counted FLOPs give no answer here: {error}", role="soft")
        return
    page.text(
        f"The table takes 6·N FLOPs for a token. The runs' counted FLOPs, attention included, put "
        f"the compute-optimal size for {C:.2g} FLOPs at {short(float(N))} on {short(float(D))} "
        f"tokens instead of {short(N0)}."
    )


def counted_flops_per_token(
    observations: pl.DataFrame,
) -> tuple[Callable[[Array], Array], tuple[float, float]]:
    """Counted training FLOPs of a token by size, a power law through a sweep's own runs.

    Returns:
        The cost function, and the sizes it may be asked for: a decade beyond the runs.
    """
    frame = observations.filter(pl.col("train_flops") > 0)
    N, tokens, flops = (
        frame[name].cast(pl.Float64).to_numpy() for name in ("n_params", "tokens", "train_flops")
    )
    slope, level = np.polyfit(np.log(N), np.log(flops / tokens), 1)

    def per_token(size: Array) -> Array:
        return np.asarray(np.exp(level + slope * np.log(size)))

    return per_token, (float(N.min()) / 10, float(N.max()) * 10)


def _falsifier(page: Page, own: OwnSweep | None) -> None:
    page.heading("6  What would prove this wrong")
    law = own.law if own else published.law("besiroglu")
    pair = equal_loss_pair(law, law.support.flops[1] if law.support else 1e21)
    page.text(
        "Everything above rests on one claim: a smaller model on more data reaches the same loss. "
        f"Train the pair and look. Under {'our own law' if own else law.name}, "
        f"{short(pair.N_large)} parameters on {short(pair.D_large)} tokens and "
        f"{short(pair.N_small)} on {short(pair.D_small)} ({pair.D_small / pair.D_large:.2f} times "
        f"as many) are predicted to end at the same loss, {pair.loss:.4f}. If they miss by more "
        "than the runs' own noise, do not trust this page at this scale."
    )
    pairs = observed_pairs(own.law, own.observations) if own else pl.DataFrame()
    if pairs.is_empty():
        return
    page.text(
        f"{pairs.height} pairs among the sweep's own runs are predicted within half a percent of "
        "each other though one is at least 1.8 times the size. The law was fitted on these runs, "
        "so this is the mild form of the test. The widest:"
    )
    page.table(
        (
            "large N",
            "its D",
            "its loss",
            "small N",
            "its D",
            "its loss",
            "miss in loss",
            "miss in tokens of the small",
        ),
        [
            (
                *(short(row["N_large"]), short(row["D_large"]), f"{row['loss_large']:.4f}"),
                *(short(row["N_small"]), short(row["D_small"]), f"{row['loss_small']:.4f}"),
                f"{row['miss_loss']:+.4f}",
                f"{row['miss_tokens']:+.0%}",
            )
            for row in pairs.head(6).iter_rows(named=True)
        ],
    )
    surprises = int(pairs["surprising"].sum())
    if surprises:
        page.text(
            f"{surprises} of {pairs.height} pairs miss by more than twice what two runs' scatter "
            "around the law explains: the contour is not to be trusted there.",
            role="warn",
        )


def _results(page: Page, device: Device) -> None:
    data = results_data(device)
    page.heading("7  What a point of accuracy costs to train, and to serve")
    page.text(
        "Published scores of the same systems over five task families, against training FLOPs on "
        "the left and against the price of a million generated tokens on the right (A100, batch "
        "8, context 1024). GPT-3 and LLaMA-33B cost about the same to train; on the right they "
        "lie far apart, and the dearer one scores lower. That is the choice the paper made."
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
            "Llama-3-8B's 1,868 five times outside: those rows are extrapolation.",
            "At LLaMA's scale the 47-run law's own compute-optimal ratio is below 4 tokens per "
            "parameter, which is hard to believe; leaving it out would understate the doubt.",
        ]
    )
    page.heading("Sources")
    sources = [f"{law.name}: {law.source}." for law in published.six_laws()]
    page.points(sources)


def _ratio(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def _model(name: str) -> tuple[float, float]:
    row = published.models().row(by_predicate=pl.col("model") == name, named=True)
    return float(row["n_params"]), float(row["tokens"])
