"""The results of a sweep of variants: what is said and shown of them together."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from analysis.page import Page
from analysis.sweep.scan import add_scans
from flows.plans.scans import scans_of
from flows.settings import Home
from sweeps.plan import Plan

_COLUMNS = {
    "variant": pl.String(),
    "run": pl.String(),
    "factor": pl.Float64(),
    "loss": pl.Float64(),
    "chosen": pl.Float64(),
    "how": pl.String(),
}


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
        if not row["how"].startswith("the vertex"):
            sentences.append(f"Doubtful: the rate of {row['variant']} is {row['how']}.")
    return sentences


def variants_page(
    planned: Plan, scans: pl.DataFrame, verdicts: Mapping[str, str], facts: list[str]
) -> Page:
    """The page of a sweep of variants.

    Args:
        verdicts: of each variant's own report.
    """
    page = Page(f"Sweep {planned.spec.name}")
    if not verdicts:
        page.text("No variant is trained yet: the scans of their rates come first.", role="lead")
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
