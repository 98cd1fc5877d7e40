"""The section on the reader's own sweep: its frontier, counted FLOPs and pairs of equal loss."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from analysis import published
from analysis.frontier.allocation import (
    FrontierError,
    compute_optimal,
    compute_optimal_counted,
    inference_optimal,
)
from analysis.frontier.figures import DEMANDS, draw_frontier, frontier_data
from analysis.frontier.pairs import equal_loss_pair, observed_pairs
from analysis.law import Array, LossLaw
from analysis.page import Page
from analysis.table.repeats import REPEATS, leave_out_repeats
from analysis.table.runs import own_table
from analysis.words import between, counted, flops, frontier_counts, short


@dataclass(frozen=True)
class OwnSweep:
    """A sweep in this home to show beside the published models."""

    name: str
    law: LossLaw
    observations: pl.DataFrame


def add_own_sweep(page: Page, own: OwnSweep | None) -> None:
    """Add the frontier of a sweep, or how to name one."""
    page.heading("5  The same analysis on our own sweep")
    if own is None:
        page.text(
            "No sweep was named. isoflop retrodict --report PAGE.html --experiment NAME puts the "
            "law of one of your sweeps here, through the same code."
        )
        return
    law = own.law
    for warning in law.trust.lines:
        page.text(warning, role="warn")
    page.text(
        f"Sweep {own.name}: {counted(own.observations.height, 'observation')}, "
        f"{law.formula} ({law.form}). {frontier_counts(law.n_counts)}"
    )
    if law.trust.bars:
        page.text(
            "So no size is read off this law here; isoflop frontier --law "
            f"{own.name} --anyway reads one.",
            role="warn",
        )
        return
    page.figure(draw_frontier(frontier_data(law)), name="own")
    if law.support is not None:
        low, high = law.support.flops
        page.text(
            f"The runs cover {flops(low)} to {flops(high)} FLOPs and "
            f"{between(*law.support.tokens_per_param)} tokens per parameter. Everything outside is "
            "extrapolation.",
            role="warn",
        )
    C = law.support.flops[1] if law.support else 1e21
    N0, D0 = (float(value) for value in compute_optimal(law, C))
    table = []
    for ratio in DEMANDS:
        best = inference_optimal(law, loss=float(law.loss(N0, D0)), inference_tokens=ratio * D0)
        compute_optimal_bill = 6 * N0 * D0 + 2 * N0 * ratio * D0
        table.append(
            (
                "none" if ratio == 0 else f"{ratio:g} × {short(D0)}",
                short(float(best.N)),
                short(float(best.D)),
                short(float(best.tokens_per_param)),
                f"{abs(1 - float(best.total) / compute_optimal_bill):.1%}",
            )
        )
    page.table(("tokens served", "best N", "best D", "tokens per parameter", "saved"), table)
    _counted(page, own, C, N0)


def _counted(page: Page, own: OwnSweep, C: float, N0: float) -> None:
    """Add the compute-optimal size under counted FLOPs instead of 6·N·D."""
    if "train_flops" not in own.observations.columns:
        return
    per_token, sizes = counted_flops_per_token(own.observations)
    try:
        N, D = compute_optimal_counted(own.law, C, per_token, sizes=sizes)
    except FrontierError as error:
        page.text(f"Counted FLOPs give no answer here: {error}", role="soft")
        return
    page.text(
        f"The table counts 6·N FLOPs a token. With the runs' counted FLOPs, attention included, "
        f"the compute-optimal size for {flops(C)} FLOPs is {short(float(N))} on {short(float(D))} "
        f"tokens instead of {short(N0)}."
    )


def counted_flops_per_token(
    observations: pl.DataFrame,
) -> tuple[Callable[[Array], Array], tuple[float, float]]:
    """Counted training FLOPs of a token by size, a power law through a sweep's own runs.

    Returns:
        The cost function, and the sizes it holds for: a decade beyond the runs.
    """
    frame = observations.filter(pl.col("train_flops") > 0)
    N, tokens, flops = (
        frame[name].cast(pl.Float64).to_numpy() for name in ("n_params", "tokens", "train_flops")
    )
    slope, intercept = np.polyfit(np.log(N), np.log(flops / tokens), 1)

    def per_token(size: Array) -> Array:
        return np.asarray(np.exp(intercept + slope * np.log(size)))

    return per_token, (float(N.min()) / 10, float(N.max()) * 10)


def add_pairs(page: Page, own: OwnSweep | None) -> None:
    """Add the section on pairs of runs that would prove the frontier wrong."""
    page.heading("6  What would prove this wrong")
    if own is not None and own.law.trust.bars:
        own = None
    law = own.law if own else published.law("besiroglu")
    pair = equal_loss_pair(law, law.support.flops[1] if law.support else 1e21)
    page.text(
        "Everything above rests on one claim: a smaller model on more data reaches the same loss. "
        f"Train a pair and compare. Under {'our own law' if own else law.name}, "
        f"{short(pair.N_large)} parameters on {short(pair.D_large)} tokens and "
        f"{short(pair.N_small)} on {short(pair.D_small)} ({pair.D_small / pair.D_large:.2f} times "
        f"as many) are predicted to end at the same loss, {pair.loss:.4f}. If they miss by more "
        "than the runs' own noise, do not trust this page at this scale."
    )
    if own is None:
        return
    rows = leave_out_repeats(own_table(own.observations)).frame
    fresh = rows.filter(pl.col("excluded_reason").ne_missing(REPEATS))
    observed = observed_pairs(own.law, fresh)
    if observed.is_empty():
        return
    if fresh.height < rows.height:
        page.text(
            f"Pairs are of fresh tokens: {rows.height - fresh.height} rows that repeat theirs are "
            "left out."
        )
    page.text(
        f"Among the sweep's own runs, {counted(observed.height, 'pair')} with one at least 1.8 "
        "times the size of the other: predicted within half a percent of each other. The law was "
        "fitted on these runs, so this is the mild form of the test. The widest:"
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
            for row in observed.head(6).iter_rows(named=True)
        ],
    )
    surprises = int(observed["surprising"].sum())
    if surprises:
        page.text(
            "A miss by more than twice what two runs' scatter around the law explains, at "
            f"{surprises} of {counted(observed.height, 'pair')}: do not trust the contour there.",
            role="warn",
        )
