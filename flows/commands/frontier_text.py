"""What `isoflop frontier` and `isoflop retrodict` print for a person."""

from math import isfinite

import polars as pl

from analysis.frontier.answer import Advice
from analysis.frontier.document import advice_json
from analysis.retrodict.answer import range_over_laws
from analysis.words import frontier_counts
from flows.commands.output import table

QUANTITIES = {
    "N": "parameters N",
    "D": "training tokens D",
    "tokens_per_param": "tokens per parameter",
    "train_flops": "training FLOPs",
    "inference_flops": "serving FLOPs",
    "total": "lifetime FLOPs",
}


def print_advice(advice: Advice) -> None:
    """The choice, how sure it is, what other laws say, and what a wrong guess costs."""
    answer = advice.frontier
    told = advice_json(advice)
    intervals = told["intervals"] or {}
    header = ["", "compute-optimal", "inference-optimal"]
    if intervals:
        header.append(f"{advice.level:.0%} interval")
    rows = []
    for name, words in QUANTITIES.items():
        # 10T reads as tokens; FLOPs are powers of ten at every size.
        show = _flops if words.endswith("FLOPs") else _short
        cells = [words, *(show(told[choice][name]) for choice in ("compute_optimal", "optimum"))]
        if intervals:
            cells.append(" to ".join(show(end) for end in intervals[name]))
        rows.append(cells)
    title = f"{advice.law.name}: loss {answer.loss:.4f}, {_short(advice.planned)} tokens served"
    table(title, header, rows)
    print(f"\nSaves {answer.saving.item():.1%} of the lifetime bill{_saving_interval(advice)}.")
    print(frontier_counts(advice.law))
    if advice.demand.bounds[1] > 0:
        print(
            f"Pays once {_short(advice.break_even)} tokens are served."
            if isfinite(advice.break_even)
            else "No demand repays a smaller model."
        )
    low, high = advice.demand.bounds
    if low != high:
        print(
            f"Demand {_short(low)} to {_short(high)}: planned for {_short(advice.planned)}, "
            "where the worst regret is least."
        )
    if answer.extrapolated is None:
        print("The law does not tell where its data were: take this for an extrapolation.")
    elif answer.extrapolated[0]:
        print("Extrapolation: the optimum lies outside the law's data. Mind the spread over laws.")
    if answer.unreachable:
        print(f"{answer.unreachable:.1%} of the bootstrap draws cannot reach this loss at all.")
    laws = advice.laws
    table(
        "\nThe same question under other laws",
        ("law", "N", "D", "saving"),
        [
            (row["law"], _short(row["N"]), _short(row["D"]), f"{row['saving']:.1%}")
            for row in laws.to_dicts()
        ],
    )
    if told["training_rules"]:
        table(
            "\nTraining alone, by other rules",
            ("rule", "N", "D"),
            [(row["rule"], _short(row["N"]), _short(row["D"])) for row in told["training_rules"]],
        )
    _print_regret(advice)
    _print_stock(advice)
    _print_served(advice)


def _print_regret(advice: Advice) -> None:
    if len(advice.regret_demands) == 1:
        return
    table(
        "\nExtra lifetime FLOPs when demand turns out other than planned",
        ("true \\ planned", *(_short(demand) for demand in advice.regret_demands)),
        [
            (_short(true), *(f"{extra:.1%}" for extra in row))
            for true, row in zip(advice.regret_demands, advice.regret, strict=True)
        ],
    )


def _print_stock(advice: Advice) -> None:
    if advice.stock is None or advice.stocked is None:
        return
    epochs = advice.stocked.D.item() / advice.stock.U
    extra = advice.stocked.total.item() / advice.frontier.optimum.total.item() - 1
    borrowed = " (half-lives borrowed from C4)" if advice.stock.borrowed else ""
    print(
        f"\nWith {_short(advice.stock.U)} unique tokens: N {_short(advice.stocked.N.item())} on "
        f"{_short(advice.stocked.D.item())} tokens, {max(epochs, 1.0):.1f} epochs, "
        f"{extra:.1%} dearer than with fresh data{borrowed}."
    )


def _print_served(advice: Advice) -> None:
    if advice.served is None:
        return
    choice = advice.served.choice
    ends = advice.served.intervals.get("N")
    interval = f" [{_short(ends[0])}, {_short(ends[1])}]" if ends else ""
    cap = ""
    if choice.capped:
        cap = f" (all the memory holds; a GB more would save ${choice.usd_per_gb:,.0f})"
    print(
        f"\nIn dollars: N {_short(choice.N)}{interval}{cap} on {_short(choice.D)} tokens; training "
        f"${choice.train_usd:,.0f}, serving ${choice.inference_usd:,.0f}, "
        f"{choice.saving:.1%} under the compute-optimal model.\n"
        f"Decoding uses {choice.decode_mfu:.1%} of the peak: "
        f"${choice.usd_per_million_generated:.3g} a million generated tokens, "
        f"${choice.usd_per_million_prompt:.3g} a million prompt tokens."
    )
    table(
        "\nReal shapes for the same loss, priced",
        ("model", "tokens", "GPUs", "training $", "serving $", "total $", ""),
        [
            (
                row["model"],
                _short(row["D"]),
                row["gpus"] or "–",
                *(_usd(row[name]) for name in ("train_usd", "inference_usd", "total_usd")),
                row["reason"] or "",
            )
            for row in advice.served.menu.to_dicts()
        ],
    )


def print_retrodiction(rows: pl.DataFrame) -> None:
    """One line a model: what its builders must have expected to serve, law by law."""
    drawn = rows.filter(pl.col("draws").is_not_null())
    spread = {row["model"]: row for row in range_over_laws(rows).to_dicts()}
    table(
        "Inference bill over training bill for which each model is the cheapest of its loss",
        ("model", "D/N", "bill", "interval", f"{rows['law'].n_unique()} laws", "tokens", "pays at"),
        [
            (
                row["model"],
                f"{row['tokens'] / row['n_params']:.3g}",
                f"{row['spend_ratio']:.2f}",
                f"{row['spend_ratio_low']:.2f} to {row['spend_ratio_high']:.2f}",
                f"{spread[row['model']]['spend_ratio_least']:.2f} to "
                f"{spread[row['model']]['spend_ratio_most']:.2f}",
                _short(row["implied_inference_tokens"]),
                _short(row["break_even_tokens"]) if row["break_even_tokens"] else "never",
            )
            for row in drawn.to_dicts()
        ],
    )
    print(
        f"\nBill, tokens and break-even under {drawn['law'][0]}. Below zero no demand explains the "
        "model.\nThe spread over laws is wider than any bootstrap interval: read it first."
    )


def _saving_interval(advice: Advice) -> str:
    ends = advice.frontier.saving_interval(advice.level)
    if ends is None:
        return ""
    return f" [{ends[0].item():.1%}, {ends[1].item():.1%}]"


def _short(value: float | None) -> str:
    """6.97e9 as 6.97B; past trillions as a power of ten."""
    if value is None:
        return "none"
    for size, letter in ((1e15, ""), (1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value:.3g}" if not letter else f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def _flops(value: float | None) -> str:
    return "none" if value is None else f"{value:.2e}"


def _usd(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
