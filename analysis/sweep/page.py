"""A sweep's report: the answer, how certain and how doubtful it is, and its numbers."""

from collections.abc import Sequence

import polars as pl

from analysis.fit.figures import draw_fit, fit_data
from analysis.fit.isoflop import IsoflopFit, Valley
from analysis.fit.records import GroupFit
from analysis.fit.run_figures import (
    draw_isoflop,
    draw_loss_curves,
    isoflop_data,
    loss_curves_data,
    thinned_curves,
)
from analysis.fit.text import convention_rows, remaining_doubts, verdict_rows
from analysis.forecast.lead import Lead
from analysis.forecast.page import add_evidence
from analysis.frontier.figures import draw_frontier, frontier_data
from analysis.law import CCounts, NCounts
from analysis.own_runs.largest_budget import LEVEL, LargestBudget, largest_sentence
from analysis.page import Page
from analysis.repetition.page import add_repeated
from analysis.sweep.answer import Findings, isoflop_sentence, law_sentence, ratio
from analysis.sweep.by_source import add_by_source
from analysis.words import COUNTS, between, counted, flops, rate, short


def sweep_page(
    name: str, findings: Findings, curves: pl.DataFrame, *, facts: Sequence[str]
) -> Page:
    """The report of a sweep.

    Args:
        curves: run_id, name, n_params, horizon, tokens, train_flops (counted), train_loss.
        facts: sentences about the corpus and the recipe.
    """
    page = Page(f"Sweep {name}")
    if findings.group is None:
        page.text(f"There is no law yet: {findings.refusal}", role="lead")
    else:
        add_law(page, findings.group, findings.lead)
        _frontier(page, findings.group)
    if findings.lead is not None and findings.lead.answer is not None:
        page.heading("The forecast")
        add_evidence(page, findings.lead.table, findings.lead.answer, prefix="forecast")
    if findings.largest is not None:
        add_largest(page, findings.largest)
    if not curves.is_empty():
        add_curves(page, curves)
    _observations(page, findings.table.frame)
    add_by_source(page, findings.table.frame)
    page.heading("How it was made")
    for fact in facts:
        page.text(fact)
    return page


def add_law(page: Page, group: GroupFit, lead: Lead | None) -> None:
    """The answer of a fit, its valleys, the law, and what other counts of N and C give."""
    _answer(page, group, lead)
    law = group.fit.law
    counts = (law.n_counts, law.c_counts)
    add_valleys(page, group.used, group.isoflop, counts=counts, withheld=not group.optimal)
    _law(page, group)
    if group.repeated is not None:
        add_repeated(page, group.repeated)
    _conventions(page, group)


def _answer(page: Page, group: GroupFit, lead: Lead | None) -> None:
    for warning in group.warnings:
        page.text(warning, role="warn")
    if lead is not None and lead.sentence:
        page.text(lead.sentence, role="lead")
    page.text(isoflop_sentence(group), role="lead")
    page.text(law_sentence(group))
    for doubt in remaining_doubts(group):
        page.text(doubt, role="warn")
    if not group.doubts and not group.warnings:
        page.text("No check of the table found a reason to doubt these numbers.", role="soft")


def add_valleys(
    page: Page,
    used: pl.DataFrame,
    isoflop: IsoflopFit,
    *,
    counts: tuple[NCounts, CCounts],
    withheld: bool,
) -> None:
    """The valleys of every budget, drawn and in a table.

    Args:
        counts: what N and C count.
        withheld: N* and D* are not to be shown.
    """
    n_counts, c_counts = counts
    C = "C counted FLOPs" if c_counts == "train_flops" else "C = 6·N·D FLOPs"
    page.heading("IsoFLOP valleys")
    page.text(
        f"Each curve is one training budget, {C}, spent on models of different size. "
        "Too small a model cannot use the budget, too large a model sees too few tokens; the "
        f"bottom is the compute-optimal size. N counts {COUNTS[n_counts]}."
    )
    if not isoflop.valleys:
        page.text(f"There are none: {isoflop.reason}.", role="warn")
        return
    data = isoflop_data(used, isoflop)
    figure = draw_isoflop(data, isoflop, "nats_per_token")
    page.figure(figure, name="isoflop", height=520, panels=True, data=data)
    if withheld:
        page.table([C, "status"], [[flops(v.flops), _status(v)] for v in isoflop.valleys])
        return
    percent = f"{isoflop.level:.0%}"
    page.table(
        [C, "N*", f"{percent} interval", "D* tokens", "D*/N*", "loss, nats/token", "status"],
        [_valley_row(valley) for valley in isoflop.valleys],
    )


def _valley_row(valley: Valley) -> list[str]:
    if valley.n_opt is None or valley.d_opt is None or valley.loss is None:
        return [flops(valley.flops), "–", "–", "–", "–", "–", _status(valley)]
    interval = valley.n_interval
    return [
        flops(valley.flops),
        short(valley.n_opt),
        between(*interval) if interval else "not bounded",
        short(valley.d_opt),
        short(ratio(valley)),
        f"{valley.loss:.4f}",
        _status(valley),
    ]


def _status(valley: Valley) -> str:
    status = valley.status.replace("_", " ")
    return f"{status}: {valley.advice}" if valley.advice else status


