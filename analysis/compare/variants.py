"""A baseline and its variants: what each is worth, and what it did to the law."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from analysis.compare.answer import Comparison, compare, fitted
from analysis.compare.comparable import Named, in_bits_per_byte
from analysis.compare.problem import NoSpeedup
from analysis.compare.speedup import Speedup, speedup


@dataclass(frozen=True, slots=True)
class Variant:
    """One variant against the baseline.

    Attributes:
        speedup: None where the tables cannot show it; then `no_speedup` says why.
    """

    name: str
    speedup: Speedup | None
    no_speedup: str
    laws: Comparison


@dataclass(frozen=True, slots=True)
class Variants:
    """All variants, the one that needs least compute first, those without an answer last."""

    baseline: str
    level: float
    unit: str
    ranked: tuple[Variant, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be read before the multipliers; empty when nothing must."""
        doubts = (
            (each.name, doubt)
            for each in self.ranked
            for doubt in (each.speedup.doubts if each.speedup else (each.no_speedup,))
        )
        return tuple(f"{name}: {doubt}" for name, doubt in doubts)


def compare_variants(
    baseline: Named,
    variants: Sequence[Named],
    *,
    at: float | None = None,
    asymptote: float | Literal["shared", "free"] = "shared",
    bootstrap: int = 1000,
    level: float = 0.9,
    bits_per_byte: bool = False,
) -> Variants:
    """Compare each variant with the baseline; see `speedup` and `compare`.

    Args:
        bits_per_byte: take `val_bpb` as the loss.

    Raises:
        TableError: losses that do not compare, or tables without a common budget.
    """
    if bits_per_byte:
        baseline, *variants = [
            (name, in_bits_per_byte(name, table)) for name, table in (baseline, *variants)
        ]
    worths: list[tuple[Speedup | None, str]] = []
    for variant in variants:
        try:
            worth = speedup(
                baseline, variant, at=at, asymptote=asymptote, draws=bootstrap, level=level
            )
            worths.append((worth, ""))
        except NoSpeedup as error:
            worths.append((None, f"no multiplier: {error}"))
    name, table = baseline
    law = fitted(name, table, bootstrap=bootstrap, level=level, seed=0)
    answers = []
    for (other, runs), (worth_of, why) in zip(variants, worths, strict=True):
        laws = compare(table, runs, (name, other), bootstrap=bootstrap, level=level, first_law=law)
        answers.append(Variant(other, worth_of, why, laws))
    answers.sort(key=lambda each: -each.speedup.lead.pooled.value if each.speedup else 1.0)
    unit = "bits per byte" if bits_per_byte else "nats per token"
    return Variants(name, level, unit, tuple(answers))
