"""Warnings about a plan, to read before paying for it; each says what to change."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from analysis.words import between, counted, flops, short
from sweeps.choices import LawRecipe, PublishedRecipe, Timescale
from sweeps.coverage import EXPECTED_OPTIMUM, BudgetSizes, LeftOut, coverage, size_at
from sweeps.grid import IsoflopGrid
from sweeps.published_rules import RULES
from sweeps.recipe import measured_range, rates
from sweeps.spec import PlannedRun, SweepSpec
from sweeps.trunk_cost import COSTLY, left_by_run, middle

# A parabola has three constants; a fourth point shows whether it fits.
_POINTS_FOR_A_VALLEY = 4
# A size counts as below or above the optimum from this factor away from it.
_CLEARLY = math.sqrt(2)
# A size that a bound leaves out is named before a new one, up to this factor from the D/N to add.
_CLOSE = 3.0
# D/N of the runs that published laws were fitted on: 0.46 is the smallest of Hoffmann's that
# Besiroglu et al. 2024 digitised, 10,000 the largest of Sardana et al. 2024.
_RATIOS_SEEN = (0.456, 10_000.0)
# Up to about four epochs, repeated tokens are worth nearly as much as fresh ones
# (Muennighoff et al. 2023).
_HARMLESS_EPOCHS = 4.0
_LONG_WARM_UP = 0.2
# A value within this factor of a range counts as inside it.
_NEAR = 1.2
# A batch this far from the one its rule asks for needs another learning rate than the rule's.
_OTHER_BATCH = 2.0
# D/N at which AdamW's timescale was fitted (Bergsma et al. 2025, fig. 1).
_TIMESCALE_RATIOS = (20.0, 1280.0)
# Fewer are refused by `isoflop mix`.
_LEAST_MIXTURES = 8
_COUNTS = {"n_params": "", "non_embedding": " without embedding and head"}
# How the quantities of a rule are written.
_WRITTEN = {"N": short, "D": short, "C": flops}


def doubts(
    spec: SweepSpec, runs: Sequence[PlannedRun], source_tokens: Mapping[str, int] | None
) -> tuple[str, ...]:
    """Warnings about the runs of a spec.

    Args:
        source_tokens: training tokens of each source of the corpus; None leaves repetition
            unchecked.
    """
    warnings = [
        *_sizes_without_a_budget(spec, runs),
        *(_valleys(spec, runs) if spec.mixtures is None else _few_mixtures(spec)),
        *_ratios(spec, runs),
        *_rates(spec, runs),
        *_timescale(spec, runs),
        *_shared_trunks(spec, runs),
        *_warm_ups(spec, runs),
    ]
    if source_tokens is not None and spec.mixtures is None:
        warnings += _repetition(spec, runs, source_tokens)
    return tuple(warnings)


def _valleys(spec: SweepSpec, runs: Sequence[PlannedRun]) -> Iterator[str]:
    if not isinstance(spec.grid, IsoflopGrid):
        return
    for row in coverage(spec, runs):
        ratios = row.kept.values()
        # A budget that no run meets is only short of sizes.
        low, high = min(ratios, default=0.0), max(ratios, default=math.inf)
        spans = f"D/N from {low:.3g} to {high:.3g}" if low < high else f"D/N {low:.3g}"
        faults = []
        if high < EXPECTED_OPTIMUM * _CLEARLY:
            remedy = _to_add(spec, row, 2 * EXPECTED_OPTIMUM)
            faults.append(f"{spans}, no size clearly below the expected optimum ({remedy})")
        if low > EXPECTED_OPTIMUM / _CLEARLY:
            remedy = _to_add(spec, row, EXPECTED_OPTIMUM / 2)
            faults.append(f"{spans}, no size clearly above the expected optimum ({remedy})")
        if len(ratios) < _POINTS_FOR_A_VALLEY:
            remedy = "" if faults else " (add sizes between)"
            count = counted(len(ratios), "size")
            faults.insert(0, f"{count} where a valley needs {_POINTS_FOR_A_VALLEY}{remedy}")
        if faults:
            yield (
                f"isoflop {flops(row.budget)} may show no minimum: {'; '.join(faults)}. Expected "
                f"is D/N about {EXPECTED_OPTIMUM:g} (Hoffmann et al. 2022)."
            )
    if len(spec.grid.budgets) < 3:
        budgets = counted(len(spec.grid.budgets), "budget")
        yield f"{budgets} cannot show how N* grows: use 3 or more."


def _few_mixtures(spec: SweepSpec) -> Iterator[str]:
    count, least = len(spec.shares), len(spec.corpus.sources) + 2
    if count < max(least, _LEAST_MIXTURES):
        yield (
            f"{count} mixtures of {len(spec.corpus.sources)} sources carry no law of the shares: "
            f"it takes {max(least, _LEAST_MIXTURES)} or more, and several for each source."
        )


def _to_add(spec: SweepSpec, row: BudgetSizes, ratio: float) -> str:
    """What gives a budget a size at this D/N: a bound to widen, else a size to add."""
    above = ratio > EXPECTED_OPTIMUM
    near = {abs(math.log(each.tokens_per_param / ratio)): each for each in row.left_out}
    if near and min(near) < math.log(_CLOSE):
        first = near[min(near)]
        return (
            f"{first.name} has D/N {first.tokens_per_param:.3g}, and {first.setting} leaves it "
            f"out: {first.bound}"
        )
    kind = "smaller" if above else "larger"
    return f"add a {kind} one, near N = {size_at(spec, row.budget, ratio)}"


def _sizes_without_a_budget(spec: SweepSpec, runs: Sequence[PlannedRun]) -> Iterator[str]:
    rows = coverage(spec, runs)
    kept = {name for row in rows for name in row.kept}
    nowhere: dict[str, list[LeftOut]] = {}
    for each in (each for row in rows for each in row.left_out if each.name not in kept):
        nowhere.setdefault(each.name, []).append(each)
    for name, places in nowhere.items():
        ratios = [place.tokens_per_param for place in places]
        bounds = " and ".join(dict.fromkeys(place.bound for place in places))
        settings = " and ".join(dict.fromkeys(place.setting for place in places))
        yield (
            f"{name} is not trained: no budget keeps it, at D/N {_three(min(ratios))} "
            f"to {_three(max(ratios))}, by {settings} ({bounds}). Change that, add a budget, or "
            "remove the size."
        )


def _ratios(spec: SweepSpec, runs: Sequence[PlannedRun]) -> Iterator[str]:
    low, high = _RATIOS_SEEN
    outside = [
        (run.name, cell.tokens / run.n_params)
        for run in runs
        for cell in run.cells
        if not low <= cell.tokens / run.n_params <= high
    ]
    if outside:
        ratios = [ratio for _, ratio in outside]
        losses = f"{len(outside)} losses at D/N {min(ratios):.2g} to {max(ratios):.2g}"
        if len(outside) == 1:
            losses = f"1 loss at D/N {ratios[0]:.2g}"
        bounds = "tokens_per_param" if isinstance(spec.grid, IsoflopGrid) else "tokens"
        yield (
            f"{_listed([name for name, _ in outside])}: {losses}, outside {low:g} to {high:,g}, "
            f"where published laws have data. Change grid.{bounds}, or read them with care."
        )


def _rates(spec: SweepSpec, runs: Sequence[PlannedRun]) -> Iterator[str]:
    if isinstance(spec.recipe, LawRecipe):
        yield from _beyond_law(spec.recipe, runs)
        return
    if isinstance(spec.recipe, PublishedRecipe):
        yield from _beyond_rule(spec.recipe, runs)
        return
    measured = measured_range(spec.recipe)
    if measured is None:
        sizes = [run.n_params for run in runs]
        if sizes and max(sizes) > 4 * min(sizes):
            yield (
                f"one learning rate for sizes a factor {max(sizes) / min(sizes):.3g} apart: the "
                "best rate falls as width grows, so sizes far from where it was chosen are "
                "trained badly and bend the law. Use a recipe that follows the size."
            )
        return
    low, high = measured.n_params
    outside = [run.name for run in runs if not low <= run.n_params <= high]
    if outside:
        yield (
            f"learning rate of {_listed(outside)}: the rule was measured from N = "
            f"{between(low, high)} ({measured.source}), and these lie outside. "
            "Check the rate at one of them with a scan."
        )
    fewest, most = measured.batch_tokens
    far = {run.run.train.batch_tokens for run in runs} - set(range(fewest, most + 1))
    if far:
        yield (
            f"batch of {min(far):,} tokens: the rule for the learning rate was measured at "
            f"{fewest:,} to {most:,} ({measured.source}). Set recipe.batch_tokens."
        )


def _beyond_rule(recipe: PublishedRecipe, runs: Sequence[PlannedRun]) -> Iterator[str]:
    """Warnings about runs outside the range of their published rule, and of another batch."""
    rule = RULES[recipe.kind]
    outside: list[str] = []
    faults = []
    for quantity, (low, high) in rule.measured.items():
        # C is a product of two such quantities.
        near = _NEAR**2 if quantity == "C" else _NEAR
        values = {
            (run.name, cell.tokens): rule.scale(
                run.run.model, tokens=cell.tokens, seq_len=run.run.train.seq_len
            )[quantity]
            for run in runs
            for cell in run.cells
        }
        beyond = {
            place: value
            for place, value in values.items()
            if not low / near <= value <= high * near
        }
        if beyond:
            outside += [name for name, _ in beyond]
            counts = _COUNTS[rule.n_counts] if quantity in ("N", "D/N") else ""
            write = _WRITTEN.get(quantity, _three)
            reach = _span(min(beyond.values()), max(beyond.values()), write)
            faults.append(f"{quantity}{counts} = {_span(low, high, write)}, here {reach}")
    if faults:
        yield (
            f"learning rate and batch of {_listed(outside)} are extrapolated: the rule was "
            f"measured at {'; '.join(faults)} ({rule.source}). Check the rate at one of them with "
            "a scan."
        )
    free = recipe.model_copy(update={"batch_tokens": None})
    for run in runs:
        train = run.run.train
        rate = rates(free, run.run.model, tokens=middle(run.cells), seq_len=train.seq_len)
        wanted = rate.batch_tokens
        if not 1 / _OTHER_BATCH <= train.batch_tokens / wanted <= _OTHER_BATCH:
            yield (
                f"batch of {train.batch_tokens:,} tokens: for {run.name} the rule asks for "
                f"{wanted:,}, and its learning rate belongs to that. Drop recipe.batch_tokens."
            )
            return


def _shared_trunks(spec: SweepSpec, runs: Sequence[PlannedRun]) -> Iterator[str]:
    """Where one rate and batch for all horizons of a run cost much, and how to split them."""
    left = {run.name: max(left_by_run(spec, run) or [0.0]) for run in runs}
    costly = [name for name, share in left.items() if share > COSTLY]
    if costly and spec.max_trunk_cost is None:
        yield (
            f"{_listed(costly)}: horizons of one trunk share rate and batch, which leaves up to "
            f"{max(left.values()):.2%} of the loss on the table (an estimate: docs/recipes.md). "
            f"Several trunks cost no more than {COSTLY:.1%}: --set max_trunk_cost={COSTLY:g}"
        )


def _timescale(spec: SweepSpec, runs: Sequence[PlannedRun]) -> Iterator[str]:
    if not isinstance(spec.weight_decay, Timescale):
        return
    low, high = _TIMESCALE_RATIOS
    ratios = [cell.tokens / run.n_params for run in runs for cell in run.cells]
    beyond = [ratio for ratio in ratios if not low / _NEAR <= ratio <= high * _NEAR]
    if beyond:
        yield (
            f"weight decay of {len(beyond)} of {len(ratios)} losses is extrapolated: the timescale "
            f"was fitted at D/N {low:g} to {high:,g} (Bergsma et al. 2025, fig. 1), and these have "
            f"{min(beyond):.3g} to {max(beyond):.3g}."
        )


def _beyond_law(recipe: LawRecipe, runs: Sequence[PlannedRun]) -> Iterator[str]:
    """Warnings about sizes and budgets outside those the recipe's study was fitted on."""
    law = recipe.fitted
    assert law is not None
    sizes = {run.n_params for run in runs}
    budgets = {cell.tokens for run in runs for cell in run.cells}
    for word, values, (low, high) in (("sizes N", sizes, law.N), ("budgets D", budgets, law.D)):
        beyond = [value for value in values if not low / _NEAR <= value <= high * _NEAR]
        if beyond:
            farthest = max(beyond, key=lambda value: max(low / value, value / high))
            yield (
                f"{len(beyond)} of {len(values)} {word} lie outside the {low:,.0f} to {high:,.0f} "
                f"that study {recipe.study} was fitted on, the farthest at {farthest:,}: learning "
                "rate and batch are extrapolated."
            )