def _law(page: Page, group: GroupFit) -> None:
    page.heading("The parametric law and its residuals")
    page.text(
        "One formula for all points at once (Hoffmann et al. 2022, approach 3): Huber loss of "
        "log residuals, minimised from many starts. The other panels show what it misses; a trend "
        "there means the formula is too simple for these data, and its exponents are biased."
    )
    data = fit_data(group)
    page.figure(draw_fit(data, "nats_per_token"), name="fit", panels=True, data=data)
    law, intervals = group.fit.law, group.fit.intervals
    names = ["E", "A", "B", "alpha", "beta", "exponent_N", "exponent_D"]
    rows = []
    for name in names:
        interval = intervals.values.get(name)
        span = f"{interval[0]:.4g} to {interval[1]:.4g}" if interval else "–"
        rows.append([name, f"{getattr(law, name):.5g}", span])
    method = intervals.method.replace("_", " over ")
    page.table(["constant", "value", f"{intervals.level:.0%} {method}"], rows)
    target = f" The target is {flops(group.optimal[-1].flops)} FLOPs." if group.optimal else ""
    page.text(
        "Whether this table determines them, by their profiles: how far each can be moved before "
        "the fit suffers. The bootstrap above, of whole trainings, is wider; trust the wider one."
        f"{target}"
    )
    page.table(["quantity", "verdict", "reason"], verdict_rows(group))


def _conventions(page: Page, group: GroupFit) -> None:
    page.heading("The same points under other counts")
    page.text(
        "What N and C count decides the exponent at these sizes. Compare a law only with laws "
        "that count alike."
    )
    at = f"{flops(group.conventions[0].flops)} FLOPs" if group.conventions else ""
    page.table(["N", "C", "N* ~ C^", f"N* at {at}", "D*/N*"], convention_rows(group))


def _frontier(page: Page, group: GroupFit) -> None:
    page.heading("Compute-optimal against inference-optimal")
    page.text(
        "A model that will be served should be smaller and trained for longer than the "
        "compute-optimal one, because every token served costs 2·N FLOPs. Each line is the best "
        "size for the same quality when the tokens served over the model's life are a multiple "
        "of the compute-optimal training tokens D₀. Costs here are 6·N·D and 2·N per token."
    )
    if not group.optimal:
        page.text(f"There is no frontier. {group.warnings[0]}", role="warn")
        return
    data = frontier_data(group.fit.law)
    page.figure(draw_frontier(data), name="frontier", height=520, data=data)


def add_largest(page: Page, largest: LargestBudget) -> None:
    """How the largest budget was foretold."""
    page.heading("The largest budget, foretold")
    page.text(largest_sentence(largest))
    if not largest.cells:
        return
    header = ["run", "N", "D tokens", "foretold, nats/token", f"{LEVEL:.0%} interval", "loss",
              "error", "outcome", "said"]  # fmt: skip
    rows = [
        [
            cell.name,
            short(cell.n_params),
            short(cell.tokens),
            f"{cell.foretold.loss:.4f}",
            f"{cell.foretold.lower:.4f} to {cell.foretold.upper:.4f}",
            f"{cell.loss:.4f}",
            f"{cell.outcome.error_percent:+.2f} %",
            "hit" if cell.outcome.inside else "miss",
            "before" if cell.before else "afterwards",
        ]
        for cell in largest.cells
    ]
    page.table(header, rows)
    page.text(
        "A forecast said before was written into the home before its run recorded the loss, from "
        "losses of smaller budgets alone; isoflop forecast --list shows it. Said afterwards: from "
        "the same budgets, once all had finished.",
        role="soft",
    )


def add_curves(page: Page, curves: pl.DataFrame) -> None:
    """The loss curves: run_id, name, n_params, tokens, train_flops (counted), train_loss."""
    lines = loss_curves_data(curves)
    drawn = thinned_curves(lines)
    total, shown = lines["run_id"].n_unique(), drawn["run_id"].n_unique()
    page.heading("Every loss curve" if shown == total > 1 else "Loss curves")
    if total > 1:
        page.text(
            "Training loss of each size against counted FLOPs. The lower envelope is what a "
            "budget can buy; a size leaves it where it is too small for the budget."
        )
    if shown < total:
        page.text(
            f"Thinned: {shown:,} of {total:,} curves are drawn, of each size those that end lowest "
            "and highest, those that rose most before they ended, and evenly spaced ones between "
            "them. curves.parquet beside the report has all of them.",
            role="soft",
        )
    page.figure(draw_loss_curves(drawn), name="loss-curves", data=drawn)


def _observations(page: Page, frame: pl.DataFrame) -> None:
    left_out = frame.filter(pl.col("excluded_reason").is_not_null()).height
    page.heading("Observations")
    page.text(f"{counted(frame.height, 'observation')}, {left_out} left out of the fits.")
    shown = frame.sort("n_params", "tokens")
    rows = [
        [
            row["name"],
            f"{row['n_params']:,.0f}",
            f"{row['tokens']:,.0f}",
            short(row["tokens"] / row["n_params"]),
            flops(row["train_flops"]),
            "–" if row["val_loss"] is None else f"{row['val_loss']:.4f}",
            "–" if row["val_bpb"] is None else f"{row['val_bpb']:.4f}",
            rate(row["lr"]),
            row["excluded_reason"] or "used",
        ]
        for row in shown.iter_rows(named=True)
    ]
    header = ["run", "N", "D tokens", "D/N", "C counted FLOPs", "loss, nats/token", "bits/byte"]
    page.table([*header, "peak lr", "fit"], rows)
