"""Whether N, D, C and the loss can be what they are taken for, and the unit that explains it.

Bounds are far outside what anybody trains, so that models of a few thousand parameters, tokens
repeated many times and runs with fewer tokens than parameters pass.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import inf, log10

import numpy as np
import polars as pl

from analysis.table.names import (
    BATCH,
    SEQUENCE_LENGTH,
    STEPS,
    logarithm_undone,
    numeric_column,
)
from analysis.table.observations import COUNTS, Doubt, Table, name_rows
from analysis.table.sources import Source, quoted

# Medians of a table that can be.
_N = (300.0, 1e14)
_D = (1e4, 1e16)
_D_OVER_N = (0.01, 1e6)
# Below, a count with a fractional part of at most six digits is one of millions.
_WHOLE_N = 1e5
# Counted FLOPs over 6·N·D. The row nearest to 1 counts: where the embeddings are most of a small
# model the ratio is large, and falls as models grow; a wrong unit shifts every row.
_FAR_FROM_6ND = 30.0
# Decades between a row and the median that a unit explains sooner than an experiment.
_FAR_FROM_OTHERS = 4.0
# A batch of fewer tokens is no batch.
LEAST_BATCH = 64
# ln of any vocabulary: a model that guesses costs no more nats a token.
_MOST_NATS = 12.6
# Corrected medians should lie within these, narrower than the bounds above.
_USUAL = {"N": (1e3, 1e14), "D": (1e5, 1e16), "D/N": (0.05, 1e5), "C/6ND": (0.1, 10.0)}
# What is most common, and how many decades from it weigh how much.
_COMMON = {"N": 2e8, "D": 1e10, "D/N": 20.0, "C/6ND": 1.0}
_TRUST = {"N": 1.0, "D": 1.0, "D/N": 1.0, "C/6ND": 10.0}

_COUNT_UNITS = {"1e3": "thousands", "1e6": "millions", "1e9": "billions", "1e12": "trillions"}
# Of a length near a thousand, as many are.
_SEQUENCES = {"1e3": "thousands or in sequences"}
_FLOPS_UNITS = {
    "1e9": "GFLOPs",
    "1e12": "TFLOPs",
    "1e15": "PFLOPs",
    "1e18": "EFLOPs",
    "8.64e19": "PF-days",
    "1e21": "ZFLOPs",
    "1e24": "YFLOPs",
}
# log10 of the FLOPs of any training lies between.
_LOG10_FLOPS = (9.0, 30.0)
# Arithmetic may have multiplied once too often.
_TOO_LARGE = {f"1e-{power}": f"1e{power} too large" for power in (3, 6, 9, 12)}


@dataclass(frozen=True, slots=True)
class _Quantity:
    """N, D or C of a table: its source, and the units that it may be in."""

    symbol: str
    source: Source
    units: dict[str, str]


def unit_doubts(table: Table) -> Iterator[Doubt]:
    """Doubts about units; under them no optimum can be trusted."""
    used = _positive(table.used)
    if not used.height:
        return
    by_name = {source.name: source for source in table.read}
    computed = table.derived.partition(" ")[0]
    fact = _impossible(used, by_name, computed)
    if fact:
        counts = [by_name[name] for name in (*COUNTS, "tokens") if name in by_name]
        thousands = " ".join(_thousands_points(used, s) for s in counts if s.name != computed)
        yield Doubt(f"{fact} {thousands.strip() or _cause(used, by_name, computed)}", True)
    else:
        yield from _fractions(used, by_name, computed)
        yield from _budgets(used, by_name, computed)
        yield from _mixed(used, by_name)
        yield from _sequences(used, by_name["tokens"], computed)
    yield from _loss(used, by_name["val_loss"])


def _impossible(used: pl.DataFrame, by_name: dict[str, Source], computed: str) -> str:
    """The first thing about N, D and C that cannot be, in a sentence; or empty."""
    ratio = _ratio(used, "train_flops")
    if ratio is not None and not computed:
        return f"C ({by_name['train_flops'].words()}) is {ratio:.2g} times 6·N·D."
    medians = _medians(used)
    n_words, d_words = _n_source(by_name).words(), by_name["tokens"].words()
    for symbol, words, (low, high) in (("N", n_words, _N), ("D", d_words, _D)):
        if not low <= medians[symbol] <= high:
            return f"{symbol} ({words}) is {medians[symbol]:.3g} in the median row."
    if not _D_OVER_N[0] <= medians["D/N"] <= _D_OVER_N[1]:
        return f"D ({d_words}) is {medians['D/N']:.2g} times N ({n_words}) in the median row."
    return ""


def _ratio(used: pl.DataFrame, column: str) -> float | None:
    """The median of FLOPs over 6·N·D where every row is far from 1."""
    if column not in used.columns:
        return None
    counted = used.filter(pl.col(column) > 0)
    # Under the nearest count of N: FLOPs without embeddings or resting experts are no wrong unit.
    each = [
        pl.col(column) / (6 * pl.col(n) * pl.col("tokens")) for n in COUNTS if n in used.columns
    ]
    nearest = counted.select(pl.min_horizontal(ratio.log().abs() for ratio in each)).to_series()
    if not len(nearest) or (nearest < np.log(_FAR_FROM_6ND)).any():
        return None
    return float(np.median(counted.select(each[0]).to_series().to_numpy()))


def _cause(used: pl.DataFrame, by_name: dict[str, Source], computed: str) -> str:
    """The fewest units that would make N, D and C agree, with the --map for each."""
    undone = [
        f"--map '{source.name}={logarithm_undone(source.given)}'"
        for source in (_n_source(by_name), by_name["tokens"])
        if not source.arithmetic and logarithm_undone(source.given)
    ]
    if undone:
        return f"Is it a logarithm? Then {' '.join(undone)}"
    flops = [by_name[name] for name in _flops_names(computed) if name in by_name]
    power = _power_of_ten(used, flops[0], computed) if flops else ""
    if power and not computed:
        return f"Is C log10 of the FLOPs? Then {power}"
    quantities = [
        _Quantity("N", _n_source(by_name), _COUNT_UNITS | _TOO_LARGE),
        _Quantity("D", by_name["tokens"], _COUNT_UNITS | _SEQUENCES | _TOO_LARGE),
    ]
    quantities = [quantity for quantity in quantities if quantity.source.name != computed]
    if flops:
        quantities.append(_Quantity("C", flops[0], _FLOPS_UNITS))
    medians = _medians(used)
    best: list[tuple[_Quantity, str]] = []
    least = (inf, inf)
    for factors in product(*(["1", *quantity.units] for quantity in quantities)):
        changed = [pair for pair in zip(quantities, factors, strict=True) if pair[1] != "1"]
        scales = {quantity.symbol: float(factor) for quantity, factor in changed}
        rated = (len(changed), _distance(medians, scales, computed))
        if changed and rated[1] < inf and rated < least:
            best, least = changed, rated
    swapped = medians | {"N": medians["D"], "D": medians["N"]}
    if not computed and _distance(swapped, {}, computed) < (least[1] if least[0] < 2 else inf):
        N, D = _n_source(by_name), by_name["tokens"]
        return (
            f"Are N and D exchanged? Then --map '{N.name}={D.argument}' --map 'tokens={N.argument}'"
        )
    if not best:
        return "Give N, D and C in parameters, tokens and FLOPs: --map 'NAME=COLUMN*FACTOR'."
    causes = [
        f"{quantity.symbol} {'in ' if float(factor) > 1 else ''}{quantity.units[factor]}"
        for quantity, factor in best
    ]
    mends = " ".join(quantity.source.times(factor) for quantity, factor in best)
    otherwise = f" If C is log10 of the FLOPs: {power}" if power else ""
    return f"Is {' and '.join(causes)}? Then {mends}{otherwise}"


def _power_of_ten(used: pl.DataFrame, flops: Source, computed: str) -> str:
    """The --map for FLOPs whose log10 the column may hold; empty where it does not.

    Beside N and D, its power of ten then follows 6·N·D more closely than the column itself does.
    """
    rows = used.drop_nulls(flops.name)
    given, expected = (rows[c].to_numpy().astype(float) for c in (flops.name, "flops_6nd"))
    low, high = _LOG10_FLOPS
    if not ((given > low) & (given < high)).all():
        return ""
    if not computed:
        apart = given - np.log10(expected)
        if abs(np.median(apart)) > log10(_FAR_FROM_6ND) or np.std(apart) > np.std(
            np.log10(given / expected)
        ):
            return ""
    return f"--map '{flops.name}=pow(10,{flops.argument})'"


def _flops_names(computed: str) -> tuple[str, ...]:
    """Columns of FLOPs that N and D can be held against, or that one of them came from."""
    return ("train_flops", "flops_6nd", "flops_budget") if computed else ("train_flops",)


def _distance(medians: dict[str, float], scales: dict[str, float], computed: str) -> float:
    """How unusual the table is with N, D and C multiplied; infinite where it cannot be."""
    n_scale, d_scale, c_scale = (scales.get(symbol, 1.0) for symbol in "NDC")
    if computed == "tokens":
        d_scale = c_scale / n_scale
    elif computed == "n_params":
        n_scale = c_scale / d_scale
    N, D = medians["N"] * n_scale, medians["D"] * d_scale
    values = {"N": N, "D": D, "D/N": D / N}
    if "C/6ND" in medians and not computed:
        values["C/6ND"] = medians["C/6ND"] * c_scale / (n_scale * d_scale)
    for name, value in values.items():
        low, high = _USUAL[name]
        if not low <= value <= high:
            return inf
    decades = {name: abs(log10(value / _COMMON[name])) for name, value in values.items()}
    return sum(_TRUST[name] * distance for name, distance in decades.items())


def _fractions(used: pl.DataFrame, by_name: dict[str, Source], computed: str) -> Iterator[Doubt]:
    """A doubt about small N that are whole only as millions, beside D in the same unit.

    Sizes of a simulation have more digits, and count parameters.
    """
    N = used["n_params"].to_numpy().astype(float)
    broken = N[np.round(N) != N]
    in_millions = bool(np.isclose(1e6 * N, np.round(1e6 * N), rtol=0, atol=1e-3).all())
    source, tokens = _n_source(by_name), by_name["tokens"]
    few = computed != "n_params" and np.median(N) < _WHOLE_N and len(broken) > len(N) / 2
    if few and in_millions:
        yield Doubt(
            f"N ({source.words()}) is {broken[0]:g} in a row, and parameters are whole. Is it in "
            f"millions, and D too? Then {source.times('1e6')} {tokens.times('1e6')}",
            True,
        )


def _budgets(used: pl.DataFrame, by_name: dict[str, Source], computed: str) -> Iterator[Doubt]:
    """Budgets that are not in FLOPs, beside N and D that are right."""
    ratio = _ratio(used, "flops_budget")
    if ratio is None or computed:
        return
    budget = by_name["flops_budget"]
    power = _power_of_ten(used, budget, computed)
    unit = min(_FLOPS_UNITS, key=lambda unit: abs(np.log(float(unit) * ratio)))
    cause = "log10 of the FLOPs" if power else f"in {_FLOPS_UNITS[unit]}"
    yield Doubt(
        f"Budgets ({budget.words()}) are {ratio:.2g} times 6·N·D. Are they {cause}? Then "
        f"{power or budget.times(unit)}",
        True,
    )


def _mixed(used: pl.DataFrame, by_name: dict[str, Source]) -> Iterator[Doubt]:
    """Rows in another unit than most."""
    sources = {"n_params": ("N", _n_source(by_name), _N), "tokens": ("D", by_name["tokens"], _D)}
    for name, (symbol, source, (low, high)) in sources.items():
        median = float(np.median(used[name].to_numpy()))
        far = (pl.col(name) / median).log10().abs() > _FAR_FROM_OTHERS
        apart = used.filter(far & ~pl.col(name).is_between(low, high))
        if apart.height:
            yield Doubt(
                f"{symbol} ({source.words()}) mixes units: {apart[name][0]:g} beside a median of "
                f"{median:.3g}. {name_rows(apart)}.",
                True,
            )


def _sequences(used: pl.DataFrame, tokens: Source, computed: str) -> Iterator[Doubt]:
    """A doubt about D that is steps times a batch of sequences."""
    steps, batch = numeric_column(used, STEPS), numeric_column(used, BATCH)
    if not steps or not batch or computed == "tokens":
        return
    ratio = float(np.median((used["tokens"] / (used[steps] * used[batch])).to_numpy()))
    length = numeric_column(used, SEQUENCE_LENGTH)
    shorter = (used[batch] < used[length]).mean() if length else None
    few = isinstance(shorter, float) and shorter > 0.5
    few = few or float(np.median(used[batch].to_numpy())) < LEAST_BATCH
    if few and abs(ratio - 1) < 0.02:
        yield Doubt(
            f"D ({tokens.words()}) is {steps} times {batch}, so it seems to count sequences. Then "
            f"{tokens.times(quoted(length) if length else 'SEQUENCE_LENGTH')}",
            True,
        )


def _thousands_points(used: pl.DataFrame, source: Source) -> str:
    """A hint that points may be thousands separators, as 104 and 1.389 in one column suggest."""
    values = used[source.name].to_numpy()
    whole = values == np.round(values)
    broken = values[~whole]
    thousandths = np.abs(broken * 1000 - np.round(broken * 1000)) < 1e-6
    if not len(broken) or not thousandths.all() or not whole.any():
        return ""
    if values.max() >= 1000 or broken.min() < 1:
        return ""
    return (
        f"{source.words()} holds {values[whole].max():g} and {broken[0]:.3f}: does the point mark "
        "thousands? Write numbers without it."
    )


def _loss(used: pl.DataFrame, source: Source) -> Iterator[Doubt]:
    median = float(np.median(used["val_loss"].to_numpy()))
    named = not source.arithmetic and re.search(r"perplexity|ppl", source.given, re.IGNORECASE)
    given = source.given if source.arithmetic else quoted(source.given)
    remedy = f"--map 'val_loss=ln({given})'"
    if named:
        yield Doubt(f"Loss is read from {source.words()}, a perplexity? Then {remedy}", True)
    elif median > _MOST_NATS:
        yield Doubt(
            f"Loss ({source.words()}) is {median:.3g} in the median row, more nats than a token "
            f"of any vocabulary costs. Is it a perplexity? Then {remedy}",
            True,
        )


def _positive(used: pl.DataFrame) -> pl.DataFrame:
    """Rows whose N, D and loss are positive and finite; the others are refused elsewhere."""
    columns = [pl.col(name) for name in ("n_params", "tokens", "val_loss", "flops_6nd")]
    return used.filter(pl.all_horizontal((c > 0) & c.is_finite() for c in columns))


def _n_source(by_name: dict[str, Source]) -> Source:
    """Of the fit's N, which comes before other counts."""
    return next(source for name, source in by_name.items() if name in COUNTS)


def _medians(used: pl.DataFrame) -> dict[str, float]:
    """Medians of N, D and their ratio, and of C over 6·N·D where the table has C."""
    N, D = (used[name].cast(pl.Float64) for name in ("n_params", "tokens"))
    medians = {"N": N.to_numpy(), "D": D.to_numpy(), "D/N": (D / N).to_numpy()}
    if "train_flops" in used.columns:
        ratios = (used["train_flops"] / (6 * used["n_params"] * used["tokens"])).drop_nulls()
        if len(ratios):
            medians["C/6ND"] = ratios.to_numpy()
    return {name: float(np.median(values)) for name, values in medians.items()}
