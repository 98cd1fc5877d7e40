"""Quantities in words: short numbers, FLOPs, dollars, intervals, what N and C count."""

from collections.abc import Callable, Sequence
from typing import Any

_LETTERS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
COUNTS = {
    "n_params": "all but the input embedding",
    "n_params_total": "every parameter",
    "n_params_non_embedding": "without embeddings and head",
    "unknown": "unknown",
}
FLOPS = {"flops_6nd": "6ND", "train_flops": "counted"}


def with_unit(name: str, unit: str) -> str:
    """A loss with its unit, as axes name it: "loss, nats per token"; bare where it is unknown."""
    return name if unit == "unknown" else f"{name}, {unit.replace('_', ' ')}"


def sentence(text: str) -> str:
    """The text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A number of things: 1 run, 1,234 runs, 2 studies."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def short(value: float | None) -> str:
    """A count with three digits: 6.97B for 6.97e9; a power of ten from 1e15, – for none."""
    if value is None:
        return "–"
    # Rounded first, so that 999,999 becomes 1M and not 1e+03k.
    rounded = float(f"{value:.3g}")
    for size, letter in _LETTERS:
        if 1e15 > abs(rounded) >= size:
            return f"{rounded / size:.3g}{letter}"
    return f"{rounded:.3g}"


def flops(value: float) -> str:
    """FLOPs as a power of ten at every size, so that 5.76e+23 never reads as tokens."""
    return f"{value:.2e}"


def rate(value: float) -> str:
    """A learning rate as a power of ten at every size."""
    return f"{value:.2e}"


def dollars(value: float | None) -> str:
    """Whole dollars from a hundred, cents from one, three digits below; – for none."""
    if value is None:
        return "–"
    if value >= 100:
        return f"${value:,.0f}"
    return f"${value:.2f}" if value >= 1 else f"${value:.3g}"


def between(low: float, high: float) -> str:
    """A range of counts."""
    return f"{short(low)} to {short(high)}"


def bracket(ends: Sequence[Any] | None, show: Callable[[Any], str] = "{:.3f}".format) -> str:
    """An interval behind its number, as in " [0.48, 0.52]"; empty where there is none."""
    return f" [{', '.join(map(show, ends))}]" if ends else ""


def what_n_counts(n_counts: str) -> str:
    """Which parameters N counts, in words."""
    if n_counts == "unknown":
        return "what N counts is unknown"
    return f"N counts {COUNTS[n_counts]}"


def frontier_counts(n_counts: str) -> str:
    """Which N and which C a frontier has, in words."""
    return f"C = 6·N·D to train and 2·N FLOPs a token to serve; {what_n_counts(n_counts)}."
