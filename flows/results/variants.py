"""The results of a sweep of variants: what is said and shown of them together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from analysis.compare.page import Context, compare_page
from analysis.compare.speedup_text import lead_lines, rank_rows
from analysis.compare.variants import Variants, compare_variants
from analysis.page import Page
from analysis.sweep.scan import add_scans
from analysis.table.observations import TableError
from flows.plans.scans import scans_of
from flows.results.compare import compared_table, sweep_differences
from flows.settings import Home
from sweeps.plan import Plan, members
from sweeps.variants import BASE

_COLUMNS = {
    "variant": pl.String(),
    "run": pl.String(),
    "factor": pl.Float64(),
    "loss": pl.Float64(),
    "chosen": pl.Float64(),
    "how": pl.String(),
}
_SCANS_FIRST = "No variant is trained yet: the scans of their rates come first."


@dataclass(frozen=True, slots=True)
class Compared:
    """The variants of a sweep against its base.

    Attributes:
        answer: None where their losses do not compare; then `reason` says why.
        contexts: what differs in the settings of each.
    """

    answer: Variants | None
    reason: str = ""
    contexts: Mapping[str, Context] = field(default_factory=dict)


def compared(planned: Plan, home: Home) -> Compared:
    """Compare the variants of a sweep with its base."""
    plans = members(planned)
    base, *others = [(name, compared_table(plan, home)) for name, plan in plans.items()]
    try:
        answer = compare_variants(base, others)
    except TableError as error:
        return Compared(None, str(error))
    contexts = {
        name: sweep_differences(plans[BASE], plans[name], home).context for name, _ in others
    }
    return Compared(answer, contexts=contexts)


def scans_frame(planned: Plan, home: Home) -> pl.DataFrame:
    """Every run of the scans that has ended, in the columns of `analysis.sweep.scan.add_scans`."""
    rows = []
    for variant, (run, scan) in scans_of(planned, home).items():
        place = f"{run.name.rpartition('-lr-x')[0]} at D = {run.cells[0].tokens:,}"
        for factor, loss in scan.losses.items():
            rows.append([variant, place, factor, loss, scan.factor, scan.how])
    return pl.DataFrame(rows, schema=_COLUMNS, orient="row")


def scans_json(scans: pl.DataFrame) -> dict[str, Any]:
    """The scan of each variant as plain data."""
    return {
        part["variant"][0]: {
            "run": part["run"][0],
            "losses": dict(part.select("factor", "loss").iter_rows()),
            "factor": part["chosen"][0],
            "how": part["how"][0],
        }
        for part in scans.partition_by("variant", maintain_order=True)
    }


def scan_sentences(scans: pl.DataFrame) -> list[str]:
    """The factors found, and those to be doubted."""
    if scans.is_empty():
        return []
    chosen = scans.unique("variant", keep="first", maintain_order=True).drop_nulls("chosen")
    factors = ", ".join(f"{row['variant']} x{row['chosen']:.3g}" for row in chosen.to_dicts())
    sentences = [f"Learning rates scanned, times the recipe's: {factors}."] if factors else []
    for row in chosen.to_dicts():
        if "flat" in row["how"] or not row["how"].startswith("the vertex"):
            sentences.append(f"Doubtful: the rate of {row['variant']} is {row['how']}.")
    return sentences


def variants_page(
    planned: Plan,
    scans: pl.DataFrame,
    comparison: Compared | None,
    verdicts: Mapping[str, str],
    facts: Sequence[str],
) -> Page:
    """The page of a sweep of variants: what each is worth, how it was tuned, and what it is alone.

    Args:
        comparison: None before the scans are over.
        verdicts: of each variant's own report.
    """
    page = Page(f"Sweep {planned.spec.name}")
    add_comparison(page, comparison)
    add_scans(page, scans)
    for variant, verdict in verdicts.items():
        page.heading(f"{variant} alone")
        for line in verdict.splitlines():
            page.text(line)
        page.text(f"Its own report is {variant}/report.html beside this page.", role="soft")
    page.heading("How it was made")
    for fact in facts:
        page.text(fact)
    return page


def add_comparison(page: Page, comparison: Compared | None) -> None:
    """What each variant is worth, or why nothing is compared; None before the scans are over."""
    if comparison is None:
        page.text(_SCANS_FIRST, role="lead")
    elif comparison.answer is None:
        page.text(f"Nothing is compared. {comparison.reason}", role="lead")
    else:
        page.parts += compare_page(comparison.answer, comparison.contexts).parts


def variants_sentences(comparison: Compared | None, scans: pl.DataFrame) -> list[str]:
    """The answer in lines for a terminal: warnings, the ranking, and how it was tuned."""
    if comparison is None:
        return [_SCANS_FIRST]
    answer = comparison.answer
    if answer is None:
        return [f"Nothing is compared. {comparison.reason}", *scan_sentences(scans)]
    ranked = [f"{row[0]}: {row[1]} in compute, {row[2]} in time" for row in rank_rows(answer)]
    return [*answer.warnings, *lead_lines(answer), *ranked, *scan_sentences(scans)]
