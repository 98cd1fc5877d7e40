"""A comparison of two sweeps in sentences and short tables, for terminal and page."""

from collections.abc import Callable
from typing import Any

from analysis.compare.answer import Comparison, Contrast
from analysis.fit.document import group_json
from analysis.words import bracket, counted, flops, short

_NAMES = {"exponent_N": "exponent of N*", "n_opt": "N*", "loss": "predicted loss"}
LAW_HEADER = ("quantity", "at", "first", "second", "change", "shown?")
PAIR_HEADER = ("N", "D tokens", "first", "second", "second − first")
_CONTRAST = ("first", "first_interval", "second", "second_interval")
_CHANGE = ("kind", "change", "interval", "shown")
_ratio, _difference = "{:.3g}".format, "{:+.4f}".format


def _constant(value: float) -> str:
    """A or B, which may be thousands: three digits or whole."""
    return f"{value:,.0f}" if 1000 <= value < 1e6 else _ratio(value)


# Quantities that are not shown with four digits after the point.
_SHOW: dict[str, Callable[[float], str]] = {"A": _constant, "B": _constant, "n_opt": short}


def verdict(comparison: Comparison, unit: str = "nats per token") -> list[str]:
    """The answer: what the change did to the law, as far as the tables show it.

    What must be read before it is in `Comparison.warnings`.
    """
    lines: list[str] = []
    first, second = comparison.names
    sizes = [c for c in comparison.contrasts if c.name == "n_opt"]
    exponent = next((c for c in comparison.contrasts if c.name == "exponent_N"), None)
    if exponent is not None and sizes:
        lines.append(
            f"N* grows as C^{exponent.first:.3f} in {first} and as C^{exponent.second:.3f} in "
            f"{second}: {_change_in_words(exponent)}."
        )
    if sizes:
        middle = sizes[len(sizes) // 2]
        assert middle.flops is not None
        lines.append(
            f"At {flops(middle.flops)} FLOPs the best model of {second} has "
            f"{_ratio(middle.change)} times the parameters{bracket(middle.interval, _ratio)}: "
            f"{short(middle.first)} and {short(middle.second)}."
        )
    losses = [c for c in comparison.contrasts if c.name == "loss"]
    if losses:
        middle = losses[len(losses) // 2]
        lines.append(
            f"At {middle.where} the laws predict losses that differ by {_change_in_words(middle)}."
        )
    return [*lines, _matched(comparison, unit)]


def law_rows(comparison: Comparison) -> list[list[str]]:
    """Each contrast under `LAW_HEADER`."""
    rows = []
    for contrast in comparison.contrasts:
        show = _SHOW.get(contrast.name, "{:.4f}".format)
        ratio = contrast.kind == "ratio"
        show_change = _ratio if ratio else _difference
        change = show_change(contrast.change) + bracket(contrast.interval, show_change)
        shown = {True: "yes", False: "no", None: "no interval"}[contrast.shown]
        rows.append(
            [
                _NAMES.get(contrast.name, contrast.name),
                contrast.where,
                show(contrast.first) + bracket(contrast.first_interval, show),
                show(contrast.second) + bracket(contrast.second_interval, show),
                f"×{change}" if ratio else change,
                shown,
            ]
        )
    return rows


def pair_rows(comparison: Comparison) -> list[list[str]]:
    """Each matched pair under `PAIR_HEADER`."""
    return [
        [
            f"{row['n_params']:,}",
            f"{row['tokens']:,}",
            f"{row['loss_first']:.4f}",
            f"{row['loss_second']:.4f}",
            "the same run" if row["same_run"] else f"{row['difference']:+.4f}",
        ]
        for row in comparison.matched.pairs.iter_rows(named=True)
    ]


def interval_method(comparison: Comparison) -> str:
    """How the intervals were made."""
    drawn = (
        "both tables hold the same N and D and were resampled alike"
        if comparison.paired
        else "each table was resampled by itself"
    )
    return (
        f"{comparison.level:.0%} intervals from bootstrap draws of both laws; {drawn}. C = 6·N·D "
        "in N*. A change is shown where its interval excludes no change."
    )


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The laws, their contrasts and the matched runs, floats with every digit."""
    return {
        "warnings": list(comparison.warnings),
        "names": list(comparison.names),
        "level": comparison.level,
        "paired": comparison.paired,
        "refusals": list(comparison.refusals),
        "laws": [None if law is None else group_json(law) for law in comparison.laws],
        "contrasts": [
            {"name": c.name, "at": c.where, **{k: getattr(c, k) for k in _CONTRAST + _CHANGE}}
            for c in comparison.contrasts
        ],
        "matched": {
            "pairs": comparison.matched.pairs.to_dicts(),
            "mean": comparison.matched.mean,
            "interval": comparison.matched.interval,
        },
    }


def _matched(comparison: Comparison, unit: str) -> str:
    pairs, first, second = comparison.matched.pairs, *comparison.names
    if not pairs.height:
        return f"No run of {first} has the N and D of a run of {second}."
    shared = int(pairs["same_run"].sum())
    same = f" {counted(shared, 'loss', 'losses')} of runs that both share." if shared else ""
    if comparison.matched.mean is None:
        return f"All {pairs.height} matched losses are of runs that both share."
    return (
        f"{counted(pairs.height - shared, 'loss', 'losses')} at the same N and D: "
        f"{second} minus {first} is {comparison.matched.mean:+.4f} {unit} on average"
        f"{bracket(comparison.matched.interval, _difference)}.{same}"
    )


def _change_in_words(contrast: Contrast) -> str:
    change = _difference(contrast.change) + bracket(contrast.interval, _difference)
    if contrast.shown is None:
        return f"{change}, without an interval"
    return f"{change}, {'a real change' if contrast.shown else 'which may be no change at all'}"
