"""Doubts about a fit, in sentences: each with its number and a way out."""

from collections.abc import Iterator

import polars as pl

from analysis.fit.conventions import FAR_FROM_6ND, flops_ratio
from analysis.fit.curves import looks_like_curves
from analysis.fit.outlying import outliers
from analysis.fit.records import GroupFit
from analysis.law import LawFit
from analysis.solver.problem import Problem, make_problem
from analysis.solver.search import Optimum, find_optimum
from analysis.table.observations import COUNTS, Table, name_rows, numbers_for_people
from analysis.table.runs import clusters_of

_FEW_RUNS = 12  # resampled as wholes, fewer trainings give too few different tables
_BENT = 0.02  # shift of an exponent worth a sentence
_SAME_EXPONENT = 0.001  # what three decimals show
# A free gamma that lowers the objective by this share says the plain form misfits.
_MISFIT = 0.2


def doubts(problem: Problem, optimum: Optimum, group: GroupFit, table: Table) -> Iterator[str]:
    """Sentences in the order in which a reader should worry.

    Args:
        group: the fit; its `doubts` are still empty.
    """
    yield from (doubt.sentence for doubt in table.doubts)
    yield from _search(problem, optimum, group.fit)
    yield from outliers(problem, optimum, group.used)
    yield from _rows(group)
    if table.derived:
        yield f"The table lacks a column, computed as {table.derived}."
    yield from _shape(problem, optimum)
    yield from _approaches(group)
    yield from _counts(group)


def _search(problem: Problem, optimum: Optimum, fit: LawFit) -> Iterator[str]:
    if not optimum.converged:
        yield (
            f"The search did not converge (gradient norm {fit.objective.gradient_norm:.1e}); the "
            "constants are the best point seen."
        )
    if optimum.at_bound and problem.form != "kaplan":
        verb = "is" if len(optimum.at_bound) == 1 else "are"
        yield f"{', '.join(optimum.at_bound)} {verb} at the edge of the search range."
    if optimum.unmoved:
        yield f"{', '.join(optimum.unmoved)} did not move from where the search started."
    if optimum.agree < optimum.starts / 2:
        yield f"Only {optimum.agree} of {optimum.starts} starts ended at the optimum."
    second = fit.objective.second_best_exponent_N
    if second is not None and abs(second - fit.law.exponent_N) >= _SAME_EXPONENT:
        yield (
            f"A second basin has the objective {fit.objective.second_best:.6g} against "
            f"{fit.objective.value:.6g}, with exponent_N "
            f"{second:.3f} against {fit.law.exponent_N:.3f}."
        )


def _rows(group: GroupFit) -> Iterator[str]:
    used = group.used
    word, numbers = numbers_for_people(used)
    interval = group.fit.intervals.values.get("exponent_N")
    if group.influence and interval:
        top = group.influence[0]
        if abs(top.effect_on_exponent_N) > 0.25 * (interval[1] - interval[0]):
            yield (
                f"{word.capitalize()} {numbers[top.row]} alone moves exponent_N by "
                f"{top.effect_on_exponent_N:+.3f} when left out, a quarter of its interval or more."
            )
    clusters = clusters_of(used)
    if clusters is not None and clusters.max() + 1 < _FEW_RUNS:
        yield (
            f"The rows come from {clusters.max() + 1} trainings, which are resampled as wholes: "
            "so few make intervals rough."
        )
    if clusters is None and looks_like_curves(used):
        yield (
            "Rows of one N lie above or below the law together, as checkpoints of one run do, and "
            "no column names runs: intervals are too narrow. Name it with --map run_id=COLUMN."
        )
    for kind, exact in (("Exact", True), ("Near", False)):
        pairs = [pair for pair in group.duplicates if pair.exact == exact]
        if pairs:
            named = ", ".join(
                f"{numbers[pair.row]} repeats {numbers[pair.of]}" for pair in pairs[:8]
            )
            more = f" and {len(pairs) - 8} more" if len(pairs) > 8 else ""
            yield f"{kind} duplicates are counted twice: {word} {named}{more}."