def _warm_ups(spec: SweepSpec, runs: Sequence[PlannedRun]) -> Iterator[str]:
    shares = {run.name: run.run.train.warmup_tokens / run.cells[0].tokens for run in runs}
    long = [name for name, share in shares.items() if share > _LONG_WARM_UP]
    if long:
        lower = "Drop" if spec.warmup is None else "Lower warmup.amount, or drop"
        yield (
            f"{_listed(long)}: warm-up takes up to {max(shares.values()):.0%} of the shortest "
            f"horizon, which bends a law (Porian et al. 2024, section 3.2). {lower} the smallest "
            "budgets or the largest sizes."
        )


def _repetition(
    spec: SweepSpec, runs: Sequence[PlannedRun], source_tokens: Mapping[str, int]
) -> Iterator[str]:
    longest = max((cell.tokens for run in runs for cell in run.cells), default=0)
    shares = spec.corpus.shares
    for name, tokens in source_tokens.items():
        share = shares[name] if len(source_tokens) > 1 else 1.0
        epochs = longest * share / tokens
        if epochs > 1:
            text = "the corpus" if len(source_tokens) == 1 else f"its source {name!r}"
            worth = "nearly as much as" if epochs <= _HARMLESS_EPOCHS else "much less than"
            yield (
                f"the longest run reads {longest * share:,.0f} tokens, {epochs:.2f} times {text} "
                f"of {tokens:,}: tokens repeated this often are worth {worth} fresh ones "
                "(Muennighoff et al. 2023). Add text, or lower the largest budget."
            )


def _three(value: float) -> str:
    return f"{float(f'{value:.3g}'):,g}"


def _span(low: float, high: float, write: Callable[[float], str]) -> str:
    return f"{write(low)} to {write(high)}" if low < high else write(low)


def _listed(names: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(names))
    shown = ", ".join(distinct[:6])
    return shown if len(distinct) <= 6 else f"{shown} and {len(distinct) - 6} more"
