"""The scans of variants' learning rates, as a section of a page."""

import plotly.graph_objects as go
import polars as pl

from analysis.page import Page
from analysis.style import axis, styled

HEADER = ["variant", "scanned", "factor", "loss gained on x1", "losses by factor", "how"]


def scan_row(variant: str, scans: pl.DataFrame) -> list[str]:
    """A row under `HEADER`."""
    rows = scans.filter(pl.col("variant") == variant)
    losses = {row["factor"]: row["loss"] for row in rows.iter_rows(named=True)}
    best, at_rule = rows["loss"].min(), losses.get(1.0)
    gain = "–"
    if isinstance(best, float) and at_rule is not None:
        gain = f"{at_rule - best:.4f}"
    chosen = rows["chosen"][0]
    return [
        variant,
        rows["run"][0],
        "–" if chosen is None else f"x{chosen:.3g}",
        gain,
        ", ".join(
            f"x{factor:g} {'diverged' if loss is None else f'{loss:.4f}'}"
            for factor, loss in losses.items()
        ),
        rows["how"][0],
    ]


def add_scans(page: Page, scans: pl.DataFrame) -> None:
    """Add how the learning rates were chosen.

    Args:
        scans: variant, run, factor, loss (null where it diverged), chosen, how, rising in factor.
    """
    page.heading("How the learning rates were chosen")
    if scans.is_empty():
        page.text(
            "There was no scan: every variant has the rate of its recipe, and one that was tuned "
            "for another block favours that block.",
            role="warn",
        )
        return
    page.text(
        "Before the sweep each variant was trained at factors on its recipe's rate, at one size "
        "and the smallest budget; the best factor holds for its whole ladder. The rule by size "
        "and budget is the recipe's own, so a variant whose best rate moves otherwise with size "
        "is tuned at the scanned size alone."
    )
    page.figure(draw_scans(scans), name="scans", data=scans)
    variants = scans["variant"].unique(maintain_order=True)
    page.table(HEADER, [scan_row(variant, scans) for variant in variants])


def draw_scans(scans: pl.DataFrame) -> go.Figure:
    """Loss above the best of its own scan, over the factor on the rate, a line a variant."""
    figure = go.Figure()
    for part in scans.drop_nulls("loss").partition_by("variant", maintain_order=True):
        least = part["loss"].min()
        assert isinstance(least, float)
        figure.add_scatter(
            x=part["factor"], y=part["loss"] - least, mode="lines+markers",
            name=part["variant"][0], text=[f"{loss:.4f}" for loss in part["loss"]],
            hovertemplate="x%{x:g}<br>%{text}<extra></extra>",
        )  # fmt: skip
    return styled(
        figure,
        "Loss at each factor on the recipe's rate, above the best of the variant",
        axis("factor on the learning rate", log=True),
        axis("loss above the best, nats per token"),
    )