def _shape(problem: Problem, optimum: Optimum) -> Iterator[str]:
    """Whether the plain form leaves something systematic behind."""
    if problem.form != "chinchilla" or problem.rows.places < 12 or optimum.value < 1e-20:
        return
    wider = make_problem("gamma", problem.objective, problem.rows, problem.weights)
    wider, wider_optimum = find_optimum(wider)
    constants = wider.constants(wider_optimum.x[None])
    plain = problem.constants(optimum.x[None])
    gain = 1 - wider_optimum.value / optimum.value
    if gain > _MISFIT and wider_optimum.converged:
        exponents = [float(c.exponent_N[0]) for c in (plain, constants)]
        yield (
            f"The form misfits: a free gamma ({float(constants.gamma[0]):.2f}) lowers the "
            f"objective by {100 * gain:.0f} % and moves exponent_N from {exponents[0]:.3f} to "
            f"{exponents[1]:.3f}. Compare isoflop fit --form gamma."
        )


def _approaches(group: GroupFit) -> Iterator[str]:
    fit, isoflop, bias = group.fit, group.isoflop, group.parabola_bias
    for valley in isoflop.valleys:
        if valley.status != "ok":
            yield f"Budget {valley.flops:.2e} is left out of approach 2: {valley.advice}"
    interval = fit.intervals.values.get("exponent_N")
    law = isoflop.N
    if law is not None and interval is not None:
        low, high = law.exponent_interval or (law.exponent, law.exponent)
        exponents = (
            f"N* grows as C^{law.exponent:.3f} through the valleys and as "
            f"C^{fit.law.exponent_N:.3f} by the law"
        )
        apart = low > interval[1] or high < interval[0]
        if apart and law.exponent_interval is None:
            yield (
                f"Approach 2 rests on two budgets, too few for an interval: {exponents}. Add a "
                "third budget to compare them."
            )
        elif apart:
            yield f"Approaches 2 and 3 disagree: {exponents}, and their intervals do not meet."
    if bias is not None and abs(bias.exponent_N_parabola - bias.exponent_N_law) > _BENT:
        yield (
            "The grid bends the parabolas: on the law's own noise-free losses approach 2 gives "
            f"{bias.exponent_N_parabola:.3f} where the law has {bias.exponent_N_law:.3f}. Trust "
            "approach 3 here, or use narrower, centred grids."
        )


def _counts(group: GroupFit) -> Iterator[str]:
    ratio = flops_ratio(group.used)
    if ratio and max(abs(ratio[0] - 1), abs(ratio[1] - 1)) > FAR_FROM_6ND:
        low, high = (f"{r:.2f}" if 0.1 < r < 1000 else f"{r:.2g}" for r in ratio)
        yield (
            f"Counted FLOPs are {low} to {high} times 6·N·D, so N* at a budget "
            "depends on which of the two is meant."
        )
    for column in COUNTS:
        empty = (
            group.used.filter(pl.col(column).is_null()) if column in group.used.columns else None
        )
        if empty is not None and 0 < empty.height < group.used.height:
            yield f"{column} is empty in some rows, so no law counts N by it. {name_rows(empty)}."
    exponents = [c.exponent_N for c in group.conventions]
    if exponents and max(exponents) - min(exponents) > _BENT:
        yield (
            f"The count of N and C decides the answer: exponent_N runs from {min(exponents):.3f} "
            f"to {max(exponents):.3f} over the {len(exponents)} ways to count them that this "
            "table has (isoflop fit shows each)."
        )
    if group.fit.law.n_counts == "unknown":
        yield (
            "The table does not say what its N counts (embeddings, head). Say it with --map, for "
            "example --map n_params_total=COLUMN."
        )
