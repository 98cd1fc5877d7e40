"""A comparison of two sweeps in words and short tables, for the terminal and for the page."""

from typing import Any

from analysis.compare.answer import Comparison, Contrast
from analysis.fit.document import group_json

_NAMES = {
    "E": "E",
    "A": "A",
    "B": "B",
    "alpha": "alpha",
    "beta": "beta",
    "exponent_N": "exponent of N*",
    "n_opt": "N*",
    "loss": "predicted loss",
}
LAW_HEADER = ("quantity", "at", "first", "second", "change", "shown?")
PAIR_HEADER = ("N", "D tokens", "first", "second", "second − first")


def verdict(found: Comparison) -> list[str]:
    """The answer: what the change did to the law, as far as the tables can tell.

    What they cannot tell is in `Comparison.refusals`.
    """
    lines: list[str] = []
    first, second = found.names
    sizes = [c for c in found.contrasts if c.name == "n_opt"]
    exponent = next((c for c in found.contrasts if c.name == "exponent_N"), None)
    if exponent is not None and sizes:
        lines.append(
            f"N* grows as C^{exponent.first:.3f} in {first} and as C^{exponent.second:.3f} in "
            f"{second}: {_words(exponent)}."
        )
    if sizes:
        middle = sizes[len(sizes) // 2]
        lines.append(
            f"At {middle.where.removeprefix('C = ')} FLOPs the best model of {second} has "
            f"{middle.change:.3g} times the parameters{_bracket(middle.interval, '.3g')}: "
            f"{middle.first:.3g} and {middle.second:.3g}."
        )
    losses = [c for c in found.contrasts if c.name == "loss"]
    if losses:
        middle = losses[len(losses) // 2]
        lines.append(f"At {middle.where} the laws predict losses that differ by {_words(middle)}.")
    return [*lines, _matched(found)]


def law_rows(found: Comparison) -> list[list[str]]:
    """Each contrast under `LAW_HEADER`."""
    rows = []
    for contrast in found.contrasts:
        form = ".4f" if contrast.name in ("E", "loss", "alpha", "beta", "exponent_N") else ".3g"
        sign = "×" if contrast.kind == "ratio" else ""
        change = f"{contrast.change:.3g}" if sign else f"{contrast.change:+.4f}"
        spread = _bracket(contrast.interval, ".3g" if sign else "+.4f")
        shown = {True: "yes", False: "no", None: "no interval"}[contrast.shown]
        rows.append(
            [
                _NAMES[contrast.name],
                contrast.where,
                f"{contrast.first:{form}}{_bracket(contrast.first_interval, form)}",
                f"{contrast.second:{form}}{_bracket(contrast.second_interval, form)}",
                f"{sign}{change}{spread}",
                shown,
            ]
        )
    return rows


def pair_rows(found: Comparison) -> list[list[str]]:
    """Each matched pair under `PAIR_HEADER`."""
    return [
        [
            f"{row['n_params']:,}",
            f"{row['tokens']:,}",
            f"{row['loss_first']:.4f}",
            f"{row['loss_second']:.4f}",
            "the same run" if row["same_run"] else f"{row['difference']:+.4f}",
        ]
        for row in found.matched.pairs.iter_rows(named=True)
    ]


def how(found: Comparison) -> str:
    """What the intervals are."""
    drawn = (
        "both tables hold the same N and D and were resampled alike"
        if found.paired
        else "the tables were resampled each by itself"
    )
    return (
        f"{found.level:.0%} intervals from bootstrap draws of both laws; {drawn}. C = 6·N·D in N*. "
        "A change is shown where its interval leaves out none."
    )


def comparison_json(found: Comparison) -> dict[str, Any]:
    """The laws, their contrasts and the matched runs, floats with every digit."""
    return {
        "names": list(found.names),
        "level": found.level,
        "paired": found.paired,
        "refusals": list(found.refusals),
        "laws": [None if law is None else group_json(law) for law in found.laws],
        "contrasts": [
            {
                "name": c.name,
                "at": c.where,
                "first": c.first,
                "first_interval": _list(c.first_interval),
                "second": c.second,
                "second_interval": _list(c.second_interval),
                "kind": c.kind,
                "change": c.change,
                "interval": _list(c.interval),
                "shown": c.shown,
            }
            for c in found.contrasts
        ],
        "matched": {
            "pairs": found.matched.pairs.to_dicts(),
            "mean": found.matched.mean,
            "interval": _list(found.matched.interval),
        },
    }


def _matched(found: Comparison) -> str:
    pairs, first, second = found.matched.pairs, *found.names
    if not pairs.height:
        return "No run of one has the N and D of a run of the other."
    shared = int(pairs["same_run"].sum())
    same = f" {shared} losses are of runs that both share." if shared else ""
    if found.matched.mean is None:
        return f"All {pairs.height} matched losses are of runs that both share."
    return (
        f"{pairs.height - shared} losses at the same N and D: {second} less {first} is "
        f"{found.matched.mean:+.4f} nats per token on average"
        f"{_bracket(found.matched.interval, '+.4f')}.{same}"
    )


def _words(contrast: Contrast) -> str:
    change = f"{contrast.change:+.4f}{_bracket(contrast.interval, '+.4f')}"
    if contrast.shown is None:
        return f"{change}, without an interval"
    return f"{change}, {'a real change' if contrast.shown else 'which may be no change at all'}"


def _bracket(interval: tuple[float, float] | None, form: str) -> str:
    return "" if interval is None else f" [{interval[0]:{form}}, {interval[1]:{form}}]"


def _list(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)
