"""A sweep's losses by source, for its report."""

import polars as pl

from analysis.page import Page
from analysis.table.observations import BPB, LOSS, SHARE, VAL_TOKENS, sources_of
from analysis.words import short

_UNITS = {LOSS: ("val_loss", "nats per token"), BPB: ("val_bpb", "bits per byte")}


def add_by_source(page: Page, frame: pl.DataFrame) -> None:
    """What each source is in training and validation, and the losses on it; nothing for one source.

    Args:
        frame: observations, see `analysis.table.observations.SCHEMA`.
    """
    sources = sources_of(frame.columns)
    if not sources:
        return
    rows = frame.drop_nulls(f"{VAL_TOKENS}{sources[0]}").sort("n_params", "tokens")
    page.heading("Losses by source")
    page.text(
        "A run's loss is the mean of its sources' losses, weighted by their tokens in the "
        "validation set; of bits per byte, by their bytes."
    )
    page.table(
        ["source", "of training tokens", "validation tokens", "of the validation set"],
        [_source_row(name, sources, rows) for name in sources],
    )
    for family, (pooled, unit) in _UNITS.items():
        if rows[pooled].null_count() == rows.height:
            continue
        header = ["run", "N", "D tokens", f"all, {unit}", *sources]
        page.table(
            header,
            [
                [
                    row["name"],
                    short(row["n_params"]),
                    short(row["tokens"]),
                    *(_loss(row[column]) for column in (pooled, *(family + s for s in sources))),
                ]
                for row in rows.iter_rows(named=True)
            ],
        )


def _source_row(name: str, sources: list[str], rows: pl.DataFrame) -> list[str]:
    tokens = rows[f"{VAL_TOKENS}{name}"]
    own = tokens / rows.select(pl.sum_horizontal(f"{VAL_TOKENS}{s}" for s in sources)).to_series()
    return [name, _span(rows[f"{SHARE}{name}"], ".1%"), _span(tokens, ",.0f"), _span(own, ".1%")]


def _span(values: pl.Series, form: str) -> str:
    """A number that all rows have, or the lowest and the highest."""
    numbers = [float(value) for value in values]
    ends = [f"{end:{form}}" for end in (min(numbers), max(numbers))]
    return " to ".join(dict.fromkeys(ends))


def _loss(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
