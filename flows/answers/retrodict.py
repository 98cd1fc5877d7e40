"""The answer of `isoflop retrodict`: the inference bill behind published models."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis.law import LossLaw
from analysis.page import Page
from analysis.published import six_laws
from analysis.retrodict.answer import QUANTITIES
from analysis.retrodict.answer import retrodict as rows_for
from analysis.retrodict.gap import Gap, gaps
from analysis.retrodict.gap_text import gap_json
from analysis.retrodict.own_sweep import OwnSweep
from analysis.retrodict.page import retrodict_page
from flows.answers.rows import check_level
from flows.answers.shown import Shown
from flows.answers.source import law_and_table
from flows.settings import Home


@dataclass(frozen=True, repr=False)
class Retrodiction(Shown):
    """The demand for which each published model was the best choice, and what beat GPT-3.

    Attributes:
        rows: one for each model and law: spend_ratio (inference bill over training bill),
            implied_inference_tokens, break_even_tokens and training_overhead, with intervals
            `_low` and `_high` where the law has draws.
        gaps: what N and D are worth in LLaMA against GPT-3, PaLM and Chinchilla, law by law.
        own: a sweep of ours on the page.
    """

    rows: pl.DataFrame
    gaps: tuple[Gap, ...]
    level: float
    own: OwnSweep | None = None

    def json(self) -> list[dict[str, Any]]:
        """What `isoflop retrodict --json` writes."""
        by_model = {(gap.pair.model, gap.law): gap_json(gap) for gap in self.gaps}
        return [
            _nested(row) | {"beat": by_model.get((row["model"], row["law"]))}
            for row in self.rows.to_dicts()
        ]

    def _drawn_page(self) -> Page:
        return retrodict_page(self.rows, level=self.level, own=self.own)


def retrodict(level: float, own: OwnSweep | None = None) -> Retrodiction:
    """Ask under six published laws for which demand each published model is the cheapest.

    Raises:
        ValueError: a level out of range.
    """
    check_level(level)
    laws = six_laws()
    rows, between = rows_for(laws, level=level), gaps(laws, level=level)
    return Retrodiction(rows, tuple(between), level, own)


def own_sweep(name: str, home: Home) -> OwnSweep:
    """The law and the observations of a sweep's last report.

    Raises:
        ValueError: the home has no sweep of that name with a law.
    """
    law, table = law_and_table(name, home)
    return OwnSweep(name, LossLaw.load(law), pl.read_parquet(table, glob=False))


def _nested(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its intervals as pairs; null where the law has no bootstrap."""
    pairs = {name: [row.pop(f"{name}_low"), row.pop(f"{name}_high")] for name in QUANTITIES}
    return row | {"intervals": pairs if row["draws"] else None}
