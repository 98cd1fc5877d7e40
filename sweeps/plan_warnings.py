"""Warnings about a plan, to read before paying for it; each says what to change."""

import math
from collections.abc import Iterator, Mapping, Sequence

from sweeps.recipe import measured_range
from sweeps.spec import IsoflopGrid, LawRecipe, PlannedRun, SweepSpec

# A parabola has three constants; a fourth point shows whether it fits.
_POINTS_FOR_A_VALLEY = 4
# Tokens per parameter of the compute-optimal model, by Hoffmann et al. 2022, table 3; sweeps of
# our own gave 14 to 27 (docs/benchmarks/demo_sweep.md).
_EXPECTED_OPTIMUM = 20.0
# A size counts as below or above the optimum from this factor away from it.
_CLEARLY = math.sqrt(2)
# D/N of the runs that published laws were fitted on: 0.46 is the smallest of Hoffmann's that
# Besiroglu et al. 2024 digitised, 10,000 the largest of Sardana et al. 2024.
_RATIOS_SEEN = (0.456, 10_000.0)
# Up to about four epochs, repeated tokens are worth nearly as much as fresh ones
# (Muennighoff et al. 2023).
_HARMLESS_EPOCHS = 4.0
_LONG_WARM_UP = 0.2
# A value within this factor of a range counts as inside it.
_NEAR = 1.2


def doubts(
    spec: SweepSpec, runs: Sequence[PlannedRun], source_tokens: Mapping[str, int] | None
) -> tuple[str, ...]:
    """Warnings about the runs of a spec.

    Args:
        source_tokens: training tokens of each source of the corpus; None leaves repetition
            unchecked.
    """
    warnings = [*_valleys(spec, runs), *_ratios(runs), *_rates(spec, runs), *_warm_ups(runs)]
    if source_tokens is not None:
        warnings += _repetition(spec, runs, source_tokens)
    return tuple(warnings)


def _valleys(spec: SweepSpec, runs: Sequence[PlannedRun]) -> Iterator[str]:
    if not isinstance(spec.grid, IsoflopGrid):
        return
    for budget in sorted(spec.grid.budgets):
        cells = {
            run.n_params: cell.tokens
            for run in runs
            for cell in run.cells
            if cell.flops_budget == budget
        }
        ratios = [tokens / N for N, tokens in cells.items()]
        # A budget that no run meets is only short of sizes.
        low, high = min(ratios, default=0.0), max(ratios, default=math.inf)
        spans = f"D/N from {low:.3g} to {high:.3g}"
        faults = []
        if len(cells) < _POINTS_FOR_A_VALLEY:
            faults.append(
                f"{len(cells)} sizes where a valley needs {_POINTS_FOR_A_VALLEY} (add widths)"
            )
        if high < _EXPECTED_OPTIMUM * _CLEARLY:
            faults.append(f"{spans}, no size clearly below the expected optimum (add smaller ones)")
        if low > _EXPECTED_OPTIMUM / _CLEARLY:
            faults.append(f"{spans}, no size clearly above the expected optimum (add larger ones)")
        if faults:
            yield (
                f"isoflop {budget:.2e} may show no minimum: {'; '.join(faults)}. Expected is D/N "
                f"about {_EXPECTED_OPTIMUM:g} (Hoffmann et al. 2022)."
            )
    if len(spec.grid.budgets) < 3:
        yield f"{len(spec.grid.budgets)} budgets cannot show how N* grows: use 3 or more."


def _ratios(runs: Sequence[PlannedRun]) -> Iterator[str]:
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
        yield (
            f"{_listed([name for name, _ in outside])}: {losses}, outside {low:g} to {high:,g}, "
            "where published laws have data. Set grid.tokens_per_param, or read them with care."
        )


def _rates(spec: SweepSpec, runs: Sequence[PlannedRun]) -> Iterator[str]:
    if isinstance(spec.recipe, LawRecipe):
        yield from _beyond_law(spec.recipe, runs)
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
            f"learning rate of {_listed(outside)}: the rule was measured from N = {low:.3g} to "
            f"{high:.3g} ({measured.source}), and these lie outside. "
            "Check the rate at one of them with a scan."
        )
    fewest, most = measured.batch_tokens
    far = {run.run.train.batch_tokens for run in runs} - set(range(fewest, most + 1))
    if far:
        yield (
            f"batch of {min(far):,} tokens: the rule for the learning rate was measured at "
            f"{fewest:,} to {most:,} ({measured.source}). Set recipe.batch_tokens."
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


def _warm_ups(runs: Sequence[PlannedRun]) -> Iterator[str]:
    shares = {run.name: run.run.train.warmup_tokens / run.cells[0].tokens for run in runs}
    long = [name for name, share in shares.items() if share > _LONG_WARM_UP]
    if long:
        yield (
            f"{_listed(long)}: warm-up takes up to {max(shares.values()):.0%} of the shortest "
            "horizon, which bends a law (Porian et al. 2024, section 3.2). Drop the smallest "
            "budgets or the largest widths."
        )


def _repetition(
    spec: SweepSpec, runs: Sequence[PlannedRun], source_tokens: Mapping[str, int]
) -> Iterator[str]:
    longest = max((cell.tokens for run in runs for cell in run.cells), default=0)
    weights = {source.name: source.weight for source in spec.corpus.sources}
    for name, tokens in source_tokens.items():
        share = weights.get(name, 1.0) / sum(weights.values()) if len(source_tokens) > 1 else 1.0
        epochs = longest * share / tokens
        if epochs > 1:
            text = "the corpus" if len(source_tokens) == 1 else f"its source {name!r}"
            worth = "nearly as much as" if epochs <= _HARMLESS_EPOCHS else "much less than"
            yield (
                f"the longest run reads {longest * share:,.0f} tokens, {epochs:.2f} times {text} "
                f"of {tokens:,}: tokens repeated this often are worth {worth} fresh ones "
                "(Muennighoff et al. 2023). Add text, or lower the largest budget."
            )


def _listed(names: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(names))
    shown = ", ".join(distinct[:6])
    return shown if len(distinct) <= 6 else f"{shown} and {len(distinct) - 6} more"
